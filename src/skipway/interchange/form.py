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
from skipway.interchange.mapping.table import namings_of_form
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.weights.bundle import Bundle

Arrays = Mapping[str, np.ndarray]

# What a network's frameworks take from elsewhere, or not at all: the rest of a spec must be that of the form's row.
FREE = ("name", "input_size", "preprocessing", "initialization", "weight_decay", "year", "paper", "source")


def _one_file(to: Path) -> tuple[Path, ...]:
    return (to,)


def _order_of_ours(spec: Spec, keys: list[Key]) -> list[Key]:  # noqa: ARG001 (all forms are asked alike)
    return keys


@dataclass(frozen=True)
class Form:
    """One way to write weights for another framework.

    Attributes:
        name: What `--form` calls it.
        endings: Endings of a path that mean this form by themselves.
        write: Writes the arrays, in order, and what else of the model file the form can say.
        named: Endings that mean this form only together with its name.
        scope: Whether the network's bare name stands before the name of every array.
        files: The files that a path stands for.
        order: Brings our keys into the order in which the arrays are written.
        describes: Gives the names where the file describes its network; other forms take theirs from the table.
    """

    name: str
    endings: tuple[str, ...]
    write: Callable[[Path, Bundle, Arrays], None]
    named: tuple[str, ...] = ()
    scope: bool = False
    files: Callable[[Path], tuple[Path, ...]] = _one_file
    order: Callable[[Spec, list[Key]], list[Key]] = _order_of_ours
    describes: Callable[[Spec], Scheme | None] | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of the catalog whose names the form uses; none where the file describes the network itself."""
        return tuple(naming.row for naming in namings_of_form(self.name))

    def scheme(self, spec: Spec) -> Scheme | None:
        """The names for this network, or None where the form cannot hold it."""
        if _is_experiment(spec):
            return None
        if self.describes is not None:
            return self.describes(spec)
        if isinstance(spec, StackSpec) and not _has_plain_stages(spec):
            return None
        for naming in namings_of_form(self.name):
            row = find_spec(naming.row)
            if type(row) is not type(spec):
                continue
            scheme = naming.scheme_for(spec)
            if scheme is None:
                continue
            read_back = _read_back(spec, scheme, row)
            if _is_same(spec, read_back):
                return scheme
        return None

    def takes(self, to: Path, form: str) -> bool:
        """Whether a path, with the form's name or without, means this form."""
        ending = ending_of(to)
        if not form:
            return ending in self.endings
        if form != self.name:
            return False
        return ending in self.endings + self.named

    def describe(self) -> str:
        """Name and endings: `hugging_face (.bin, with --form also .pth)`."""
        parts = list(self.endings)
        if self.named:
            endings = ", ".join(self.named)
            if self.endings:
                parts.append(f"with --form also {endings}")
            else:
                parts.append(f"with --form {endings}")
        return f"{self.name} ({', '.join(parts)})"


def ending_of(to: Path) -> str:
    """A path's ending, `.ckpt` for TensorFlow's numbered prefixes: model.ckpt-1000."""
    ending = to.suffix.lower()
    if ending.startswith(".ckpt-"):
        return ".ckpt"
    return ending


def _is_experiment(spec: Spec) -> bool:
    """Whether it is an experiment of the papers, whose names are those of the network that it changes."""
    if not isinstance(spec, ResNetV1Spec):
        return False
    if spec.shortcut == "projection_all":
        return True
    return spec.carry != "identity"


def _has_plain_stages(spec: StackSpec) -> bool:
    """Whether the stages are named `stage1`, `stage2` and so on."""
    for number, block in enumerate(spec.blocks, 1):
        if block.name != f"stage{number}":
            return False
    return True


def _read_back(spec: Spec, scheme: Scheme, row: Spec) -> Spec | None:
    """What an import makes of the names and shapes that this scheme gives the network."""
    shapes = {}
    for key in keys_of(spec):
        place = scheme.place(key, spec)
        if place is not None:
            shapes[place.source] = source_shape(key.shape, place)
    if isinstance(row, StackSpec):
        return infer_stack(shapes, scheme, row)
    assert isinstance(row, AlexNetSpec)
    return infer_alexnet(shapes, scheme, row)


def _is_same(spec: Spec, read_back: Spec | None) -> bool:
    """Whether both are one network; pictures of another size count where the classifier does not depend on it."""
    if read_back is None:
        return False
    features = spec.flattened(spec.input_size)
    features_read_back = read_back.flattened(read_back.input_size)
    if features_read_back != features:
        return False
    free_fields = {field: getattr(spec, field) for field in FREE}
    return read_back.replaced(free_fields) == spec
