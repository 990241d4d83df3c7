"""Keras 3's `.keras`: a zip of the network's configuration and its weights, stored as they are."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skipway.files import write_whole
from skipway.interchange.keras.config import parse_config
from skipway.interchange.keras.names import in_keras_order
from skipway.interchange.keras.read_h5 import PREPROCESSING
from skipway.interchange.keras.read_zip import CONFIG, METADATA, WEIGHTS

_KERAS_VERSION = "3.0.0"  # whose form this is, and the first that loads it


def write(path: Path, arrays: Mapping[str, np.ndarray], config: str, *, preprocessing: Mapping[str, Any]) -> None:
    """Write the weights `<layer>/<weight>` of the network that `config`, Keras 3's JSON, describes.

    Kernels are (height, width, in, out). Keras finds a layer's weights by its class and place in the configuration,
    and each weight by its place in the layer. `preprocessing` goes into the metadata, where there is any. Raises
    StorageError.
    """
    metadata: dict[str, Any] = {"keras_version": _KERAS_VERSION}
    if preprocessing:
        metadata[PREPROCESSING] = dict(preprocessing)

    def fill(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_member(METADATA), json.dumps(metadata))
            archive.writestr(_member(CONFIG), config)
            with archive.open(_member(WEIGHTS), "w", force_zip64=True) as member:
                member.write(_weights(arrays, config))

    write_whole(path, fill)


def _member(name: str) -> zipfile.ZipInfo:
    """A member of that name. It states no time, so that the same weights give the same file."""
    return zipfile.ZipInfo(name)


def _weights(arrays: Mapping[str, np.ndarray], config: str) -> memoryview:
    """The inner HDF5 file, written in memory: h5py has to go back in it, which a member of a zip does not allow."""
    held: dict[str, list[str]] = {}
    for name in arrays:
        layer, _, weight = name.rpartition("/")
        weights = held.setdefault(layer, [])
        weights.append(weight)
    written = io.BytesIO()
    with h5py.File(written, "w") as root:
        root.create_group("vars")
        for entry in parse_config(config).layers:
            layer = entry.layer.name
            variables = root.create_group(f"{entry.group}/vars")
            variables.attrs["name"] = layer
            ordered = in_keras_order(held.get(layer, []))
            for number, weight in enumerate(ordered):
                variables.create_dataset(str(number), data=arrays[f"{layer}/{weight}"])
    return written.getbuffer()
