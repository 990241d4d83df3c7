"""What every reader gives: stored arrays by name, loaded one at a time, and the layers where the file has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
    names of the layers (or, in Caffe, of the blobs) that it takes, `arrays` the names of its own arrays in order."""

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Source:
    """A weight file as read: `format` is the reader's name, `layers` the topology in the file's order (empty where the
    format has none), `warnings` what a user should know, `notes` what else the file says (versions, optimizer...)."""

    format: str
    path: Path
    arrays: Mapping[str, Array]
    layers: tuple[Layer, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
