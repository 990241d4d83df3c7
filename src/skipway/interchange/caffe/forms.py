"""The form in which weights are exported for Caffe: a caffemodel, and the prototxt that describes its network."""

from __future__ import annotations

from pathlib import Path

from skipway.interchange.caffe import write
from skipway.interchange.caffe.layers import DATA, layers_of
from skipway.interchange.form import Arrays, Form
from skipway.weights.bundle import Bundle


def _write(to: Path, model: Bundle, arrays: Arrays) -> None:
    spec = model.spec
    layers = layers_of(spec, arrays)
    inputs = {DATA: (1, spec.in_channels, spec.input_size, spec.input_size)}
    write.write(to, arrays, layers, name=spec.name, inputs=inputs)
    write.write_prototxt(to.with_suffix(".prototxt"), layers, name=spec.name, inputs=inputs)


def _with_prototxt(to: Path) -> tuple[Path, ...]:
    return to, to.with_suffix(".prototxt")


FORMS = (Form("caffe", (".caffemodel",), _write, files=_with_prototxt),)
