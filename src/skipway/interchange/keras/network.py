"""A ResNet as Keras's layers: what a whole model's file says of its network.

Layers have the names that Keras counts out, in the order in which its CIFAR example makes them (a unit's branch, then
its projection): conv2d, conv2d_1, batch_normalization, ... They stand in the order in which Keras keeps the layers of
a model, which is that of its weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.keras.names import group_name
from skipway.interchange.keras.topology import recognize
from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import Place, source_shape
from skipway.interchange.mapping.scheme import Scheme, keras_place
from skipway.interchange.source import Array, Layer, Source
from skipway.models.blocks import Padding, Row, StackSpec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

# What a graph does not tell of a network, and what it tells only where it matters.
_FREE = ("name", "preprocessing", "initialization", "weight_decay", "year", "paper", "source")
_OPEN = ("stride_in", "first_shortcut", "projection", "padding", "shortcut", "pad")


@dataclass(frozen=True)
class KerasNetwork:
    """`layers` as a file describes them, each with the names of its arrays; `homes` are the layers of our modules."""

    layers: tuple[Layer, ...]
    homes: Mapping[str, str]

    def place(self, key: Key, spec: StackSpec) -> Place | None:
        """Where one of our tensors lies."""
        home = self.homes[key.name.rpartition(".")[0]]
        side = spec.flattened(spec.input_size)
        place = keras_place(home, key)
        if place is None or key.kind != "linear" or key.tensor != "weight" or not side:
            return place
        return Place(place.source, "hwc_io", map_shape=(spec.blocks[-1].rows[-1][0], side, side))

    def config(self, name: str) -> str:
        """Keras 2's `model_config`, which Keras 3 reads, too."""
        layers: list[dict[str, Any]] = [
            {
                "class_name": layer.kind,
                "name": layer.name,
                "config": {"name": layer.name, **{key: layer.fields[key] for key in layer.fields if key != "live"}},
                "inbound_nodes": [[[one, 0, 0, _call(layer)] for one in layer.inputs]] if layer.inputs else [],
            }
            for layer in self.layers
        ]
        ends = {"input_layers": [[self.layers[0].name, 0, 0]], "output_layers": [[self.layers[-1].name, 0, 0]]}
        return json.dumps({"class_name": "Functional", "config": {"name": name, "layers": layers, **ends}})


def _call(layer: Layer) -> dict[str, bool]:
    return {"training": True} if layer.fields.get("live") else {}


def keras_scheme(spec: Spec) -> Scheme | None:
    """The names of `keras_network`; None where a reader would not find this very network in them again."""
    network = keras_network(spec)
    if network is None:
        return None
    assert isinstance(spec, StackSpec)
    arrays: dict[str, Array] = {}
    for key in keys_of(spec):
        place = network.place(key, spec)
        if place is not None:
            shape = source_shape(key.shape, place)
            arrays[place.source] = Array(place.source, shape, np.dtype(np.float32), lambda: np.empty(0))
    try:
        found = recognize(Source("keras_h5", Path(spec.name), arrays, network.layers))
    except ModelFileError:
        return None
    if found is None or type(found.spec) is not type(spec):
        return None
    # Whose statistics evaluation takes, an import asks the user.
    norm = replace(found.spec.norm, statistics=spec.norm.statistics)
    again = found.spec.replaced({"norm": norm} | {field: getattr(spec, field) for field in _FREE})
    same = again.replaced({field: getattr(spec, field) for field in _OPEN if hasattr(spec, field)})
    if same != spec or keras_network(again) != network:
        return None
    return Scheme("keras_model", lambda key, _: network.place(key, spec))


@lru_cache(maxsize=4)  # a form asks whether it can hold a network, and then how
def keras_network(spec: Spec) -> KerasNetwork | None:
    """The layers of a ResNet; None where Keras needs code of its own: for channels of zeros in shortcuts."""
    if not isinstance(spec, ResNetV1Spec | ResNetV2Spec) or not spec.include_root_block:
        return None
    if spec.shortcut == "pad" and _widens(spec):
        return None
    graph = _Graph(spec)
    top = _stem(graph)
    channels = spec.stem_channels()
    unit = _unit_v1 if isinstance(spec, ResNetV1Spec) else _unit_v2
    for block in spec.blocks:
        for number, row in enumerate(block.rows, 1):
            top = unit(graph, (block.name, number, block.unit), row, channels, top)
            channels = row[0]
    _head(graph, top)
    arrays: dict[str, list[str]] = {}
    for key in keys_of(spec):
        place = keras_place(graph.homes[key.name.rpartition(".")[0]], key)
        if place is not None:
            arrays.setdefault(place.source.rpartition("/")[0], []).append(place.source)
    layers = tuple(replace(layer, arrays=tuple(arrays.get(layer.name, ()))) for layer in sorted_layers(graph.layers))
    return KerasNetwork(layers, MappingProxyType(graph.homes))


def _widens(spec: StackSpec) -> bool:
    depths = {row[0] for block in spec.blocks for row in block.rows}
    return depths != {spec.stem_channels()}


def sorted_layers(layers: Mapping[str, Layer]) -> list[Layer]:
    """As Keras sorts a model's layers: the farthest from the end first, equally far ones as a walk back from the end
    comes upon them, the first input of a layer first."""
    *_, end = layers
    distances = dict.fromkeys(layers, 0)
    for layer in reversed(list(layers.values())):  # each stands behind its inputs
        for name in layer.inputs:
            distances[name] = max(distances[name], distances[layer.name] + 1)
    met: dict[str, int] = {}
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name not in met:
            met[name] = len(met)
            waiting.extend(reversed(layers[name].inputs))
    return sorted(layers.values(), key=lambda layer: (-distances[layer.name], met[layer.name]))


class _Graph:
    """Layers by name, each behind its inputs."""

    def __init__(self, spec: ResNetV1Spec | ResNetV2Spec) -> None:
        self.spec = spec
        self.layers: dict[str, Layer] = {}
        self.homes: dict[str, str] = {}
        self._norm = {"axis": -1, "momentum": round(1 - spec.norm.momentum, 12), "epsilon": spec.norm.eps}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, *inputs: str, home: str = "", **fields: Any) -> str:
        """A layer, which holds the weights of our module `home`. Returns its name."""
        base = "input" if kind == "InputLayer" else group_name(kind)
        number = self._counts[base] = self._counts.get(base, -1) + 1
        name = f"{base}_{number}" if number else base
        self.layers[name] = Layer(name, kind, inputs, fields=MappingProxyType(fields))
        if home:
            self.homes[home] = name
        return name

    def convolved(
        self, top: str, home: str, depth: int, kernel: int, *, stride: int = 1, padding: Padding = "same", bias: bool
    ) -> str:
        """A convolution. Padding alike on both sides is a layer of its own where that is not what `same` does."""
        border = "same"
        if padding == "symmetric" and stride > 1 and kernel > 1:
            top, border = self.add("ZeroPadding2D", top, padding=[[kernel // 2] * 2] * 2), "valid"
        fields = {"filters": depth, "kernel_size": [kernel] * 2, "strides": [stride] * 2, "padding": border}
        return self.add("Conv2D", top, home=home, use_bias=bias, **fields)

    def normalized(self, top: str, home: str) -> str:
        """A batch normalization, with the statistics that the spec has for evaluation."""
        statistics = self.spec.norm.statistics
        live = {"live": True} if statistics == "batch" or (statistics != "running" and ".unit" in home) else {}
        return self.add("BatchNormalization", top, home=home, **self._norm, **live)

    def rectified(self, top: str) -> str:
        """A ReLU."""
        return self.add("Activation", top, activation="relu")

    def subsampled(self, top: str, stride: int) -> str:
        """Every `stride`-th pixel: a pool over single ones."""
        fields: dict[str, Any] = {"pool_size": [1, 1], "strides": [stride] * 2, "padding": "valid"}
        return self.add("MaxPooling2D", top, **fields) if stride > 1 else top


def _stem(graph: _Graph) -> str:
    spec, stem, side = graph.spec, graph.spec.stem, graph.spec.input_size
    top = graph.add("InputLayer", batch_input_shape=[None, side, side, spec.in_channels], dtype="float32")
    top = graph.convolved(
        top, "stem.conv", stem.width, stem.kernel, stride=stem.stride, padding=stem.padding, bias=stem.bias
    )
    if isinstance(spec, ResNetV1Spec):
        top = graph.rectified(graph.normalized(top, "stem.norm"))
    if stem.pool is not None:
        padded = stem.pool in {"zeros", "symmetric"}
        top = graph.add("ZeroPadding2D", top, padding=[[1, 1], [1, 1]]) if padded else top
        border = "same" if stem.pool == "same" else "valid"
        top = graph.add("MaxPooling2D", top, pool_size=[3, 3], strides=[2, 2], padding=border)
    return top


def _unit_v1(graph: _Graph, at: tuple[str, int, str], row: Row, channels: int, start: str) -> str:
    """Convolutions with their norms, the shortcut, their sum and its ReLU."""
    spec = graph.spec
    assert isinstance(spec, ResNetV1Spec)
    home, top = f"{at[0]}.unit{at[1]}", start
    convs = _convs(spec, at[2], row)
    for number, (depth, kernel, stride) in enumerate(convs, 1):
        top = graph.rectified(top) if number > 1 else top
        step: dict[str, Any] = {"stride": stride, "padding": spec.padding, "bias": spec.conv_bias}
        top = graph.convolved(top, f"{home}.conv{number}", depth, kernel, **step)
        top = graph.normalized(top, f"{home}.norm{number}")
    depth, _, stride = row
    if channels == depth:
        kept = graph.subsampled(start, stride)
    elif spec.projection == "bare":
        kept = graph.convolved(start, f"{home}.shortcut", depth, 1, stride=stride, bias=spec.conv_bias)
    else:
        kept = graph.convolved(start, f"{home}.shortcut.conv", depth, 1, stride=stride, bias=spec.conv_bias)
        kept = graph.normalized(kept, f"{home}.shortcut.norm")
    return graph.rectified(graph.add("Add", kept, top))


def _unit_v2(graph: _Graph, at: tuple[str, int, str], row: Row, channels: int, start: str) -> str:
    """Each convolution behind a norm and a ReLU, the shortcut, their sum."""
    spec = graph.spec
    assert isinstance(spec, ResNetV2Spec)
    home = f"{at[0]}.unit{at[1]}"
    top = active = graph.rectified(graph.normalized(start, f"{home}.preact"))
    convs = _convs(spec, at[2], row)
    for number, (depth, kernel, stride) in enumerate(convs, 1):
        if number > 1:
            top = graph.rectified(graph.normalized(top, f"{home}.norm{number - 1}"))
        bias = spec.open_bias if number == len(convs) else spec.conv_bias
        top = graph.convolved(
            top, f"{home}.conv{number}", depth, kernel, stride=stride, padding=spec.padding, bias=bias
        )
    depth, _, stride = row
    opens, first = at[1] == 1 and at[0] == spec.blocks[0].name, at[1] == 1
    if channels == depth:
        kept = graph.subsampled(active if first and spec.first_shortcut == "shared" else start, stride)
    else:
        shared = spec.projection == "shared" or (opens and spec.projection == "first_shared")
        kept = active if shared else start
        kept = graph.convolved(kept, f"{home}.shortcut", depth, 1, stride=stride, bias=spec.open_bias)
    return graph.add("Add", kept, top)


def _convs(spec: ResNetV1Spec | ResNetV2Spec, kind: str, row: Row) -> list[tuple[int, int, int]]:
    """Depth, kernel and stride of a branch's convolutions."""
    depth, width, stride = row
    if kind == "basic":
        return [(width, 3, stride), (depth, 3, 1)]
    first, middle = (stride, 1) if spec.stride_in == "first" else (1, stride)
    return [(width, 1, first), (width, 3, middle), (depth, 1, 1)]


def _head(graph: _Graph, top: str) -> None:
    """The classifier gives probabilities, as Keras's own networks do."""
    spec = graph.spec
    if isinstance(spec, ResNetV2Spec):
        top = graph.rectified(graph.normalized(top, "postnorm"))
    if not spec.global_pool:
        return
    if spec.head == "global":
        top = graph.add("GlobalAveragePooling2D", top)
    else:
        top = graph.add("AveragePooling2D", top, pool_size=[2, 2], strides=[2, 2], padding="valid")
        top = graph.add("Flatten", top)
    if spec.num_classes:
        graph.add("Dense", top, home="logits", units=spec.num_classes, activation="softmax")
