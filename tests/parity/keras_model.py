"""A Keras model as a reference: our weights in TensorFlow's layouts, every endpoint in ours.

TensorFlow's layouts: maps NHWC, convolutions HWIO, linear layers IO, and a flattened map in (H, W, C) order.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tests.parity.case import Case
from tests.parity.formula import loss_weights, parameter, pictures

MapShape = tuple[int, int, int]

_KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def tensorflow() -> Any:
    """The module, without its greetings on stderr."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    return tf


def their_weight(key: str, shape: tuple[int, ...], flattened: MapShape | None = None) -> np.ndarray:
    """The formula's weight for `key` in their layout and `shape`; `flattened`: the map (H, W, C) that it reads."""
    if len(shape) == 1:
        return parameter(key, shape)
    if len(shape) == 4:
        height, width, channels, depth = shape
        return parameter(key, (depth, channels, height, width)).transpose(2, 3, 1, 0)
    features, depth = shape
    weight = parameter(key, (depth, features))
    if flattened is None:
        return weight.T
    height, width, channels = flattened
    return weight.reshape(depth, channels, height, width).transpose(2, 3, 1, 0).reshape(features, depth)


def our_weight(value: np.ndarray, flattened: MapShape | None = None) -> np.ndarray:
    """A weight, or the gradient by it, from their layout in ours."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if value.ndim == 2 and flattened is not None:
        return value.reshape(*flattened, -1).transpose(3, 2, 0, 1).reshape(value.shape[1], -1)
    return value.T


def our_map(value: np.ndarray) -> np.ndarray:
    """A map from NHWC in NCHW; features stay."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def our_features(value: np.ndarray, flattened: MapShape | None = None) -> np.ndarray:
    """Features (N, C) whose order is (H, W, C) of a map, in ours, (C, H, W)."""
    return value if flattened is None else our_map(value.reshape(-1, *flattened)).reshape(len(value), -1)


def their_pictures(case: Case, channels: int) -> np.ndarray:
    """The case's pictures as NHWC."""
    return pictures(case.batch, channels, case.side, case.scale).transpose(0, 2, 3, 1)


def arrays_of(
    case: Case, layers: dict[str, Any], outputs: dict[str, Any], model: Any, flattened: MapShape | None = None
) -> dict[str, np.ndarray]:
    """What `run(case)` of a reference gives, for a model whose last layer is a Dense with softmax.

    `layers`: our name of every layer with weights, the last one as `logits`. `outputs`: the symbolic tensor of each
    endpoint but the logits and the predictions. `flattened`: the map (H, W, C) that the last layer reads flattened.
    """
    tf = tensorflow()
    variables = {
        f"{name}.{_KINDS[one.name.split('/')[-1].split(':')[0]]}": one
        for name, layer in layers.items()
        for one in layer.weights
    }
    maps = {key: flattened if key == "logits.weight" else None for key in variables}
    for key, variable in variables.items():
        variable.assign(their_weight(key, tuple(variable.shape), maps[key]))
    network = tf.keras.Model(model.input, outputs | {"predictions": model.output})
    x = tf.constant(their_pictures(case, model.input_shape[-1]))
    with tf.GradientTape() as tape:
        values = network(x, training=case.training)
        # The softmax hides the logits: the layer's sum once more, from what it was given.
        values["logits"] = tf.matmul(values["pre_logits"], layers["logits"].kernel) + layers["logits"].bias
        loss = tf.reduce_sum(values["logits"] * loss_weights(tuple(values["logits"].shape)))
    arrays = {name: our_map(value.numpy()) for name, value in values.items()}
    arrays["pre_logits"] = our_features(arrays["pre_logits"], flattened)
    if case.training:
        arrays |= {f"stat:{key}": one.numpy() for key, one in variables.items() if "running_" in key}
    if case.gradient:
        trainable = {key: one for key, one in variables.items() if "running_" not in key}
        for key, value in tape.gradient(loss, trainable).items():
            arrays[f"grad:{key}"] = our_weight(value.numpy(), maps[key])
    return arrays
