"""What every reader gives: stored arrays by name, loaded one at a time, and the layers where the file has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import numpy as np


@dataclass(frozen=True)
class Array:
    """One stored array, in the layout of its source. `read()` loads it, native byte order, whenever it is called."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Layer:
    """One layer of a file that describes its network: `kind` and `fields` in the words of the source, `inputs` the
    names of the layers (or, in Caffe, of the blobs) that it takes, `arrays` the names of its own arrays in order.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


Framework = Literal["caffe", "keras", "numpy", "tensorflow", "torch"]

FRAMEWORKS: Mapping[str, Framework] = {
    "caffemodel": "caffe",
    "prototxt": "caffe",
    "binaryproto": "caffe",
    "keras_h5": "keras",
    "keras_zip": "keras",
    "npy": "numpy",
    "npz": "numpy",
    "TensorFlow checkpoint V1": "tensorflow",
    "TensorFlow checkpoint V2": "tensorflow",
    "TensorFlow graph": "tensorflow",
    "torch": "torch",
    "safetensors": "torch",
    "directory": "torch",
    "index": "torch",
}


class Notes(TypedDict, total=False):
    """What a file says beside its arrays and layers; each key is there where the file says it.

    Caffe: `name` of the network, `form` of the message (V0, V1, V2), `inputs` (blob names to shapes, () where a shape
    is not stated), `shared` parameters, `prototxt` that described the layers.

    Keras: `keras_version`, `backend`, `data_format`, `kernel_layout` and `running_std` of Keras 1, `model` (its name),
    `training` configuration, `optimizer_weights` (how many), `training_state`, `random_state`,
    `skipway_preprocessing` as we export it, and what else the metadata of a .keras file hold (`date_saved`).

    NumPy: `form` of the content, `left_out`.

    TensorFlow: `found` (what the path meant), `version`, `shards`, `byte_order`, `others` (entries without numbers,
    with their types), `widened` (arrays given as float32 instead of their own type).

    PyTorch: `form` of the file, `within` (where the weights lie), `averages` that there are and the `average` that was
    taken, `checkpoint` (plain values beside the weights), `left_out`, `prefixes_removed`, `metadata` of a safetensors
    file, `config` and `preprocessor_config` of a folder, `files`, `index_metadata`, `weights`, `weights_format`.
    """

    average: str
    averages: tuple[str, ...]
    backend: str
    byte_order: str
    checkpoint: dict[str, Any]
    config: dict[str, Any]
    data_format: str
    date_saved: str
    files: tuple[str, ...]
    form: str
    found: str
    index_metadata: Any
    inputs: Mapping[str, tuple[int, ...]]
    kernel_layout: str
    keras_version: str
    left_out: list[str]
    metadata: dict[str, str]
    model: str
    name: str
    optimizer_weights: int
    others: Mapping[str, str]
    prefixes_removed: tuple[str, ...]
    preprocessor_config: dict[str, Any]
    prototxt: str
    random_state: tuple[str, ...]
    running_std: str
    shards: int
    shared: Mapping[str, Any]
    skipway_preprocessing: dict[str, Any]
    training: Any
    training_state: tuple[str, ...]
    version: str
    weights: str
    weights_format: str
    widened: Any
    within: str


@dataclass(frozen=True)
class WeightFile:
    """A weight file as it was read.

    Attributes:
        format: Name of the reader.
        path: The file, or the prefix or folder of several.
        arrays: The stored arrays by name.
        layers: The layers in the file's order; none where the format has no layers.
        warnings: Lines that a user should see.
        notes: What else the file says.
    """

    format: str
    path: Path
    arrays: Mapping[str, Array]
    layers: tuple[Layer, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: Notes = field(default_factory=Notes)

    @property
    def framework(self) -> Framework:
        """Whose file it is."""
        return FRAMEWORKS[self.format]
