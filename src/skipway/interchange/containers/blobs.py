"""Runs of bytes that lie in a file and are loaded when asked for, and arrays made of them.

Whoever makes an array here states its shape and its bytes; both must agree before anything is loaded, so that no
declared size can ask for more memory than the file is large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import read_error
from skipway.interchange.source import Array

MAX_DIMENSIONS = 32
# Arrays may share their bytes (tied weights) or be compressed; beyond this much more than the file, they are a bomb.
MAX_RATIO, ALLOWANCE = 10, 128 << 20

COPY_AGAIN = "download or copy it again"
BFLOAT16 = "bfloat16"

Order = Literal["C", "F"]


def damaged(path: Path, what: str, fix: str = COPY_AGAIN) -> ModelFileError:
    return ModelFileError(f"{path} {what}; {fix}")


def unread(path: Path, error: OSError) -> ModelFileError:
    """A file that the system did not read, with the system's reason: nothing is known to be damaged."""
    return ModelFileError(str(read_error(path, error)))


class Blob(Protocol):
    """`size` bytes somewhere in a file. `load` gives some of them as a writable array of bytes."""

    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def load(self, start: int, count: int) -> np.ndarray: ...


@dataclass(frozen=True)
class FileBlob:
    """The bytes of a file from `start` on."""

    path: Path
    start: int
    size: int

    def load(self, start: int, count: int) -> np.ndarray:
        try:
            loaded = np.fromfile(self.path, np.uint8, count, offset=self.start + start)
        except OSError as error:
            raise unread(self.path, error) from None
        if len(loaded) != count:
            raise damaged(self.path, "became shorter while it was read", "let whatever writes it finish first")
        return loaded


def checked_shape(shape: Sequence[object], itemsize: int) -> tuple[int, ...]:
    """`shape` as sizes that an array can have. Raises ValueError."""
    sizes = tuple(size for size in shape if type(size) is int and size >= 0)
    if len(sizes) != len(shape) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError("has an impossible shape")
    if math.prod(max(size, 1) for size in sizes) * itemsize >= 1 << 62:
        raise ValueError("is larger than any memory")
    return sizes


def item_dtype(dtype: np.dtype[Any] | str) -> np.dtype[Any]:
    """The type whose items lie in the file; those of bfloat16, which NumPy lacks, are halves of a float32."""
    return np.dtype("<u2") if dtype == BFLOAT16 else np.dtype(dtype)


def stored_array(
    name: str,
    blob: Blob,
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | str,
    *,
    order: Order = "C",
    strides: tuple[int, ...] | None = None,
) -> Array:
    """An array over the bytes of `blob` from `start` on; `strides` count items. bfloat16 is given as float32.

    Raises ModelFileError when the blob is too short for it.
    """
    stored = item_dtype(dtype)
    span = math.prod(shape)
    if strides is not None and span:
        span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    count = span * stored.itemsize
    if start < 0 or start + count > blob.size:
        raise damaged(blob.path, f"ends before {name} does ({start + count} bytes needed, {blob.size} there)")
    widen = dtype == BFLOAT16

    def read() -> np.ndarray:
        items = blob.load(start, count).view(stored)
        if strides is None or not items.size:
            array = items.reshape(shape, order=order)
        else:
            steps = tuple(stride * stored.itemsize for stride in strides)
            array = np.lib.stride_tricks.as_strided(items, shape, steps, writeable=False)
            array = array.copy() if span != array.size or not array.flags.c_contiguous else items.reshape(shape)
        if widen:
            return (array.astype("<u4") << 16).view("<f4").astype(np.float32, copy=False)
        return array.astype(stored.newbyteorder("="), copy=False)

    return Array(name, shape, np.dtype(np.float32) if widen else stored.newbyteorder("="), read)


def named(path: Path, arrays: Iterable[Array]) -> dict[str, Array]:
    """Arrays by name. Raises ModelFileError when two have one name or all of them are far larger than the file."""
    by_name: dict[str, Array] = {}
    total = 0
    for array in arrays:
        if array.name in by_name:
            raise damaged(path, f"holds two arrays named {array.name!r}")
        by_name[array.name] = array
        total += math.prod(array.shape) * array.dtype.itemsize
    if total > MAX_RATIO * path.stat().st_size + ALLOWANCE:
        raise damaged(path, f"declares arrays of {total} bytes, far more than it holds", "get it from its author")
    return by_name
