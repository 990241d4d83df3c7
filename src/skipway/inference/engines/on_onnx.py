"""The engines that run an ONNX file: ONNX Runtime and OpenVINO, in fp32, bf16 or int8."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipway.errors import SkipwayError
from skipway.files import write_whole
from skipway.inference.engines.base import Engine, EngineError, Work
from skipway.inference.engines.quantization import quantize
from skipway.inference.onnx_file import runner, write
from skipway.inference.tracing import Graph, quiet, traced
from skipway.models.network import Network


def open_onnxruntime(work: Work) -> Engine:
    """ONNX Runtime on the CPU."""
    return Engine("onnxruntime", work.precision, runner(_file(work)))


def open_openvino(work: Work) -> Engine:
    """OpenVINO on the CPU."""
    import openvino

    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if work.precision == "bf16" and "BF16" not in able:
        raise EngineError("this CPU has no bf16 arithmetic that OpenVINO can use; give --precision fp32")
    model = core.read_model(str(_file(work)))
    spec = work.network.spec
    # Of a size that is known, OpenVINO makes a program that is some percent faster.
    model.reshape([work.batch_size, spec.in_channels, spec.input_size, spec.input_size])
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if work.precision == "bf16" else "f32",
        "CACHE_DIR": str(work.cache.path(f"openvino-{openvino.__version__.partition('-')[0]}")),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(pictures: Tensor) -> Tensor:
        answers = request.infer({0: _array(pictures)}, share_inputs=True, share_outputs=True)
        # Copied: the next call writes its answers into the same memory.
        return torch.from_numpy(np.array(answers[0]))

    return Engine("openvino", work.precision, run, work.batch_size)


def _array(pictures: Tensor) -> np.ndarray:
    return np.ascontiguousarray(pictures.float().numpy())


def _file(work: Work) -> Path:
    """The network as ONNX, from the cache or written into it; int8 where the work is."""
    version = importlib.metadata.version("onnx")
    plain = work.cache.path(f"network-{version}.onnx")
    if not _is_whole(plain):
        _write(work.network, plain)
    if work.precision != "int8":
        return plain
    small = work.cache.path(f"network-{version}-int8.onnx")
    if work.calibration or not _is_whole(small):
        if not work.calibration:
            raise SkipwayError(
                "int8 takes its ranges from pictures like those to come; give some with --calibrate DATA"
            )
        quantize(plain, small, work.calibration)
    return small


def _write(network: Network, to: Path) -> None:
    spec = network.spec
    example = torch.zeros(2, spec.in_channels, spec.input_size, spec.input_size)
    with quiet():
        program = traced(Graph(network, None), example)
        write_whole(to, lambda temporary: write(program, temporary, {"network": spec.name}, outside=False))


def _is_whole(file: Path) -> bool:
    """Whether the file is there and can be read: a damaged one is made again."""
    import onnx

    if not file.is_file():
        return False
    try:
        onnx.checker.check_model(onnx.load(str(file)))
    except Exception:  # of protobuf, onnx and the disk, which share no base
        file.unlink(missing_ok=True)
        return False
    return True
