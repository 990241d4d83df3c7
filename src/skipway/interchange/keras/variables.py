"""The form in which Keras 3 (and `.keras` of 2.12 on) keeps weights: `layers/<class>_<number>/vars/<index>`.

A layer is found by its class and place, or by a `name` attribute that later versions add; a variable by its index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import h5py

from skipway.interchange.containers.hdf5 import Tree
from skipway.interchange.keras.config import Described, Model
from skipway.interchange.keras.names import kind_of_group, variable_names
from skipway.interchange.source import Array

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_STATE = {"optimizer", "metrics", "loss_tracker", "compile_metrics", "compile_loss"}  # of training, beside the layers
_RANDOM = "seed_generator"
_MAX_DEPTH = 32
_SHOWN = 3  # names in a warning

Read = tuple[dict[str, Array], dict[str, list[str]], dict[str, Any], list[str]]


@dataclass(frozen=True)
class _Place:
    """A group of the file.

    - `group`: the group of the HDF5 library.
    - `path`: its path as a configuration gives it.
    - `name`: the name of the layer that it belongs to.
    - `kind`: the class of that layer.
    - `described`: what the configuration says of the layer. None where it says nothing.
    """

    group: Any
    path: str
    name: str
    kind: str
    described: Described | None


def read_numbered(tree: Tree, root: Any, model: Model | None) -> Read:
    """Read the weights below the group `root`, which `model` describes where the file has a configuration.

    Gives the arrays by name, the names of arrays by layer, notes, and warnings. Raises ModelFileError.
    """
    reader = _Reader(tree, model)
    kind = "" if model is None else model.kind
    top = _Place(root, "", "", kind, None)
    reader.walk(top, 0)
    notes = dict(reader.notes)
    if reader.random:
        notes["random_state"] = tuple(reader.random)
    warnings = []
    if reader.unnamed:
        some = ", ".join(reader.unnamed[:_SHOWN])
        if len(reader.unnamed) > _SHOWN:
            some += ", ..."
        warnings.append(f"what the numbered weights of {some} are is not known; they keep their numbers")
    arrays = reader.arrays
    if model is not None:
        arrays = _in_order_of_layers(reader, model)
    return arrays, reader.owners, notes, warnings


def _in_order_of_layers(reader: _Reader, model: Model) -> dict[str, Array]:
    """The arrays in the order of the layers of a configuration. Those of other layers come last."""
    order = {entry.layer.name: number for number, entry in enumerate(model.layers)}
    ranked = sorted(reader.owners, key=lambda name: order.get(name, len(order)))
    arrays = {}
    for name in ranked:
        for full in reader.owners[name]:
            arrays[full] = reader.arrays[full]
    return arrays


class _Reader:
    """Collects the arrays of a file.

    - `arrays`: the arrays by their full names.
    - `owners`: the names of arrays by layer.
    - `notes`: what else the file holds.
    - `random`: the names of layers that keep the state of a random generator.
    - `unnamed`: the names of layers whose weights keep their numbers.
    """

    def __init__(self, tree: Tree, model: Model | None) -> None:
        self._tree = tree
        layers = () if model is None else model.layers
        self._by_group = {entry.group: entry for entry in layers}
        self._by_name = {entry.layer.name: entry for entry in layers}
        self._seen: set[int] = set()
        self.arrays: dict[str, Array] = {}
        self.owners: dict[str, list[str]] = {}
        self.notes: dict[str, Any] = {}
        self.random: list[str] = []
        self.unnamed: list[str] = []

    def walk(self, place: _Place, depth: int) -> None:
        """Collect the arrays of a layer or model and of all below it. `depth` counts the groups above it."""
        address = self._tree.address(place.group)
        circular = address in self._seen
        if circular or depth > _MAX_DEPTH:
            self._tree.fail("its groups lead back to themselves or are nested beyond measure")
        self._seen.add(address)
        for key in self._keys(place.group):
            if depth == 0 and key in _STATE:
                before = self.notes.get("training_state", ())
                self.notes["training_state"] = (*before, key)
                continue
            self._walk_member(place, key, depth)

    def _walk_member(self, place: _Place, key: str, depth: int) -> None:
        """Collect the arrays of the member `key` of a group."""
        member = self._tree.member(place.group, key)
        if isinstance(member, h5py.Dataset):
            self._tree.fail(f"an array {key[:80]!r} stands where only groups should")
        if key == "vars":
            self._take(place, member)
        elif key in CONTAINERS:
            self._walk_container(place, member, depth)
        else:
            path = f"{place.path}{key}/"
            name = _joined(place.name, key)
            below = _Place(member, path, name, kind_of_group(key), None)
            self.walk(below, depth + 1)

    def _keys(self, group: Any) -> list[str]:
        """The names of a group's members, numbered ones in the order of their numbers."""
        names = self._tree.names(group)
        return sorted(names, key=_natural)

    def _walk_container(self, place: _Place, container: Any, depth: int) -> None:
        """Collect the arrays of all layers of the model at `place`."""
        for key in self._keys(container):
            group = self._tree.group(container, key)
            own_name = self._own_name(group)
            path = f"{place.path}layers/{key}"
            if own_name:
                described = self._by_name.get(_joined(place.name, own_name))
            else:
                described = self._by_group.get(path)
            if described is None:
                name = _joined(place.name, own_name or key)
                below = _Place(group, f"{path}/", name, kind_of_group(key), None)
            else:
                layer = described.layer
                below = _Place(group, f"{described.group}/", layer.name, layer.kind, described)
            self.walk(below, depth + 1)

    def _own_name(self, group: Any) -> str:
        """The name that a layer's group states. "" where it states none."""
        if not self._tree.has(group, "vars"):
            return ""
        variables = self._tree.group(group, "vars")
        return self._tree.text(variables, "name") or ""

    def _take(self, place: _Place, group: Any) -> None:
        """Collect the variables of one layer, the members of `group`."""
        keys = self._keys(group)
        if not keys:
            return
        leaf = place.path.rstrip("/").rpartition("/")[2]
        if leaf == _RANDOM:
            self.random.append(place.name)
            return
        weights = self._weight_names(place, keys)
        for key, weight in zip(keys, weights, strict=True):
            full = _joined(place.name, weight)
            if full in self.arrays:
                self._tree.fail(f"two weights are named {full[:80]!r}")
            member = self._tree.member(group, key)
            self.arrays[full] = self._tree.array(member, full)
            names = self.owners.setdefault(place.name, [])
            names.append(full)

    def _weight_names(self, place: _Place, keys: list[str]) -> tuple[str, ...]:
        """The names of a layer's variables, which `keys` number. They keep their numbers where no names are known."""
        numbered = all(key.isdecimal() for key in keys)
        if not numbered:
            return tuple(keys)
        config = None
        if place.described is not None:
            config = place.described.layer.fields
        names = variable_names(place.kind, config, len(keys))
        if names is None:
            self.unnamed.append(place.name or "the model")
            return tuple(keys)
        return names


def _joined(name: str, part: str) -> str:
    """The full name of a part of a layer or model; `name` is "" at the top."""
    if not name:
        return part
    return f"{name}/{part}"


def _natural(key: str) -> tuple[str, int]:
    """A name without its number, and the number: names are sorted by it as by a number, `conv_2` before `conv_10`."""
    found = re.fullmatch(r"(.*?)_?(\d{1,9})?", key, re.DOTALL)
    assert found is not None  # the first part takes anything
    number = found[2] or 0
    return found[1], int(number)
