"""fp32 -> int8 for ONNX files: static ranges, from the user's pictures, and a scale for each output channel."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from skipway.errors import DataError
from skipway.inference.tracing import INPUT, quiet
from skipway.reporting import agreeing, counted

FEWEST = 32  # pictures; below, one odd picture decides the range of a layer
_AT_ONCE = 16


def quantize(plain: Path, to: Path, pictures: Sequence[Tensor]) -> None:
    """Write `plain` as `to` with its convolutions and matrix products in int8, by ONNX Runtime's static quantization.

    Activations are uint8 with one range a tensor, from the smallest to the largest value that the standardized
    `pictures` give; weights are int8 with a range for each output channel. Raises DataError for too few pictures.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    count = sum(len(batch) for batch in pictures)
    if count < FEWEST:
        few = f"{counted(count, 'picture')} {agreeing(count, 'is', 'are')} too few"
        raise DataError(f"{few} to calibrate int8 with; give {FEWEST} or more, better 256")
    with tempfile.TemporaryDirectory(prefix="skipway-int8-") as folder, quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(to),
            _Reader(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


class _Reader:
    """The pictures, some at a time, as the quantizer asks for them."""

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        parts: list[Tensor] = []
        for batch in pictures:
            parts += torch.split(batch, _AT_ONCE)
        self._parts = iter(parts)

    def get_next(self) -> dict[str, object] | None:
        """The next input, or None after the last."""
        part = next(self._parts, None)
        if part is None:
            return None
        array = part.contiguous().numpy()
        return {INPUT: array}
