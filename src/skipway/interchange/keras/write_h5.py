"""Keras .h5 as Keras 2 wrote it, the form that Keras 2 and Keras 3 both load: weights in order or by name, or a whole
model.
"""

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
    """Write weights named `<layer>/<weight>`, the layers in the order in which they first come.

    `config` is the JSON that describes the network: with it the file is a whole model. `preprocessing` says how the
    pictures of a whole model are prepared. Kernels are (height, width, in, out). Keras loads by the order of layers,
    or by their names with `by_name=True`; within a layer the weights are put into Keras's order.

    Raises ModelFileError for names or types that the form cannot hold, StorageError when the file cannot be written.
    """
    layers: dict[str, list[str]] = {}
    for name, values in arrays.items():
        layer, weight = _checked(name, values)
        weights = layers.setdefault(layer, [])
        weights.append(weight)
    attributes: dict[str, bytes] = {}
    if config:
        attributes["model_config"] = config.encode()
        if preprocessing:
            text = json.dumps(dict(preprocessing))
            attributes[PREPROCESSING] = text.encode()
    write_whole(path, lambda temporary: _write(temporary, arrays, layers, attributes))


def _checked(name: str, values: np.ndarray) -> tuple[str, str]:
    """The layer and the weight in a name. Raises ModelFileError for a name or a type that the form cannot hold."""
    layer, _, weight = name.rpartition("/")
    parts = set(name.split("/"))
    impossible = parts & {"", ".", ".."}
    if impossible or not layer or not name.isprintable():  # a zero byte is not printable, either
        raise ModelFileError(f"{name!r} is no name of a Keras weight; name it LAYER/WEIGHT, such as conv1/kernel")
    _, read_back = weight_parts(f"{layer}/{weight}:0")
    if ":" in weight or read_back != weight:
        raise ModelFileError(f"Keras names the weight {name!r} otherwise; name it kernel, bias, gamma, beta, ...")
    dtype = values.dtype
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise ModelFileError(f"{name} holds {dtype}, which a Keras file cannot; convert it to float32")
    return layer, weight


def _write(
    file: Path, arrays: Mapping[str, np.ndarray], layers: Mapping[str, list[str]], model: Mapping[str, bytes]
) -> None:
    """Write the file: the weights by layer, and the attributes `model` of a whole model."""
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
                full = f"{layer}/{name}"
                group.create_dataset(f"{full}:0", data=arrays[full])


def _set_versions(owner: Any) -> None:
    """State the version and the backend of Keras."""
    owner.attrs["backend"] = np.bytes_("tensorflow")
    owner.attrs["keras_version"] = np.bytes_(KERAS_VERSION)


def _set_texts(owner: Any, key: str, texts: Sequence[str]) -> None:
    """Write a list of texts as an attribute, or as several numbered ones where it is too long, as Keras does."""
    encoded = np.array([text.encode() for text in texts], dtype=np.bytes_)
    parts = [encoded]
    longest = encoded.nbytes
    while longest > _ATTRIBUTE_LIMIT:
        parts = np.array_split(encoded, len(parts) + 1)
        longest = max(part.nbytes for part in parts)
    if len(parts) == 1:
        owner.attrs[key] = encoded
        return
    for number, part in enumerate(parts):
        owner.attrs[f"{key}{number}"] = part
