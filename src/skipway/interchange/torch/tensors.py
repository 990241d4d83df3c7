"""Tensors of PyTorch as views of storages, which lie in the file until an array is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skipway.interchange.containers.blobs import BFLOAT16, Blob, checked_shape, damaged, item_dtype, stored_array
from skipway.interchange.containers.pickle_values import PickleError
from skipway.interchange.source import Array
from skipway.interchange.torch.checks import is_count

# torch.FloatStorage and the like, and what `torch.float32` is called, as NumPy's code of the bytes in the file.
STORAGES = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": BFLOAT16,
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "ComplexFloat": "<c8",
    "ComplexDouble": "<c16",
}
DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": BFLOAT16,
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "?",
    "complex64": "<c8",
    "complex128": "<c16",
}


@dataclass
class Storage:
    """A run of `count` items of the file, shared by tensors.

    `dtype` is the code of its items. `blob` and `start`, in bytes, are set once it is known where the storage lies. A
    storage that is part of another has that other as `whole`, and `skipped` items before it.
    """

    dtype: str
    count: int
    blob: Blob | None = None
    start: int = 0
    whole: Storage | None = None
    skipped: int = 0

    def place(self) -> tuple[Blob | None, int]:
        """The bytes that hold it and where in them it begins; no bytes where the file turned out not to hold it."""
        if self.whole is None:
            return self.blob, self.start
        if self.skipped + self.count > self.whole.count:
            return None, 0
        size = item_dtype(self.dtype).itemsize
        start = self.whole.start + self.skipped * size
        return self.whole.blob, start


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; `offset` and `strides` count items, `dtype` is the code of an item."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    def array(self, name: str, path: Path) -> Array:
        """The array by that name. Raises ModelFileError when it asks for more than its storage."""
        is_empty = math.prod(self.shape) == 0
        if is_empty:
            native = self._native()
            return Array(name, self.shape, native, partial(np.empty, self.shape, native))
        blob, start = self.storage.place()
        if blob is None or not self._is_stored():
            raise damaged(path, f"is damaged ({name[:100]} of shape {self.shape} asks for more than is stored)")
        first = start + self.offset * item_dtype(self.dtype).itemsize
        return stored_array(name, blob, first, self.shape, self.dtype, strides=self.strides)

    def _is_stored(self) -> bool:
        """Whether the storage has the items that the tensor views, and at least as many as the tensor has.

        An expanded tensor has more items than its storage: a few bytes could ask for any amount of memory.
        """
        size = item_dtype(self.dtype).itemsize
        stored_size = item_dtype(self.storage.dtype).itemsize
        stored_items = self.storage.count * stored_size // size
        items = math.prod(self.shape)
        span = 1
        for length, stride in zip(self.shape, self.strides, strict=True):
            span += (length - 1) * stride
        return items <= stored_items and self.offset + span <= stored_items

    def _native(self) -> np.dtype[Any]:
        """The type of the array that is given."""
        if self.dtype == BFLOAT16:
            return np.dtype(np.float32)
        return np.dtype(self.dtype).newbyteorder("=")


def storage_dtype(name: str) -> str:
    """The code of what a storage class such as `torch.FloatStorage` holds. Raises PickleError."""
    class_name = name.rpartition(".")[2]
    kind = class_name.removesuffix("Storage")
    if kind == "Untyped":
        return "u1"
    if kind not in STORAGES:
        raise PickleError(f"stores {name[:100]}, which are no plain numbers")
    return STORAGES[kind]


def view(storage: Storage, offset: object, shape: object, strides: object, dtype: str) -> Tensor:
    """The tensor that a file describes. Raises PickleError where the description is damaged."""
    if not is_count(offset) or type(shape) is not tuple or type(strides) is not tuple:
        raise PickleError("is damaged (a tensor without a place, a shape or strides)")
    size = item_dtype(dtype).itemsize
    try:
        lengths = checked_shape(shape, size)
        steps = checked_shape(strides, size)
    except ValueError as error:
        raise PickleError(f"is damaged (a tensor that {error})") from None
    if len(lengths) != len(steps):
        raise PickleError("is damaged (a tensor whose strides are not those of its shape)")
    return Tensor(storage, offset, lengths, steps, dtype)
