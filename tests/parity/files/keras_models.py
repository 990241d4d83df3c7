"""Keras's applications and the hand-signs network, saved by Keras 2.15 and by Keras 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.files.pair import Pair, values

_FILES = {"tensorflow": ("whole.h5", "weights.h5"), "keras": ("whole.h5", "whole.keras")}
_TITLES = {"tensorflow": "Keras 2.15", "keras": "Keras 3"}
PAIRS = tuple(
    Pair("keras_models", f"{name}_{environment}", f"{_TITLES[environment]}, {title}", environment, files)
    for environment, files in _FILES.items()
    for name, title in (
        ("ResNet50", "applications.ResNet50"),
        ("ResNet101V2", "applications.ResNet101V2"),
        ("signs", "the hand-signs ResNet50"),
    )
)


def write(pair: Pair, photos: list[Path], folder: Path) -> np.ndarray:
    """The whole model and, of Keras 2, its weights; returns the logits (N, classes)."""
    from tests.parity.keras_model import tensorflow

    tensorflow()
    from keras.utils import img_to_array, load_img

    network = pair.name.removesuffix(f"_{pair.environment}")
    model = _model(network)
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(_values(layer.name, weight, counts=network == "ResNet50"))
    for file in pair.files:
        (model.save_weights if file == "weights.h5" else model.save)(str(folder / file))
    size = tuple(model.input_shape[1:3])
    # The nearest pixels are load_img's default; the hand signs, 64 pixels a side as they are, were scaled smoothly.
    kernel = "bilinear" if network == "signs" else "nearest"
    loaded = [img_to_array(load_img(photo, target_size=size, interpolation=kernel)) for photo in photos]
    last = model.layers[-1]
    last.activation = lambda x: x  # logits instead of the softmax
    return np.asarray(model.__class__(model.input, last(last.input))(_prepared(np.stack(loaded), network)))


def _model(network: str) -> Any:
    from keras import applications

    if network != "signs":
        return getattr(applications, network)(weights=None)
    from tests.interchange.fixtures.importing.keras_2 import _signs

    return _signs(live=False, full=True)


def _prepared(counts: np.ndarray, network: str) -> np.ndarray:
    """What the applications' preprocess_input makes of counts (N, H, W, 3); the post divides them by 255."""
    from keras.applications import resnet, resnet_v2

    if network == "signs":
        return counts / np.float32(255)
    return np.asarray({"ResNet50": resnet, "ResNet101V2": resnet_v2}[network].preprocess_input(counts))


def _values(layer: str, weight: Any, *, counts: bool) -> np.ndarray:
    kind = weight.name.rpartition("/")[2].partition(":")[0]
    shape = tuple(weight.shape)
    # A stem that sees counts would drown the statistics that follow.
    gain = 1 / 64 if counts and layer == "conv1_conv" else 1.0
    kind, fan_in = ("weight" if kind == "kernel" else kind), int(np.prod(shape[:-1]))
    return values(f"{layer}/{kind}", shape, kind, fan_in=fan_in, gain=gain)
