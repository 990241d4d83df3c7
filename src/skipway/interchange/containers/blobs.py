"""Bytes that lie in a file and are loaded when they are asked for, and arrays made of them.

A reader states the shape of an array and where its bytes lie. Both must agree before anything is loaded, so that no
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
    """The error for a damaged file: `what` says what is wrong with it, `fix` what the user can do."""
    return ModelFileError(f"{path} {what}; {fix}")


def unread(path: Path, error: OSError) -> ModelFileError:
    """The error for a file that the system did not read, with the system's reason. The file may be whole."""
    message = str(read_error(path, error))
    return ModelFileError(message)


class Blob(Protocol):
    """`size` bytes somewhere in the file `path`.

    `load` gives `count` of them from `start` on, as a writable array of bytes. Raises ModelFileError.
    """

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def load(self, start: int, count: int) -> np.ndarray:
        """`count` bytes from `start` on."""


@dataclass(frozen=True)
class FileBlob:
    """The bytes of a file from `start` on."""

    path: Path
    start: int
    size: int

    def load(self, start: int, count: int) -> np.ndarray:
        """`count` bytes from `start` on. Raises ModelFileError where the file cannot be read or became shorter."""
        offset = self.start + start
        try:
            loaded = np.fromfile(self.path, np.uint8, count, offset=offset)
        except OSError as error:
            raise unread(self.path, error) from None
        if len(loaded) != count:
            raise damaged(self.path, "became shorter while it was read", "let whatever writes it finish first")
        return loaded


def checked_shape(shape: Sequence[object], itemsize: int) -> tuple[int, ...]:
    """`shape` as sizes that an array can have whose items take `itemsize` bytes. Raises ValueError."""
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError("has an impossible shape")
    sizes = []
    elements = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise ValueError("has an impossible shape")
        sizes.append(size)
        elements *= max(size, 1)
    if elements * itemsize >= 1 << 62:
        raise ValueError("is larger than any memory")
    return tuple(sizes)


def item_dtype(dtype: np.dtype[Any] | str) -> np.dtype[Any]:
    """The type of the items in the file. Those of bfloat16, which NumPy lacks, are the upper half of a float32."""
    if dtype == BFLOAT16:
        return np.dtype("<u2")
    return np.dtype(dtype)


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
    """An array called `name` over the bytes of `blob` from `start` on. bfloat16 is given as float32.

    `order` is that of its axes in the file, as NumPy names it. `strides`, where they are given, say for each axis how
    many items two neighbours are apart. Raises ModelFileError when the blob is too short for it.
    """
    stored = item_dtype(dtype)
    native = stored.newbyteorder("=")
    span = _span(shape, strides)
    size = span * stored.itemsize
    end = start + size
    if start < 0 or end > blob.size:
        raise damaged(blob.path, f"ends before {name} does ({end} bytes needed, {blob.size} there)")

    def read_items() -> np.ndarray:
        items = blob.load(start, size).view(stored)
        if strides is None or not items.size:
            return items.reshape(shape, order=order)
        return _strided(items, shape, strides)

    def read() -> np.ndarray:
        return read_items().astype(native, copy=False)

    def read_widened() -> np.ndarray:
        bits = read_items().astype("<u4") << 16
        return bits.view("<f4").astype(np.float32, copy=False)

    if dtype == BFLOAT16:
        return Array(name, shape, np.dtype(np.float32), read_widened)
    return Array(name, shape, native, read)


def _span(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int:
    """How many items lie between the first and the last item of an array, both counted."""
    elements = math.prod(shape)
    if strides is None or elements == 0:
        return elements
    last = 0
    for size, stride in zip(shape, strides, strict=True):
        last += (size - 1) * stride
    return last + 1


def _strided(items: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """The array of that shape over `items`, whose neighbours on an axis are `strides` items apart."""
    steps = tuple(stride * items.itemsize for stride in strides)
    array = np.lib.stride_tricks.as_strided(items, shape, steps, writeable=False)
    whole = items.size == array.size
    if whole and array.flags.c_contiguous:
        return items.reshape(shape)
    return array.copy()


def named(path: Path, arrays: Iterable[Array]) -> dict[str, Array]:
    """Arrays by name. Raises ModelFileError when two have one name or all of them are far larger than the file."""
    by_name: dict[str, Array] = {}
    total = 0
    for array in arrays:
        if array.name in by_name:
            raise damaged(path, f"holds two arrays named {array.name!r}")
        by_name[array.name] = array
        total += math.prod(array.shape) * array.dtype.itemsize
    allowed = MAX_RATIO * path.stat().st_size + ALLOWANCE
    if total > allowed:
        raise damaged(path, f"declares arrays of {total} bytes, far more than it holds", "get it from its author")
    return by_name
