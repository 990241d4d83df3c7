"""A model file becomes a graph that runs without skipway: ONNX, or the program of torch.export.

Resizing and cropping stay outside: no operator of either form samples as Pillow does, and a kernel that differs costs
accuracy without a word. What follows them, from counts to the network's input, can be part of the graph.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipway.data.preprocessing import Preprocessing, picture_values
from skipway.errors import ModelFileError, RunError
from skipway.files import write_whole
from skipway.inference import onnx_file
from skipway.inference.onnx_file import Run
from skipway.inference.tracing import INPUT, OUTPUT, TracedNetwork, quiet, traced
from skipway.models.network import Network
from skipway.reporting import table
from skipway.version import __version__
from skipway.weights.bundle import Bundle
from skipway.weights.varied import varied_pictures

LIMIT = 1e-4  # fp32: another order of summation moves logits by some 1e-6 of the largest


@dataclass(frozen=True)
class ExportedGraph:
    """What an export did.

    Attributes:
        model: Name of the network.
        form: `onnx` or `pt2`.
        opset: Version of ONNX's operators; None for a form without one.
        output_shape: Shape of the logits of one picture.
        difference: The largest difference from the network's own logits, as a share of the largest logit.
        files: The files that were written.
        preprocessing: How pictures are prepared.
        with_preprocessing: Whether the graph takes counts: then only the resizing and cropping are left to the caller.
    """

    model: str
    form: str
    opset: int | None
    output_shape: tuple[int, ...]
    difference: float
    files: tuple[Path, ...]
    preprocessing: Preprocessing
    with_preprocessing: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rule = self.preprocessing
        kind = "float32"
        if self.with_preprocessing and not rule.floating:
            kind = "uint8"
        pictures = picture_values(rule)
        pictures["inside"] = self.with_preprocessing
        return {
            "model": self.model,
            "form": self.form,
            "opset": self.opset,
            "input": {"name": INPUT, "type": kind, "shape": ["batch", rule.depth, rule.size, rule.size]},
            "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", *self.output_shape]},
            "difference": self.difference,
            "files": [str(file) for file in self.files],
            "pictures": pictures,
        }

    def describe(self) -> str:
        """The same as text."""
        values = self.to_dict()
        graph = f"torch.export of torch {torch.__version__}"
        if self.opset:
            graph = f"ONNX, opset {self.opset}"
        runner = "the file, read again,"
        if self.form == "onnx":
            runner = "ONNX Runtime"
        accuracy = "bit for bit"
        if self.difference:
            accuracy = f"up to {self.difference:.1e} of the largest logit"
        rows = [
            ("network", f"{self.model}, as a graph: {graph}"),
            ("input", _describe_tensor(values["input"])),
            ("output", _describe_tensor(values["output"])),
            ("checked", f"{runner} answers as the network does, {accuracy}"),
            ("pictures", self._describe_pictures()),
        ]
        for file in self.files:
            rows.append(("file", str(file)))
        return table((), rows, width=0)  # a path in two lines could not be copied

    def _describe_pictures(self) -> str:
        """How the graph must be given pictures."""
        rule = self.preprocessing
        if self.with_preprocessing:
            colours = "grey" if rule.depth == 1 else "RGB"
            return f"{rule.size} pixels a side, {colours} counts from 0 to 255; all but the resizing is in the graph"
        return (
            f"{rule.size} pixels a side, {rule.channels}, counts times {rule.scale:.4g}, minus {rule.mean}, "
            f"over {rule.std}, which the file says but leaves to the caller"
        )


def _describe_tensor(facts: dict[str, Any]) -> str:
    """Name, type and shape of an input or output: `pictures, uint8 (batch, 3, 224, 224)`."""
    shape = ", ".join(str(size) for size in facts["shape"])
    return f"{facts['name']}, {facts['type']} ({shape})"


def export_graph(
    bundle: Bundle, to: Path, *, with_preprocessing: bool = False, overwrite: bool = False
) -> ExportedGraph:
    """Write a model as a graph, `to` ending in .onnx or .pt2, for batches of any size of pictures of the model's size.

    The graph takes standardized fp32 pictures (N, C, size, size), or, `with_preprocessing`, counts in RGB order as
    `Preprocessing.pixels` gives them: uint8, or fp32 where the resizing keeps fractions. It is run on varied pictures,
    alone and by threes, before `to` appears; labels and preprocessing go with it. Weights of more than 1.5 GB stand
    beside an ONNX file, in `<to>.data`.

    Raises ModelFileError for another ending, for a model without a classifier, for a mean image that would be left
    outside, and where the graph's logits are off by more than `LIMIT`, RunError where a file exists already (unless
    `overwrite`), SkipwayError where a package is missing, and StorageError.
    """
    form = to.suffix.lower().removeprefix(".")
    _require_possible(bundle, to, form, with_preprocessing=with_preprocessing)
    files = _files(bundle, to, form)
    for file in files:
        if file.exists() and not overwrite:
            raise RunError(f"{file} exists already; give another path, or --overwrite")
    if form == "onnx":
        onnx_file.require_packages()
    network = bundle.network()
    rule = bundle.preprocessing
    inputs, logits = _reference(network, rule, with_preprocessing=with_preprocessing)
    if not logits.isfinite().all():
        raise ModelFileError(f"{bundle.spec.name} gives logits that are no numbers; train or import it again")
    difference = float("nan")

    def write(temporary: Path) -> None:
        nonlocal difference
        # An ONNX file names its data file, which therefore must be called by its last name from the start.
        with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as folder:
            staged = [Path(folder) / file.name for file in files]
            with quiet():
                graph = TracedNetwork(network, rule if with_preprocessing else None)
                example = inputs[:2].clone()  # a file keeps the example, and of a slice all that it was cut from
                run = _WRITERS[form](graph, example, staged, _metadata(bundle))
                difference = _difference(run, inputs, logits)
            is_close = difference <= LIMIT  # not for NaN
            if not is_close:
                raise ModelFileError(
                    f"{to}: the graph's logits differ from the network's by {difference:.1e} of the largest, and "
                    f"nothing was written; install other versions of torch and {', '.join(onnx_file.PACKAGES)}"
                )
            for file, data in zip(files[1:], staged[1:], strict=True):
                write_whole(file, data.replace)
            staged[0].replace(temporary)

    write_whole(to, write)
    opset = onnx_file.OPSET if form == "onnx" else None
    shape = tuple(logits.shape[1:])
    return ExportedGraph(bundle.spec.name, form, opset, shape, difference, files, rule, with_preprocessing)


def _require_possible(bundle: Bundle, to: Path, form: str, *, with_preprocessing: bool) -> None:
    """Raises ModelFileError for an ending that is no graph's, and for a model that cannot be written as a graph."""
    if form not in _WRITERS:
        raise ModelFileError(f"{to} does not end as a graph does; call it {to.stem}.onnx or {to.stem}.pt2")
    if not bundle.labels:
        raise ModelFileError(f"{bundle.spec.name} has no classifier, hence no logits; export a model with classes")
    has_mean_image = bundle.preprocessing.mean_image is not None
    if has_mean_image and not with_preprocessing:
        raise ModelFileError(f"{to} cannot tell its caller of a mean image; put it inside: --with-preprocessing")


def _files(bundle: Bundle, to: Path, form: str) -> tuple[Path, ...]:
    """The file, and for a large ONNX file the one of its weights."""
    size = 0
    for tensor in bundle.tensors.values():
        size += tensor.numel() * tensor.element_size()
    if form == "onnx" and size > onnx_file.LARGEST:
        return to, to.with_name(f"{to.name}.data")
    return (to,)


def _write_onnx(graph: TracedNetwork, example: Tensor, files: Sequence[Path], metadata: dict[str, str]) -> Run:
    program = traced(graph, example)
    weights_apart = len(files) > 1
    onnx_file.write(program, files[0], metadata, outside=weights_apart)
    return onnx_file.runner(files[0])


def _write_pt2(graph: TracedNetwork, example: Tensor, files: Sequence[Path], metadata: dict[str, str]) -> Run:
    program = traced(graph, example)
    with files[0].open("wb") as opened:  # torch would put the file's name inside, and take no .PT2
        torch.export.save(program, opened, extra_files=metadata)
    with files[0].open("rb") as opened:
        return torch.export.load(opened).module()


_WRITERS = {"onnx": _write_onnx, "pt2": _write_pt2}
ENDINGS = tuple(f".{form}" for form in _WRITERS)


def _metadata(bundle: Bundle) -> dict[str, str]:
    """What a caller needs beside the graph."""
    return {
        "network": bundle.spec.name,
        "labels": json.dumps(bundle.labels),
        "preprocessing": json.dumps(bundle.preprocessing.to_dict()),
        "skipway_version": __version__,
    }


def _reference(network: Network, rule: Preprocessing, *, with_preprocessing: bool) -> tuple[Tensor, Tensor]:
    """The graph's input for 13 pictures, the last of them random counts, and the network's own logits."""
    pictures = [rule.pixels(picture) for picture in varied_pictures(rule)]
    counts = torch.stack(pictures)
    generator = torch.Generator().manual_seed(0)
    random_counts = torch.randint(256, counts[:1].shape, generator=generator, dtype=torch.uint8)
    counts = torch.cat([counts, random_counts])
    standardized = rule.standardized(counts)
    logits = _by_batches(network, standardized)
    if with_preprocessing:
        return counts, logits
    return standardized, logits


def _by_batches(run: Run, pictures: Tensor) -> Tensor:
    """Logits of the first picture alone, and of the others by threes."""
    with torch.inference_mode():
        logits = [run(pictures[:1])]
        for batch in torch.split(pictures[1:], 3):
            logits.append(run(batch))
        return torch.cat(logits)


def _difference(run: Run, inputs: Tensor, expected: Tensor) -> float:
    """The largest difference between the graph's logits and those expected, as a share of the largest logit."""
    logits = _by_batches(run, inputs)
    if logits.shape != expected.shape:
        return float("inf")
    largest = expected.abs().max()
    difference = (logits - expected).abs().max()
    return float(difference / (largest or 1.0))
