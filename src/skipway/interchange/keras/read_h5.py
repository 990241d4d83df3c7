"""Keras .h5 files without Keras: weights or whole models of Keras 1, 2 and 3, in either of the two forms.

The older form has a group for each layer and lists of names in attributes; the newer one (`.weights.h5`) numbers the
variables below `layers/...`. Arrays are named `<layer>/<weight>` in both; they keep the layout of the file: kernels are
(height, width, in, out), but in Keras 1 with `dim_ordering` "th" (out, in, height, width), which `notes` tell.
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
from skipway.interchange.source import Array, Layer, Notes, Source

FORMAT = "keras_h5"
PREPROCESSING = "skipway_preprocessing"  # how pictures are prepared, in whole models that we wrote
_TOP = "top_level_model_weights"


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file is HDF5, by its first bytes; that it is of Keras, only `read` can tell."""
    return has_signature(head, path)


def read(path: Path) -> Source:
    """Read the structure of a Keras .h5 file. Raises ModelFileError."""
    head = checked_head(path)
    if not looks_like(head, path):
        raise ModelFileError(f"{path} is no HDF5 file but {describe_foreign(head)}")
    with opened_tree(Region(path, 0, path.stat().st_size), path) as tree:
        return _source(tree)


def _source(tree: Tree) -> Source:
    root = tree.root
    model = config_of(tree, tree.text(root, "model_config"))
    weights = tree.group(root, "model_weights") if tree.has(root, "model_weights") else root
    names = tree.texts(weights, "layer_names")
    if names is None:
        numbered = [name for name in CONTAINERS if tree.has(weights, name)]
        if not numbered and not tree.has(weights, "vars"):
            told = "Keras before version 1" if tree.has_attribute(root, "nb_layers") else "something other than Keras"
            tree.fail(f"an HDF5 file of {told}", "load it in the program that wrote it and save it with Keras 2")
        arrays, owners, notes, warnings = read_numbered(tree, weights, model)
    else:
        arrays, owners, notes, warnings = _read_named(tree, weights, names, model)
    notes = {**notes, **_notes(tree, root, weights)}
    if model is not None:
        notes, warnings = {**model.notes, **notes, "model": model.name}, [*model.warnings, *warnings]
    if notes.get("backend") == "theano":
        warnings.append("written with Theano, which applies kernels turned by 180 degrees")
    layers = layers_with_arrays(model, owners)
    return Source(FORMAT, tree.shown, MappingProxyType(arrays), layers, tuple(warnings), cast(Notes, notes))


def config_of(tree: Tree, text: str | None) -> Model | None:
    """The network that a file describes, if it does."""
    if text is None:
        return None
    try:
        return parse_config(text)
    except ModelFileError as error:
        raise ModelFileError(f"{tree.shown}: {error}") from None


def layers_with_arrays(model: Model | None, owners: Mapping[str, list[str]]) -> tuple[Layer, ...]:
    """The layers of a model, each with the names of its arrays."""
    if model is None:
        return ()
    return tuple(replace(entry.layer, arrays=tuple(owners.get(entry.layer.name, ()))) for entry in model.layers)


def _notes(tree: Tree, root: Any, weights: Any) -> dict[str, Any]:
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
    """Arrays by name, names of arrays by layer, notes and warnings of the form that names its weights."""
    arrays: dict[str, Array] = {}
    owners: dict[str, list[str]] = {}
    notes: dict[str, Any] = {}
    warnings: list[str] = []
    namer = _Namer(model)
    top = [_TOP] if _TOP not in layer_names and tree.has(weights, _TOP) else []
    for layer in [*layer_names, *top]:
        group = tree.group(weights, layer)
        stored = tree.texts(group, "weight_names")
        if stored is None:
            tree.fail(f"the layer {layer[:80]!r} does not name its weights")
        if is_keras_1(stored):
            notes["keras_version"] = "1"
            if any(name.endswith(("running_std", "running_std:0")) for name in stored):
                notes["running_std"] = "variance"
        for name, (owner, full) in zip(stored, namer.names(layer, stored), strict=True):
            if full in arrays:
                tree.fail(f"two weights are named {full[:80]!r}")
            arrays[full] = tree.array(tree.member(group, name), full)
            owners.setdefault(owner, []).append(full)
    if "running_std" in notes:
        warnings.append(
            "the running_std of Keras 1 is read as a variance, as it is since spring 2016; earlier it was a deviation"
        )
    if notes.get("keras_version") == "1":
        notes["kernel_layout"] = _kernel_layout(arrays)
    return arrays, owners, notes, warnings


def _kernel_layout(arrays: Mapping[str, Array]) -> str:
    """Of Keras 1: "OIHW" where kernels are square in their last two sides only, else "HWIO"."""
    shapes = [array.shape for array in arrays.values() if len(array.shape) == 4]
    last = sum(shape[2] == shape[3] and shape[0] != shape[1] for shape in shapes)
    first = sum(shape[0] == shape[1] and shape[2] != shape[3] for shape in shapes)
    return "OIHW" if last > first else "HWIO" if first else "unknown"


class _Namer:
    """Finds the layer of each stored weight, which a nested model keeps under its own name."""

    def __init__(self, model: Model | None) -> None:
        self._model = model
        self._kinds = {} if model is None else {entry.layer.name: entry.layer.kind for entry in model.layers}
        self._inner: dict[str, dict[str, str]] = {}
        for entry in () if model is None else model.layers:
            outer, _, _ = entry.layer.name.partition("/")
            leaf = entry.layer.name.rpartition("/")[2]
            if not entry.nested and outer != entry.layer.name:
                self._inner.setdefault(outer, {}).setdefault(leaf, entry.layer.name)

    def names(self, layer: str, stored: list[str]) -> list[tuple[str, str]]:
        """Owner and normalized name of each weight of a layer; stored names where normalized ones would be equal."""
        if layer == _TOP:
            return [(layer, "/".join((layer, *parts, leaf))) for parts, leaf in map(weight_parts, stored)]
        found = [self._name(layer, name, stored) for name in stored]
        if len({full for _, full in found}) != len(found):
            return [(layer, f"{layer}/{name}") for name in stored]
        return found

    def _name(self, layer: str, name: str, stored: list[str]) -> tuple[str, str]:
        scopes, leaf = weight_parts(name)
        if "/".join(scopes).startswith(f"{layer}/"):
            scopes = tuple("/".join(scopes)[len(layer) + 1 :].split("/"))
        elif "/".join(scopes) == layer:
            scopes = ()
        if layer in self._inner:
            for scope in reversed(scopes):
                for candidate in (scope, scope.rpartition("_")[0]):
                    if (owner := self._inner[layer].get(candidate)) is not None:
                        return owner, f"{owner}/{leaf}"
        kind = self._kinds.get(layer)
        if kind is None:  # nothing describes the layer: its weights tell whether it is a model
            nested = len({weight_parts(other)[0] for other in stored}) > 1
            return layer, "/".join((layer, *scopes, leaf)) if nested else f"{layer}/{leaf}"
        if kind == "DepthwiseConv2D" and leaf == "kernel":
            leaf = "depthwise_kernel"
        return layer, f"{layer}/{leaf}"
