"""The network that a prototxt describes, put to the weights beside it, which may be silent about its settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from skipway.errors import ModelFileError
from skipway.interchange.caffe import prototxt
from skipway.interchange.caffe.check import mismatches
from skipway.interchange.caffe.prototxt import LEARNING
from skipway.interchange.source import Layer, Notes, Source

_WITHOUT_GROUPS = ": group is 1, "  # as some published ones of AlexNet have it; the weights tell


def described(source: Source, text: Path | None) -> Source:
    """A source with the layers of the prototxt `text`, or of the one beside a caffemodel that has its name.

    `text` may describe a caffemodel or a `.npy` of caffe-tensorflow. Raises ModelFileError where it is for something
    else or disagrees with the weights; the file beside the caffemodel is not used then, which a warning says.
    """
    if text is not None:
        return _described(source, text)
    beside = source.path.with_suffix(".prototxt")
    if source.format != "caffemodel" or not beside.is_file():
        return source
    try:
        return _described(source, beside)
    except ModelFileError as error:
        return dataclasses.replace(source, warnings=(*source.warnings, f"{beside.name} beside it is not used: {error}"))


def _described(source: Source, text: Path) -> Source:
    if source.format not in {"caffemodel", "npy", "npz"}:
        raise ModelFileError(f"{source.path} is no file of Caffe, which a prototxt describes; leave --prototxt out")
    found = prototxt.read(text)
    odd = mismatches(found, source) if source.format == "caffemodel" else _unnamed(found, source)
    wrong = [line for line in odd if _WITHOUT_GROUPS not in line]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ModelFileError(
            f"{text} describes another network than {source.path.name} has weights for: {wrong[0]}{more}; "
            "give the prototxt of these weights, or none"
        )
    layers = tuple(dataclasses.replace(layer, arrays=_arrays(layer, source)) for layer in found.layers)
    warnings = [f"{text.name} leaves out groups, which the weights have: {line}" for line in odd if line not in wrong]
    notes: Notes = {**source.notes, "inputs": found.notes["inputs"], "prototxt": text.name}
    return dataclasses.replace(source, layers=layers, warnings=(*source.warnings, *warnings), notes=notes)


def _arrays(layer: Layer, source: Source) -> tuple[str, ...]:
    own = next((one.arrays for one in source.layers if one.name == layer.name and one.arrays), ())
    return own or tuple(name for name in source.arrays if name.rpartition("/")[0] == layer.name)


def _unnamed(found: Source, source: Source) -> list[str]:
    """Layers that only one of both has; a prototxt says nothing of how caffe-tensorflow's arrays lie."""
    learning = {layer.name for layer in found.layers if layer.kind in LEARNING}
    stored = {name.rpartition("/")[0] for name in source.arrays}
    return [
        *(f"{name}: the prototxt has no such layer" for name in sorted(stored - learning)),
        *(f"{name}: the file has no weights for it" for name in sorted(learning - stored)),
    ]
