"""A network's layers as Keras 3 serializes them: the config.json of a `.keras`.

Each layer says which module it is from, and each input is a symbolic tensor with its shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from skipway.interchange.source import Layer

Shape = list[int | None]
_LEFT_OUT = {"live", "batch_input_shape"}  # fields that Keras 3 states elsewhere or under another name


def keras_3_config(name: str, layers: Sequence[Layer]) -> str:
    """The configuration of a Functional model of these layers, as JSON. A layer may come before its inputs."""
    shapes = _shapes(layers)
    serialized = [_serialized(layer, shapes) for layer in layers]
    first, last = layers[0], layers[-1]
    config = {
        "name": name,
        "trainable": True,
        "layers": serialized,
        "input_layers": [first.name, 0, 0],
        "output_layers": [last.name, 0, 0],
    }
    # No public module has this class: it is named as Keras itself names it.
    module = "keras.src.models.functional"
    model = {"module": module, "class_name": "Functional", "config": config, "registered_name": "Functional"}
    return json.dumps(model)


def _serialized(layer: Layer, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The description of one layer."""
    config: dict[str, Any] = {"name": layer.name}
    for key, value in layer.fields.items():
        if key not in _LEFT_OUT:
            config[key] = value
    if layer.kind == "InputLayer":
        config["batch_shape"] = layer.fields["batch_input_shape"]
    return {
        "module": "keras.layers",
        "class_name": layer.kind,
        "config": config,
        "registered_name": None,
        "name": layer.name,
        "inbound_nodes": _inbound_nodes(layer, shapes),
    }


def _inbound_nodes(layer: Layer, shapes: Mapping[str, Shape]) -> list[dict[str, Any]]:
    """How a layer is called: once, or not at all where it takes nothing."""
    tensors = [_tensor(name, shapes[name]) for name in layer.inputs]
    if not tensors:
        return []
    keywords = {}
    if layer.fields.get("live"):
        keywords["training"] = True
    arguments: list[Any] = tensors
    if layer.kind == "Add":
        # A sum takes one list of values, any other layer one value.
        arguments = [tensors]
    node = {"args": arguments, "kwargs": keywords}
    return [node]


def _tensor(name: str, shape: Shape) -> dict[str, Any]:
    """The value of the layer `name`, as a symbolic tensor."""
    config = {"shape": shape, "dtype": "float32", "keras_history": [name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def _shapes(layers: Sequence[Layer]) -> dict[str, Shape]:
    """The shapes of the values of all layers, found without recursion: networks are a thousand layers deep."""
    by_name = {layer.name: layer for layer in layers}
    shapes: dict[str, Shape] = {}
    for end in layers:
        waiting = [end.name]
        while waiting:
            layer = by_name[waiting[-1]]
            missing = [name for name in layer.inputs if name not in shapes]
            if missing:
                waiting.extend(missing)
                continue
            given: Shape = []
            if layer.inputs:
                given = shapes[layer.inputs[0]]
            shapes[layer.name] = _shape(layer, given)
            waiting.pop()
    return shapes


def _shape(layer: Layer, given: Shape) -> Shape:
    """The shape of a layer's value, (batch, height, width, channels) or (batch, channels). `given` is its input's."""
    fields = layer.fields
    match layer.kind:
        case "InputLayer":
            return list(fields["batch_input_shape"])
        case "Dense":
            return [None, fields["units"]]
        case "GlobalAveragePooling2D":
            return [None, given[-1]]
        case "Flatten":
            sizes = _known(given[1:])
            return [None, math.prod(sizes)]
        case "ZeroPadding2D":
            height, width = _known(given[1:3])
            rows, columns = fields["padding"]
            return [None, height + sum(rows), width + sum(columns), given[-1]]
        case "Conv2D":
            sides = _sides(given, fields["kernel_size"], fields)
            return [None, *sides, fields["filters"]]
        case "MaxPooling2D" | "AveragePooling2D":
            sides = _sides(given, fields["pool_size"], fields)
            return [None, *sides, given[-1]]
    return given


def _known(sizes: Shape) -> list[int]:
    """The sizes of a shape, 0 for those that are open."""
    return [size or 0 for size in sizes]


def _sides(given: Shape, window: Sequence[int], fields: Mapping[str, Any]) -> list[int]:
    """Height and width behind a layer that moves a window over its input, in pixels."""
    same = fields["padding"] == "same"
    sizes = _known(given[1:3])
    sides = []
    for size, width, step in zip(sizes, window, fields["strides"], strict=True):
        # Without padding the whole window must fit; with "same" every step that starts inside counts.
        room = size if same else size - width + 1
        steps = -(-room // step)
        sides.append(steps)
    return sides
