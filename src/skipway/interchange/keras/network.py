"""A ResNet as a Keras file describes it: the layers of a whole model, in the order in which Keras keeps them.

That order is also the order of the weights in the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.keras.layer_builder import build_layers
from skipway.interchange.keras.topology import recognize
from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import Place, source_shape
from skipway.interchange.mapping.scheme import Scheme, keras_place
from skipway.interchange.source import Array, Layer, WeightFile
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

# Fields that a graph does not show, and fields that it shows only where they matter.
_FREE = ("name", "preprocessing", "initialization", "weight_decay", "year", "paper", "source")
_OPEN = ("stride_in", "first_shortcut", "projection", "padding", "shortcut", "pad")


@dataclass(frozen=True)
class KerasNetwork:
    """A network as layers of Keras.

    - `layers`: the layers as a file describes them, each with the names of its arrays.
    - `homes`: the names of layers, by the names of our modules whose weights they have.
    """

    layers: tuple[Layer, ...]
    homes: Mapping[str, str]

    def place(self, key: Key, spec: StackSpec) -> Place | None:
        """Where one of our tensors lies in the file. None for a batch counter, which Keras does not have."""
        module = key.name.rpartition(".")[0]
        place = keras_place(self.homes[module], key)
        side = spec.flattened(spec.input_size)
        flattens = key.kind == "linear" and key.tensor == "weight" and side > 0
        if place is None or not flattens:
            return place
        last_row = spec.blocks[-1].rows[-1]
        return Place(place.source, "hwc_io", map_shape=(last_row[0], side, side))

    def config(self, name: str) -> str:
        """Keras 2's `model_config`, as JSON. Keras 3 reads it, too."""
        layers = [_described(layer) for layer in self.layers]
        first, last = self.layers[0], self.layers[-1]
        config = {
            "name": name,
            "layers": layers,
            "input_layers": [[first.name, 0, 0]],
            "output_layers": [[last.name, 0, 0]],
        }
        return json.dumps({"class_name": "Functional", "config": config})


def _described(layer: Layer) -> dict[str, Any]:
    """The description of one layer in Keras 2's form."""
    config: dict[str, Any] = {"name": layer.name}
    for key, value in layer.fields.items():
        if key != "live":
            config[key] = value
    keywords = {}
    if layer.fields.get("live"):
        keywords["training"] = True
    nodes = []
    if layer.inputs:
        inputs = [[name, 0, 0, keywords] for name in layer.inputs]
        nodes.append(inputs)
    return {"class_name": layer.kind, "name": layer.name, "config": config, "inbound_nodes": nodes}


def keras_scheme(spec: Spec) -> Scheme | None:
    """The names of `keras_network`. None where a reader would not find this very network in them again."""
    network = keras_network(spec)
    if network is None:
        return None
    assert isinstance(spec, StackSpec)
    arrays = _empty_arrays(network, spec)
    source = WeightFile("keras_h5", Path(spec.name), arrays, network.layers)
    try:
        found = recognize(source)
    except ModelFileError:
        return None
    if found is None or type(found.spec) is not type(spec):
        return None
    again = _with_free_fields(found.spec, spec)
    undecided = {field: getattr(spec, field) for field in _OPEN if hasattr(spec, field)}
    same_spec = again.replaced(undecided) == spec
    if not same_spec or keras_network(again) != network:
        return None
    return Scheme("keras_model", lambda key, _: network.place(key, spec))


def _with_free_fields(found: StackSpec, spec: StackSpec) -> StackSpec:
    """A network found in a file, with the fields of `spec` that no graph shows."""
    # An import asks the user whose statistics evaluation takes.
    norm = replace(found.norm, statistics=spec.norm.statistics)
    changes: dict[str, Any] = {"norm": norm}
    for field in _FREE:
        changes[field] = getattr(spec, field)
    return found.replaced(changes)


def _empty_arrays(network: KerasNetwork, spec: StackSpec) -> dict[str, Array]:
    """The arrays of a network with their shapes, but without values."""
    arrays: dict[str, Array] = {}
    for key in keys_of(spec):
        place = network.place(key, spec)
        if place is not None:
            shape = source_shape(key.shape, place)
            arrays[place.source] = Array(place.source, shape, np.dtype(np.float32), lambda: np.empty(0))
    return arrays


@lru_cache(maxsize=4)  # a form asks whether it can hold a network, and then how
def keras_network(spec: Spec) -> KerasNetwork | None:
    """The layers of a ResNet. None for another network, and for zeros in shortcuts, which Keras has no layer for."""
    if not isinstance(spec, ResNetV1Spec | ResNetV2Spec):
        return None
    if not spec.include_root_block:
        return None
    if spec.shortcut == "pad" and _widens(spec):
        return None
    built, homes = build_layers(spec)
    arrays = _array_names(spec, homes)
    layers = []
    for layer in sorted_layers(built):
        names = arrays.get(layer.name, [])
        layers.append(replace(layer, arrays=tuple(names)))
    return KerasNetwork(tuple(layers), homes)


def _array_names(spec: StackSpec, homes: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of a network's arrays by layer. `homes` are the names of layers by the names of our modules."""
    arrays: dict[str, list[str]] = {}
    for key in keys_of(spec):
        module = key.name.rpartition(".")[0]
        home = homes[module]
        place = keras_place(home, key)
        if place is not None:
            names = arrays.setdefault(home, [])
            names.append(place.source)
    return arrays


def _widens(spec: StackSpec) -> bool:
    """Whether any unit gives more channels than the stem."""
    depths = {spec.stem_channels()}
    for block in spec.blocks:
        for row in block.rows:
            depths.add(row[0])
    return len(depths) > 1


def sorted_layers(layers: Mapping[str, Layer]) -> list[Layer]:
    """The layers in the order in which Keras keeps them. They are given each behind its inputs, the output last.

    The layer with the longest way to the output comes first. Equally far layers come in the order in which a walk back
    from the output meets them, which takes the first input of a layer first. Source: `_map_graph_network` of Keras 2.
    """
    ordered = list(layers.values())
    distances = dict.fromkeys(layers, 0)
    for layer in reversed(ordered):
        for name in layer.inputs:
            distances[name] = max(distances[name], distances[layer.name] + 1)
    met: dict[str, int] = {}
    end = ordered[-1]
    waiting = [end.name]
    while waiting:
        name = waiting.pop()
        if name in met:
            continue
        met[name] = len(met)
        inputs = layers[name].inputs
        waiting.extend(reversed(inputs))
    return sorted(ordered, key=lambda layer: (-distances[layer.name], met[layer.name]))
