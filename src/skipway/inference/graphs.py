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
from skipway.inference.tracing import INPUT, OUTPUT, Graph, quiet, traced
from skipway.models.network import Network
from skipway.reporting import joined_lines
from skipway.version import __version__
from skipway.weights.bundle import Bundle
from skipway.weights.varied import varied_pictures

LIMIT = 1e-4  # fp32: another order of summation moves logits by some 1e-6 of the largest


@dataclass(frozen=True)
class ExportedGraph:
    """What an export did. `difference` is the largest from the network's own logits, as a share of the largest logit.

    `opset` is None for a form without one. `with_preprocessing` says whether the graph takes counts, so that
    `preprocessing` is left to the caller only as far as it concerns size.
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
        kind = "uint8" if self.with_preprocessing and not rule.floating else "float32"
        return {
            "model": self.model,
            "form": self.form,
            "opset": self.opset,
            "input": {"name": INPUT, "type": kind, "shape": ["batch", rule.depth, rule.size, rule.size]},
            "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", *self.output_shape]},
            "difference": self.difference,
            "files": [str(file) for file in self.files],
            "pictures": picture_values(rule) | {"inside": self.with_preprocessing},
        }

    def describe(self) -> str:
        """The same as text."""
        rule, values = self.preprocessing, self.to_dict()
        graph = f"ONNX, opset {self.opset}" if self.opset else f"torch.export of torch {torch.__version__}"
        runner = "ONNX Runtime" if self.form == "onnx" else "the file, read again,"
        apart = f"up to {self.difference:.1e} of the largest logit" if self.difference else "bit for bit"
        inside = (
            f"{rule.size} pixels a side, {'grey' if rule.depth == 1 else 'RGB'} counts from 0 to 255; all but the "
            "resizing is in the graph"
        )
        outside = (
            f"{rule.size} pixels a side, {rule.channels}, counts times {rule.scale:.4g}, minus {rule.mean}, "
            f"over {rule.std}, which the file tells but leaves to the caller"
        )
        lines = [
            f"network   {self.model}, as a graph: {graph}",
            *(
                f"{end:<9} {values[end]['name']}, {values[end]['type']} ({', '.join(map(str, values[end]['shape']))})"
                for end in ("input", "output")
            ),
            f"checked   {runner} answers as the network does, {apart}",
            f"pictures  {inside if self.with_preprocessing else outside}",
            *(f"file      {file}" for file in self.files),
        ]
        return joined_lines(lines)


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
    if form not in _WRITERS:
        raise ModelFileError(f"{to} does not end as a graph does; call it {to.stem}.onnx or {to.stem}.pt2")
    if not bundle.labels:
        raise ModelFileError(f"{bundle.spec.name} has no classifier, hence no logits; export a model with classes")
    if bundle.preprocessing.mean_image is not None and not with_preprocessing:
        raise ModelFileError(f"{to} cannot tell its caller of a mean image; put it inside: --with-preprocessing")
    files = _files(bundle, to, form)
    for file in files:
        if file.exists() and not overwrite:
            raise RunError(f"{file} exists already; give another path, or --overwrite")
    if form == "onnx":
        onnx_file.require_packages()
    network, rule = bundle.network(), bundle.preprocessing
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
                graph = Graph(network, rule if with_preprocessing else None)
                # Cloned: a file keeps the example, and of a slice all that it was cut from.
                run = _WRITERS[form](graph, inputs[:2].clone(), staged, _metadata(bundle))
                difference = _difference(run, inputs, logits)
            if not difference <= LIMIT:  # nor NaN
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


def _files(bundle: Bundle, to: Path, form: str) -> tuple[Path, ...]:
    size = sum(tensor.numel() * tensor.element_size() for tensor in bundle.tensors.values())
    return (to, to.with_name(f"{to.name}.data")) if form == "onnx" and size > onnx_file.LARGEST else (to,)


def _write_onnx(graph: Graph, example: Tensor, files: Sequence[Path], metadata: dict[str, str]) -> Run:
    onnx_file.write(traced(graph, example), files[0], metadata, outside=len(files) > 1)
    return onnx_file.runner(files[0])


def _write_pt2(graph: Graph, example: Tensor, files: Sequence[Path], metadata: dict[str, str]) -> Run:
    with files[0].open("wb") as opened:  # torch would put the file's name inside, and take no .PT2
        torch.export.save(traced(graph, example), opened, extra_files=metadata)
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
    counts = torch.stack([rule.pixels(picture) for picture in varied_pictures(rule)])
    dice = torch.Generator().manual_seed(0)
    counts = torch.cat([counts, torch.randint(256, counts[:1].shape, generator=dice, dtype=torch.uint8)])
    standardized = rule.standardized(counts)
    return counts if with_preprocessing else standardized, _by_batches(network, standardized)


def _by_batches(run: Run, pictures: Tensor) -> Tensor:
    """Logits of the first picture alone, and of the others by threes."""
    with torch.inference_mode():
        return torch.cat([run(pictures[:1]), *(run(batch) for batch in torch.split(pictures[1:], 3))])


def _difference(run: Run, inputs: Tensor, logits: Tensor) -> float:
    found = _by_batches(run, inputs)
    if found.shape != logits.shape:
        return float("inf")
    return float((found - logits).abs().max() / (logits.abs().max() or 1.0))
