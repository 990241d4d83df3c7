"""Keras .h5 as Keras 2 wrote it, the form that Keras 2 and Keras 3 both load: weights in order or by name, or a whole
model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.keras.names import in_keras_order, weight_parts
from skipway.interchange.keras.read_h5 import PREPROCESSING

KERAS_VERSION = "2.15.0"  # whose form this is; Keras takes a file that states none for one of Keras 1
_ATTRIBUTE_LIMIT = 64512  # bytes; HDF5 keeps attributes in an object's header, which is not larger


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    config: str = "",
    preprocessing: Mapping[str, Any] | None = None,
) -> None:
    """Write weights named `<layer>/<weight>`, the layers in the order in which they first come. With a `config`, the
    JSON that describes the network, the file is a whole model, which may say how its pictures are prepared.

    Kernels are (height, width, in, out). Keras loads by the order of layers, or by their names with `by_name=True`;
    within a layer the weights are put into Keras's order. Raises ModelFileError for names or types that the form cannot
    hold, StorageError when the file cannot be written.
    """
    layers: dict[str, list[str]] = {}
    for name, values in arrays.items():
        layer, weight = _checked(name, values)
        layers.setdefault(layer, []).append(weight)
    attributes = {"model_config": config.encode()} if config else {}
    if config and preprocessing:
        attributes[PREPROCESSING] = json.dumps(dict(preprocessing)).encode()
    write_whole(path, lambda temporary: _write(temporary, arrays, layers, attributes))


def _checked(name: str, values: np.ndarray) -> tuple[str, str]:
    layer, _, weight = name.rpartition("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in name.split("/")) or not layer or not name.isprintable():
        raise ModelFileError(f"{name!r} is no name of a Keras weight; name it LAYER/WEIGHT, such as conv1/kernel")
    if ":" in weight or weight_parts(f"{layer}/{weight}:0")[1] != weight:
        raise ModelFileError(f"Keras names the weight {name!r} otherwise; name it kernel, bias, gamma, beta, ...")
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise ModelFileError(f"{name} holds {values.dtype}, which a Keras file cannot; convert it to float32")
    return layer, weight


def _write(
    file: Path, arrays: Mapping[str, np.ndarray], layers: Mapping[str, list[str]], model: Mapping[str, bytes]
) -> None:
    with h5py.File(file, "w") as root:
        weights = root
        if model:
            _set_versions(root)
            for key, text in model.items():
                root.attrs[key] = text
            weights = root.create_group("model_weights")
        _set_versions(weights)
        _set_texts(weights, "layer_names", list(layers))
        for layer, names in layers.items():
            group = weights.require_group(layer)
            ordered = in_keras_order(names)
            _set_texts(group, "weight_names", [f"{layer}/{name}:0" for name in ordered])
            for name in ordered:
                group.create_dataset(f"{layer}/{name}:0", data=arrays[f"{layer}/{name}"])


def _set_versions(owner: Any) -> None:
    owner.attrs["backend"] = np.bytes_("tensorflow")
    owner.attrs["keras_version"] = np.bytes_(KERAS_VERSION)


def _set_texts(owner: Any, key: str, texts: Sequence[str]) -> None:
    encoded = np.array([text.encode() for text in texts], dtype=np.bytes_)
    parts = [encoded]
    while any(part.nbytes > _ATTRIBUTE_LIMIT for part in parts):
        parts = np.array_split(encoded, len(parts) + 1)
    if len(parts) == 1:
        owner.attrs[key] = encoded
        return
    for number, part in enumerate(parts):
        owner.attrs[f"{key}{number}"] = part
