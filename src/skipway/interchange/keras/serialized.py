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


def keras_3_config(name: str, layers: Sequence[Layer]) -> str:
    """The configuration of a Functional model of these layers, each behind its inputs or not."""
    by_name = {layer.name: layer for layer in layers}
    shapes: dict[str, Shape] = {}
    for layer in layers:
        _add_shapes(layer.name, by_name, shapes)
    config = {
        "name": name,
        "trainable": True,
        "layers": [_serialized(layer, shapes) for layer in layers],
        "input_layers": [layers[0].name, 0, 0],
        "output_layers": [layers[-1].name, 0, 0],
    }
    # No public module has this class: it is named as Keras itself names it.
    module = "keras.src.models.functional"
    model = {"module": module, "class_name": "Functional", "config": config, "registered_name": "Functional"}
    return json.dumps(model)


def _serialized(layer: Layer, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    fields = {key: value for key, value in layer.fields.items() if key not in {"live", "batch_input_shape"}}
    if layer.kind == "InputLayer":
        fields["batch_shape"] = layer.fields["batch_input_shape"]
    tensors = [_tensor(one, shapes[one]) for one in layer.inputs]
    call = {"training": True} if layer.fields.get("live") else {}
    # A sum takes one list of values, any other layer one value.
    node = {"args": [tensors] if layer.kind == "Add" else tensors, "kwargs": call}
    return {
        "module": "keras.layers",
        "class_name": layer.kind,
        "config": {"name": layer.name, **fields},
        "registered_name": None,
        "name": layer.name,
        "inbound_nodes": [node] if tensors else [],
    }


def _tensor(name: str, shape: Shape) -> dict[str, Any]:
    config = {"shape": shape, "dtype": "float32", "keras_history": [name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def _add_shapes(name: str, layers: Mapping[str, Layer], shapes: dict[str, Shape]) -> None:
    """The shapes of a layer and of all that it takes, without recursion: networks are a thousand layers deep."""
    waiting = [name]
    while waiting:
        layer = layers[waiting[-1]]
        if missing := [one for one in layer.inputs if one not in shapes]:
            waiting += missing
            continue
        given = shapes[layer.inputs[0]] if layer.inputs else []
        shapes[waiting.pop()] = _shape(layer, given)


def _shape(layer: Layer, given: Shape) -> Shape:
    """The shape that a layer gives for the one that it takes."""
    fields = layer.fields
    match layer.kind:
        case "InputLayer":
            return list(fields["batch_input_shape"])
        case "Dense":
            return [None, fields["units"]]
        case "GlobalAveragePooling2D":
            return [None, given[-1]]
        case "Flatten":
            return [None, math.prod(size or 0 for size in given[1:])]
        case "ZeroPadding2D":
            sides = [(size or 0) + sum(border) for size, border in zip(given[1:3], fields["padding"], strict=True)]
            return [None, *sides, given[-1]]
        case "Conv2D":
            return [None, *_sides(given, fields["kernel_size"], fields), fields["filters"]]
        case "MaxPooling2D" | "AveragePooling2D":
            return [None, *_sides(given, fields["pool_size"], fields), given[-1]]
    return given


def _sides(given: Shape, window: Sequence[int], fields: Mapping[str, Any]) -> list[int]:
    sides = zip(given[1:3], window, fields["strides"], strict=True)
    if fields["padding"] == "same":
        return [-(-(size or 0) // step) for size, _, step in sides]
    return [((size or 0) - width) // step + 1 for size, width, step in sides]
