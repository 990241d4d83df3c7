"""The engines that run an ONNX file: ONNX Runtime and OpenVINO, in fp32, bf16 or int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipway.errors import SkipwayError
from skipway.inference.engines.base import Engine, EngineError, Work
from skipway.inference.engines.quantization import quantize
from skipway.inference.onnx_file import runner, write
from skipway.inference.tracing import TracedNetwork, quiet, traced
from skipway.privacy import import_openvino

_PLAIN, _INT8 = "network.onnx", "network-int8.onnx"


def open_onnxruntime(work: Work) -> Engine:
    """ONNX Runtime on the CPU."""
    return Engine("onnxruntime", work.precision, runner(_file(work)))


def open_openvino(work: Work) -> Engine:
    """OpenVINO on the CPU."""
    openvino = import_openvino()
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
    }
    with work.cache.tree("openvino") as folder:
        settings["CACHE_DIR"] = str(folder)
        program = core.compile_model(model, "CPU", settings)
        request = program.create_infer_request()

    def run(pictures: Tensor) -> Tensor:
        array = np.ascontiguousarray(pictures.float().numpy())
        answers = request.infer({0: array}, share_inputs=True, share_outputs=True)
        logits = np.array(answers[0])  # a copy: the next call writes its answers into the same memory
        return torch.from_numpy(logits)

    return Engine("openvino", work.precision, run, work.batch_size)


def _file(work: Work) -> Path:
    """The network as ONNX, from the cache or written into it; int8 where the work is."""
    if work.precision == "int8":
        return _quantized(work)
    return _plain(work)


def _plain(work: Work) -> Path:
    """The network as ONNX in fp32, from the cache or written into it."""
    kept = work.cache.file(_PLAIN)
    if kept is not None:
        return kept
    spec = work.network.spec
    example = torch.zeros(2, spec.in_channels, spec.input_size, spec.input_size)
    with quiet():
        program = traced(TracedNetwork(work.network, None), example)
        metadata = {"network": spec.name}
        return work.cache.keep(_PLAIN, lambda to: write(program, to, metadata, outside=False))


def _quantized(work: Work) -> Path:
    """The network as ONNX in int8: made anew from calibration pictures, or else from the cache.

    Raises SkipwayError where there is neither.
    """
    if work.calibration:
        plain = _plain(work)
        return work.cache.keep(_INT8, lambda to: quantize(plain, to, work.calibration))
    kept = work.cache.file(_INT8)
    if kept is None:
        raise SkipwayError("int8 takes its ranges from pictures like those to come; give some with --calibrate DATA")
    return kept
