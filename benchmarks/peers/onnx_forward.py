"""ONNX Runtime or OpenVINO on a file of torch.onnx.export, with their own defaults but for the number of threads."""

from __future__ import annotations

from typing import Any

from pictures import answers, pictures
from worker import Ready, Run, serve, timed

from skipway.privacy import import_onnxruntime, import_openvino


def set_up(settings: dict[str, Any]) -> Ready:
    batch = pictures(settings)
    opened = {"onnxruntime": _onnxruntime, "openvino": _openvino}[settings["library"]]
    call, version = opened(settings["model"], settings["threads"])
    return Ready(_timed(call, batch), {"answers": answers(call(batch)), "versions": {settings["library"]: version}})


def _timed(call: Any, batch: Any) -> Run:
    return timed(lambda: call(batch))


def _onnxruntime(file: str, threads: int) -> tuple[Any, str]:
    onnxruntime = import_onnxruntime()
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, chosen, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return (lambda batch: session.run(None, {name: batch})[0]), onnxruntime.__version__


def _openvino(file: str, threads: int) -> tuple[Any, str]:
    openvino = import_openvino()
    # Without the hint, OpenVINO would compute in bf16 on processors that can.
    told = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    program = openvino.Core().compile_model(file, "CPU", told)
    return (lambda batch: program(batch)[0]), openvino.__version__.partition("-")[0]


if __name__ == "__main__":
    serve(set_up)
