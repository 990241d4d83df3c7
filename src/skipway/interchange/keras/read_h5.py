"""Keras .h5 files without Keras: weights or whole models of Keras 1, 2 and 3, in either of the two forms.

The older form has a group for each layer and lists of names in attributes; the newer one (`.weights.h5`) numbers the
variables below `layers/...`. Arrays are named `<layer>/<weight>` in both. They keep the layout of the file: kernels are
(height, width, in, out). In Keras 1 with `dim_ordering` "th" they are (out, in, height, width), which `notes` state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from skipway.errors import ModelFileError
from skipway.interchange.containers.hdf5 import Tree, has_signature, opened_tree
from skipway.interchange.containers.hdf5_data import Region
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.keras.config import Model, parse_config
from skipway.interchange.keras.names import is_keras_1, weight_parts
from skipway.interchange.keras.variables import CONTAINERS, read_numbered
from skipway.interchange.source import Array, Layer, Notes, WeightFile

FORMAT = "keras_h5"
PREPROCESSING = "skipway_preprocessing"  # how pictures are prepared, in whole models that we wrote
_TOP = "top_level_model_weights"


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file is HDF5. `head` is its first bytes. Only `read` finds out whether Keras wrote it."""
    return has_signature(head, path)


def read(path: Path) -> WeightFile:
    """Read the structure of a Keras .h5 file. Raises ModelFileError where it is damaged or of another program."""
    head = checked_head(path)
    if not looks_like(head, path):
        found = describe_foreign(head)
        raise ModelFileError(f"{path} is no HDF5 file but {found}")
    size = path.stat().st_size
    region = Region(path, 0, size)
    with opened_tree(region, path) as tree:
        return _source(tree)


def _source(tree: Tree) -> WeightFile:
    """What an open file holds."""
    root = tree.root
    model = config_of(tree, tree.text(root, "model_config"))
    weights = root
    if tree.has(root, "model_weights"):
        weights = tree.group(root, "model_weights")
    names = tree.texts(weights, "layer_names")
    if names is None:
        _check_numbered(tree, root, weights)
        arrays, owners, notes, warnings = read_numbered(tree, weights, model)
    else:
        arrays, owners, notes, warnings = _read_named(tree, weights, names, model)
    notes = {**notes, **_notes(tree, root, weights)}
    if model is not None:
        notes, warnings = {**model.notes, **notes, "model": model.name}, [*model.warnings, *warnings]
    if notes.get("backend") == "theano":
        warnings.append("written with Theano, which applies kernels turned by 180 degrees")
    layers = layers_with_arrays(model, owners)
    return WeightFile(FORMAT, tree.shown, MappingProxyType(arrays), layers, tuple(warnings), cast(Notes, notes))


def _check_numbered(tree: Tree, root: Any, weights: Any) -> None:
    """Raises ModelFileError where a file without names of layers does not number its weights, either."""
    for member in (*CONTAINERS, "vars"):
        if tree.has(weights, member):
            return
    writer = "something other than Keras"
    if tree.has_attribute(root, "nb_layers"):
        writer = "Keras before version 1"
    tree.fail(f"an HDF5 file of {writer}", "load it in the program that wrote it and save it with Keras 2")


def config_of(tree: Tree, text: str | None) -> Model | None:
    """The network that the JSON `text` of a file describes. None where there is no text. Raises ModelFileError."""
    if text is None:
        return None
    try:
        return parse_config(text)
    except ModelFileError as error:
        raise ModelFileError(f"{tree.shown}: {error}") from None


def layers_with_arrays(model: Model | None, owners: Mapping[str, list[str]]) -> tuple[Layer, ...]:
    """The layers of a model, each with the names of its arrays. `owners` are these names by layer."""
    if model is None:
        return ()
    layers = []
    for entry in model.layers:
        arrays = owners.get(entry.layer.name, [])
        layers.append(replace(entry.layer, arrays=tuple(arrays)))
    return tuple(layers)


def _notes(tree: Tree, root: Any, weights: Any) -> dict[str, Any]:
    """What the attributes of a file say of its writer and its training."""
    notes: dict[str, Any] = {}
    for key in ("keras_version", "backend"):
        stated = tree.text(weights, key) or tree.text(root, key)
        if stated:
            notes[key] = stated
    training = tree.text(root, "training_config")
    if training:
        try:
            notes["training"] = json.loads(training)
        except (ValueError, RecursionError):
            tree.fail("its training configuration is no JSON")
    if (stated := tree.text(root, PREPROCESSING)) is not None:
        try:
            notes[PREPROCESSING] = json.loads(stated)
        except (ValueError, RecursionError):
            tree.fail(f"its {PREPROCESSING} is no JSON")
    if tree.has(root, "optimizer_weights"):
        kept = tree.texts(tree.group(root, "optimizer_weights"), "weight_names")
        notes["optimizer_weights"] = len(kept or ())
    return notes


Read = tuple[dict[str, Array], dict[str, list[str]], dict[str, Any], list[str]]


def _read_named(tree: Tree, weights: Any, layer_names: list[str], model: Model | None) -> Read:
    """Read the form that names its weights: gives arrays by name, names of arrays by layer, notes, and warnings."""
    arrays: dict[str, Array] = {}
    owners: dict[str, list[str]] = {}
    notes: dict[str, Any] = {}
    warnings: list[str] = []
    namer = _Namer(model)
    groups = list(layer_names)
    if _TOP not in groups and tree.has(weights, _TOP):
        groups.append(_TOP)
    for layer in groups:
        group = tree.group(weights, layer)
        stored = tree.texts(group, "weight_names")
        if stored is None:
            tree.fail(f"the layer {layer[:80]!r} does not name its weights")
        if is_keras_1(stored):
            notes["keras_version"] = "1"
            if any(name.endswith(("running_std", "running_std:0")) for name in stored):
                notes["running_std"] = "variance"
        names = namer.names(layer, stored)
        for name, (owner, full) in zip(stored, names, strict=True):
            if full in arrays:
                tree.fail(f"two weights are named {full[:80]!r}")
            member = tree.member(group, name)
            arrays[full] = tree.array(member, full)
            owned = owners.setdefault(owner, [])
            owned.append(full)
    if "running_std" in notes:
        warnings.append(
            "the running_std of Keras 1 is read as a variance, as it is since spring 2016; earlier it was a deviation"
        )
    if notes.get("keras_version") == "1":
        notes["kernel_layout"] = _kernel_layout(arrays)
    return arrays, owners, notes, warnings


def _kernel_layout(arrays: Mapping[str, Array]) -> str:
    """The layout of Keras 1's kernels: "OIHW" or "HWIO", by which two axes are equal; "unknown" where both are."""
    first = last = 0
    for array in arrays.values():
        if len(array.shape) != 4:
            continue
        first_square = array.shape[0] == array.shape[1]
        last_square = array.shape[2] == array.shape[3]
        if first_square and not last_square:
            first += 1
        if last_square and not first_square:
            last += 1
    if last > first:
        return "OIHW"
    if first > 0:
        return "HWIO"
    return "unknown"


class _Namer:
    """Finds the layer of each stored weight, which a nested model keeps under its own name."""

    def __init__(self, model: Model | None) -> None:
        self._kinds: dict[str, str] = {}
        self._inner: dict[str, dict[str, str]] = {}  # for each nested model its layers' full names, by their last part
        layers = () if model is None else model.layers
        for entry in layers:
            name = entry.layer.name
            self._kinds[name] = entry.layer.kind
            outer = name.partition("/")[0]
            leaf = name.rpartition("/")[2]
            if outer != name and not entry.nested:
                inner = self._inner.setdefault(outer, {})
                inner.setdefault(leaf, name)

    def names(self, layer: str, stored: list[str]) -> list[tuple[str, str]]:
        """Owner and full name of each weight of a layer. Stored names are kept where full names would be equal."""
        if layer == _TOP:
            return [(layer, _top_name(name)) for name in stored]
        found = [self._name(layer, name, stored) for name in stored]
        full_names = {full for _, full in found}
        if len(full_names) != len(found):
            return [(layer, f"{layer}/{name}") for name in stored]
        return found

    def _name(self, layer: str, name: str, stored: list[str]) -> tuple[str, str]:
        """Owner and full name of the weight `name` of a layer whose weights are `stored`."""
        scopes, leaf = weight_parts(name)
        path = "/".join(scopes)
        if path == layer:
            scopes = ()
        elif path.startswith(f"{layer}/"):
            below = path.removeprefix(f"{layer}/")
            scopes = tuple(below.split("/"))
        owner = self._inner_layer(layer, scopes)
        if owner is not None:
            return owner, f"{owner}/{leaf}"
        kind = self._kinds.get(layer)
        if kind is None and _has_several_scopes(stored):
            # Nothing describes the layer, but it is a model: its weights belong to several layers.
            full = "/".join((layer, *scopes, leaf))
            return layer, full
        if kind == "DepthwiseConv2D" and leaf == "kernel":
            leaf = "depthwise_kernel"
        return layer, f"{layer}/{leaf}"

    def _inner_layer(self, model: str, scopes: tuple[str, ...]) -> str | None:
        """The full name of a layer of a nested model that one of the scopes names, the last scope first."""
        inner = self._inner.get(model, {})
        for scope in reversed(scopes):
            unnumbered = scope.rpartition("_")[0]
            for candidate in (scope, unnumbered):
                if candidate in inner:
                    return inner[candidate]
        return None


def _top_name(stored: str) -> str:
    """The full name of a weight that belongs to the model itself."""
    scopes, leaf = weight_parts(stored)
    return "/".join((_TOP, *scopes, leaf))


def _has_several_scopes(stored: list[str]) -> bool:
    """Whether stored weight names stand in several scopes."""
    scopes = {weight_parts(name)[0] for name in stored}
    return len(scopes) > 1
