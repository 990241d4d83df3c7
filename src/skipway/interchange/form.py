"""What an export form is: whose names, which endings, which networks, and how the files are written.

A form holds a network where reading the names and shapes that it would get, as an import does, gives that network
again. So an export needs no tables of its own, and what it writes can be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skipway.interchange.mapping.alexnet_names import infer_alexnet
from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import source_shape
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.mapping.shapes import infer_stack
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.weights.bundle import Bundle

Arrays = Mapping[str, np.ndarray]
SchemeFor = Callable[[Spec], Scheme | None]

# What a network's frameworks take from elsewhere, or not at all: the rest of a spec must be that of the form's row.
FREE = ("name", "input_size", "preprocessing", "initialization", "weight_decay", "year", "paper", "source")


@dataclass(frozen=True)
class Form:
    """`rows` pairs the names that a form uses with the row of the catalog that these names are used for; a form that
    describes the network in its file has no rows, and `described` gives its names. `endings` mean the form by
    themselves, `named` only with its name. `scope` puts the network's bare name before every array's.

    `files` are those that a path stands for; `write` fills them with arrays in the order that `order` brings our keys
    into, and with what of the rest of a model file the form can say.
    """

    name: str
    rows: tuple[tuple[SchemeFor, str], ...]
    endings: tuple[str, ...]
    write: Callable[[Path, Bundle, Arrays], None]
    named: tuple[str, ...] = ()
    scope: bool = False
    files: Callable[[Path], tuple[Path, ...]] = lambda to: (to,)
    order: Callable[[Spec, list[Key]], list[Key]] = lambda spec, keys: keys  # noqa: ARG005
    described: SchemeFor | None = None

    def scheme(self, spec: Spec) -> Scheme | None:
        """The names for this network, or None where the form cannot hold it."""
        if isinstance(spec, ResNetV1Spec) and (spec.shortcut == "projection_all" or spec.carry != "identity"):
            return None  # experiments of the papers, which no names that we read tell from the network they change
        if self.described is not None:
            return self.described(spec)
        if isinstance(spec, StackSpec) and [block.name for block in spec.blocks] != _stage_names(spec):
            return None
        for scheme_for, name in self.rows:
            row = find_spec(name)
            scheme = scheme_for(spec) if type(row) is type(spec) else None
            if scheme is not None and _is_same(spec, _read_back(spec, scheme, row)):
                return scheme
        return None

    def takes(self, to: Path, form: str) -> bool:
        """Whether a path, with the form's name or without, means this form."""
        ending = ending_of(to)
        return (not form and ending in self.endings) or (form == self.name and ending in self.endings + self.named)

    def describe(self) -> str:
        """Name and endings: `hugging_face (.bin, with --form also .pth)`."""
        more = f"with --form {'also ' if self.endings else ''}{', '.join(self.named)}"
        return f"{self.name} ({', '.join([*self.endings, *([more] if self.named else [])])})"


def ending_of(to: Path) -> str:
    """A path's ending, `.ckpt` for TensorFlow's numbered prefixes: model.ckpt-1000."""
    ending = to.suffix.lower()
    return ".ckpt" if ending.startswith(".ckpt-") else ending


def _stage_names(spec: StackSpec) -> list[str]:
    return [f"stage{number}" for number in range(1, len(spec.blocks) + 1)]


def _read_back(spec: Spec, scheme: Scheme, row: Spec) -> Spec | None:
    """What an import makes of the names and shapes that this scheme gives the network."""
    keys = keys_of(spec)
    places = {key.name: scheme.place(key, spec) for key in keys}
    shapes = {place.source: source_shape(key.shape, place) for key in keys if (place := places[key.name]) is not None}
    if isinstance(row, StackSpec):
        return infer_stack(shapes, scheme, row)
    assert isinstance(row, AlexNetSpec)
    return infer_alexnet(shapes, scheme, row)


def _is_same(spec: Spec, found: Spec | None) -> bool:
    """Whether both are one network; pictures of another size count where the classifier does not depend on it."""
    if found is None or found.flattened(found.input_size) != spec.flattened(spec.input_size):
        return False
    return found.replaced({field: getattr(spec, field) for field in FREE}) == spec
