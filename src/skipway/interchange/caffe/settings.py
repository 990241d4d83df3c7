"""Weights together with the network that a prototxt describes: their own file may lack its settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skipway.errors import ModelFileError
from skipway.interchange.caffe import prototxt
from skipway.interchange.caffe.check import mismatches
from skipway.interchange.caffe.prototxt import LEARNING
from skipway.interchange.source import Layer, Notes, WeightFile

# In a line of `mismatches`: the prototxt leaves out the groups, as some published prototxts of AlexNet do.
_WITHOUT_GROUPS = ": group is 1, "
_DESCRIBED_FORMATS = {"caffemodel", "npy", "npz"}


def described(source: WeightFile, text: Path | None) -> WeightFile:
    """A source with the layers of the prototxt `text`, or of the one beside a caffemodel that has its name.

    `text` may describe a caffemodel or a `.npy` of caffe-tensorflow. Raises ModelFileError where it is for something
    else or disagrees with the weights. A file beside the caffemodel that does so is not used, and a warning says so.
    """
    if text is not None:
        return _described(source, text)
    beside = source.path.with_suffix(".prototxt")
    if source.format != "caffemodel" or not beside.is_file():
        return source
    try:
        return _described(source, beside)
    except ModelFileError as error:
        warning = f"{beside.name} beside it is not used: {error}"
        return dataclasses.replace(source, warnings=(*source.warnings, warning))


def _described(source: WeightFile, text: Path) -> WeightFile:
    """As `described`, with a prototxt that is there."""
    if source.format not in _DESCRIBED_FORMATS:
        raise ModelFileError(f"{source.path} is no file of Caffe, which a prototxt describes; leave --prototxt out")
    found = prototxt.read(text)
    if source.format == "caffemodel":
        differences = list(mismatches(found, source))
    else:
        differences = _missing_layers(found, source)
    warnings = list(source.warnings)
    wrong = []
    for line in differences:
        if _WITHOUT_GROUPS in line:
            warnings.append(f"{text.name} leaves out groups, which the weights have: {line}")
        else:
            wrong.append(line)
    if wrong:
        more = ""
        if len(wrong) > 1:
            more = f" (and {len(wrong) - 1} more)"
        raise ModelFileError(
            f"{text} describes another network than {source.path.name} has weights for: {wrong[0]}{more}; "
            "give the prototxt of these weights, or none"
        )
    layers = []
    for layer in found.layers:
        arrays = _arrays(layer, source)
        with_arrays = dataclasses.replace(layer, arrays=arrays)
        layers.append(with_arrays)
    notes: Notes = {**source.notes, "inputs": found.notes["inputs"], "prototxt": text.name}
    return dataclasses.replace(source, layers=tuple(layers), warnings=tuple(warnings), notes=notes)


def _arrays(layer: Layer, source: WeightFile) -> tuple[str, ...]:
    """The names of a layer's arrays: those of the source's layer of that name, or else those named after the layer."""
    for stored in source.layers:
        if stored.name == layer.name and stored.arrays:
            return stored.arrays
    named = [name for name in source.arrays if _layer_name(name) == layer.name]
    return tuple(named)


def _layer_name(array: str) -> str:
    """The layer of an array that is called `<layer>/<index>`."""
    layer, _, _ = array.rpartition("/")
    return layer


def _missing_layers(found: WeightFile, source: WeightFile) -> list[str]:
    """One line for each layer that only the prototxt or only the arrays of caffe-tensorflow have.

    Their shapes are not compared: a prototxt does not say how caffe-tensorflow lays out its arrays.
    """
    learning = {layer.name for layer in found.layers if layer.kind in LEARNING}
    stored = {_layer_name(array) for array in source.arrays}
    lines = []
    for name in sorted(stored - learning):
        lines.append(f"{name}: the prototxt has no such layer")
    for name in sorted(learning - stored):
        lines.append(f"{name}: the file has no weights for it")
    return lines
