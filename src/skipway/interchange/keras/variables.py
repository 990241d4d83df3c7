"""The form in which Keras 3 (and `.keras` of 2.12 on) keeps weights: `layers/<class>_<number>/vars/<index>`.

Layers are told by their class and place, or by a `name` attribute that later versions add; variables by their index.
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

Read = tuple[dict[str, Array], dict[str, list[str]], dict[str, Any], list[str]]


@dataclass(frozen=True)
class _Place:
    """A group on the way: its path as a configuration gives it, the layer's name, what describes it."""

    group: Any
    path: str
    name: str
    kind: str
    described: Described | None


def read_numbered(tree: Tree, root: Any, model: Model | None) -> Read:
    """Arrays by name, names of arrays by layer, notes and warnings. Raises ModelFileError."""
    reader = _Reader(tree, model)
    reader.walk(_Place(root, "", "", model.kind if model is not None else "", None), 0)
    notes = dict(reader.notes)
    if reader.random:
        notes["random_state"] = tuple(reader.random)
    warnings = []
    if reader.unnamed:
        some = ", ".join(reader.unnamed[:3]) + (", ..." if len(reader.unnamed) > 3 else "")
        warnings.append(f"what the numbered weights of {some} are is not known; they keep their numbers")
    arrays, owners = reader.arrays, reader.owners
    if model is not None:
        order = {entry.layer.name: number for number, entry in enumerate(model.layers)}
        ranked = sorted(owners, key=lambda name: order.get(name, len(order)))
        arrays = {full: arrays[full] for name in ranked for full in owners[name]}
    return arrays, owners, notes, warnings


class _Reader:
    def __init__(self, tree: Tree, model: Model | None) -> None:
        self._tree = tree
        self._layers = () if model is None else model.layers
        self._by_group = {entry.group: entry for entry in self._layers}
        self._by_name = {entry.layer.name: entry for entry in self._layers}
        self._seen: set[int] = set()
        self.arrays: dict[str, Array] = {}
        self.owners: dict[str, list[str]] = {}
        self.notes: dict[str, Any] = {}
        self.random: list[str] = []
        self.unnamed: list[str] = []

    def walk(self, place: _Place, depth: int) -> None:
        """Collect the arrays of a layer or model and of all below it."""
        address = self._tree.address(place.group)
        if address in self._seen or depth > _MAX_DEPTH:
            self._tree.fail("its groups lead back to themselves or are nested beyond measure")
        self._seen.add(address)
        for key in sorted(self._tree.names(place.group), key=_natural):
            if depth == 0 and key in _STATE:
                self._note_state(key)
                continue
            member = self._tree.member(place.group, key)
            if key == "vars" and isinstance(member, h5py.Group):
                self._take(place, member)
            elif isinstance(member, h5py.Dataset):
                self._tree.fail(f"an array {key[:80]!r} stands where only groups should")
            elif key in CONTAINERS:
                self._walk_container(place, member, depth)
            else:
                below = _Place(member, f"{place.path}{key}/", _joined(place.name, key), kind_of_group(key), None)
                self.walk(below, depth + 1)

    def _walk_container(self, place: _Place, container: Any, depth: int) -> None:
        for key in sorted(self._tree.names(container), key=_natural):
            group = self._tree.group(container, key)
            own = self._own_name(group)
            path = f"{place.path}layers/{key}"
            described = self._by_name.get(_joined(place.name, own)) if own else self._by_group.get(path)
            if described is not None:
                name, kind, path = described.layer.name, described.layer.kind, described.group
            else:
                name, kind = _joined(place.name, own or key), kind_of_group(key)
            self.walk(_Place(group, f"{path}/", name, kind, described), depth + 1)

    def _own_name(self, group: Any) -> str:
        if not self._tree.has(group, "vars"):
            return ""
        return self._tree.text(self._tree.group(group, "vars"), "name") or ""

    def _take(self, place: _Place, group: Any) -> None:
        keys = sorted(self._tree.names(group), key=_natural)
        if not keys:
            return
        if place.path.rstrip("/").rpartition("/")[2] == _RANDOM:
            self.random.append(place.name)
            return
        config = place.described.layer.fields if place.described is not None else None
        names = variable_names(place.kind, config, len(keys)) if all(key.isdecimal() for key in keys) else None
        if names is None:
            names = tuple(keys)
            if all(key.isdecimal() for key in keys):
                self.unnamed.append(place.name or "the model")
        for key, weight in zip(keys, names, strict=True):
            full = _joined(place.name, weight)
            if full in self.arrays:
                self._tree.fail(f"two weights are named {full[:80]!r}")
            self.arrays[full] = self._tree.array(self._tree.member(group, key), full)
            self.owners.setdefault(place.name, []).append(full)

    def _note_state(self, key: str) -> None:
        self.notes["training_state"] = (*self.notes.get("training_state", ()), key)


def _joined(name: str, part: str) -> str:
    return f"{name}/{part}" if name else part


def _natural(key: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)_?(\d{1,9})?", key, re.DOTALL)
    assert found is not None  # the first part takes anything
    return found[1], int(found[2] or 0)
