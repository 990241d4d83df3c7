"""The writing of an ONNX file, and ONNX Runtime to run it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from skipway.errors import SkipwayError
from skipway.inference.tracing import INPUT, OUTPUT
from skipway.privacy import import_onnxruntime

Run = Callable[[Tensor], Tensor]

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 23  # the newest that torch.onnx writes on its own; later ones pass through a converter of versions

# Bytes of weights. A protobuf message ends at 2 GiB, and torch.onnx moves weights out of the file from 1.5 GiB on.
LARGEST = 1_500_000_000


def require_packages() -> None:
    """Raises SkipwayError, with the command that installs them, unless all that ONNX takes can be loaded."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SkipwayError(
                f"writing .onnx needs {name}, which cannot be loaded ({' '.join(str(error).split())}); "
                f"pip install {' '.join(PACKAGES)}"
            ) from None


def write(program: ExportedProgram, file: Path, metadata: dict[str, str], *, outside: bool) -> None:
    """Write a traced program with one input and one output; `outside` puts the weights into `<file>.data`.

    `metadata` goes into the model's properties, its `network` names the graph.
    """
    done = torch.onnx.export(
        program,
        (),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),  # a traced program has forgotten the axis's name
    )
    assert done is not None  # which only the older exporter returns
    done.model.graph.name = metadata["network"]
    done.model.metadata_props.update(metadata)
    done.save(file, external_data=outside)


def runner(file: Path) -> Run:
    """The file in ONNX Runtime, on the CPU, with as many threads as torch has."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(pictures: Tensor) -> Tensor:
        outputs = session.run([OUTPUT], {INPUT: pictures.numpy()})
        return torch.from_numpy(outputs[0])

    return run
