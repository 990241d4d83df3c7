"""NumPy arrays inside pickles: what `ndarray.__reduce__` writes, under Python 2 and 3, NumPy 1 and 2."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from skipway.interchange.containers.blobs import Blob, Order, checked_shape, damaged, stored_array
from skipway.interchange.containers.pickle_values import PickleError, Span
from skipway.interchange.source import Array

# Booleans, integers, floats, complex numbers and texts; nothing that could hold an object.
_ITEM = re.compile(r"([biu]1|[iuf][248]|c8|c16|[SU][1-9]\d{0,5})")
_ENCODINGS = {"latin1", "latin-1", "iso-8859-1"}


def numeric_dtype(code: str) -> np.dtype[Any]:
    """The type that a code such as 'f4' or '<f4' stands for. Raises ValueError for any but plain numbers and texts."""
    order = ""
    item = code
    if code[:1] in {"<", ">", "|", "="}:
        order = code[0]
        item = code[1:]
    if item == "?":
        item = "b1"
    if _ITEM.fullmatch(item) is None:
        raise ValueError(f"holds items of type {code[:40]!r}, which are no numbers")
    if order == "=":
        order = "<"
    return np.dtype(order + item)


class PickledDtype:
    """A dtype of NumPy. A pickle states its code first, and its byte order with the state that follows.

    `objects` says that the items are Python objects, not numbers.
    """

    def __init__(self, code: object, _align: object = False, _copy: object = False) -> None:  # noqa: FBT002
        if isinstance(code, bytes):
            code = code.decode("latin-1")
        if not isinstance(code, str):
            raise PickleError("holds a structured array, which no weights are")
        self.objects = code in {"O", "O4", "O8", "|O", "object"}
        self.dtype: np.dtype[Any] = np.dtype(np.int8)
        if self.objects:
            return
        try:
            self.dtype = numeric_dtype(code)
        except ValueError as error:
            raise PickleError(str(error)) from None

    def build(self, state: Any) -> None:
        """Take the byte order. Raises PickleError for a structured type."""
        order: Any = state[1]
        structure = state[2:5]  # a base type, names and fields
        if isinstance(order, bytes):
            order = order.decode("latin-1")
        is_structured = any(part is not None for part in structure)
        if order not in {"<", ">", "|"} or is_structured:
            raise PickleError("holds a structured array, which no weights are")
        self.dtype = self.dtype.newbyteorder(order)


class EncodedText:
    """Bytes that Python 3 wrote for Python 2: text, to be encoded as Latin-1."""

    def __init__(self, text: Span) -> None:
        self.span = text


class PickledArray:
    """An ndarray: `_reconstruct` makes an empty one, its state follows.

    `data` are the bytes of its items, or their place in the file; for an array of objects it is a list of them.
    """

    def __init__(self, *_arguments: object) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.int8)
        self.fortran = False
        self.data: bytes | Span | EncodedText | list[Any] = b""

    def build(self, state: Any) -> None:
        """Take shape, type, order and data. Raises PickleError where they do not fit."""
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, PickledDtype) or type(shape) is not tuple:
            raise PickleError("is damaged (an array without a type or a shape)")
        self.dtype = dtype.dtype
        self.fortran = bool(fortran)
        try:
            self.shape = checked_shape(shape, self.dtype.itemsize)
        except ValueError as error:
            raise PickleError(str(error)) from None
        if isinstance(data, str):
            data = data.encode("latin-1")
        if dtype.objects:
            fits = isinstance(data, list) and len(data) == math.prod(self.shape)
        else:
            fits = self._fits(data)
        if not fits:
            raise PickleError(f"is damaged (an array of shape {self.shape} whose data are of another size)")
        self.data = data

    def _fits(self, data: object) -> bool:
        """Whether data are as many bytes as the shape and the type of the numbers need."""
        needed = self._size()
        if isinstance(data, EncodedText):
            # Each byte over 127 takes two in UTF-8. The exact size is checked when the array is read.
            return needed <= data.span.size <= 2 * needed
        if isinstance(data, Span):
            return data.size == needed
        return isinstance(data, bytes) and len(data) == needed

    def _size(self) -> int:
        """The size in bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize

    def items(self) -> list[Any] | None:
        """The objects of an array of objects; None where it holds numbers."""
        if isinstance(self.data, list):
            return self.data
        return None

    def array(self, name: str, blob: Blob) -> Array:
        """The array by that name, its data still in `blob`, which is what the pickle was read from.

        Raises ModelFileError where `blob` is too short.
        """
        order: Order = "C"
        if self.fortran:
            order = "F"
        if isinstance(self.data, Span):
            return stored_array(name, blob, self.data.start, self.shape, self.dtype, order=order)
        source: Blob
        if isinstance(self.data, EncodedText):
            source = _EncodedBlob(blob, self.data.span, self._size())
        else:
            content = cast(bytes, self.data)
            source = _LoadedBlob(blob.path, content)
        return stored_array(name, source, 0, self.shape, self.dtype, order=order)


class _LoadedBlob:
    """A few bytes that came with the pickle."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.size = len(content)
        self._content = content

    def load(self, start: int, count: int) -> np.ndarray:
        """`count` bytes from `start` on."""
        loaded = np.frombuffer(self._content, np.uint8, count, start)
        return loaded.copy()


class _EncodedBlob:
    """`size` bytes that the pickle spells as UTF-8 text of the first 256 characters."""

    def __init__(self, blob: Blob, span: Span, size: int) -> None:
        self.path = blob.path
        self.size = size
        self._blob = blob
        self._span = span

    def load(self, start: int, count: int) -> np.ndarray:
        """`count` bytes from `start` on. Raises ModelFileError where the text does not spell bytes."""
        try:
            encoded = self._blob.load(self._span.start, self._span.size)
            text = str(encoded.data, "utf-8")
            decoded = bytearray(text, "latin-1")
        except UnicodeError:
            raise damaged(self.path, "is damaged (an array whose data are no bytes)") from None
        content = np.frombuffer(decoded, np.uint8)
        if len(content) != self.size:
            raise damaged(self.path, "is damaged (an array whose data are of another size)")
        return content[start : start + count]


def _encoded(text: object = "", encoding: object = "") -> bytes | EncodedText:
    """What `_codecs.encode` makes: the bytes of a text in Latin-1. A long text stays in the file."""
    if encoding not in _ENCODINGS:
        raise PickleError(f"is damaged (bytes spelt as {encoding!s:.40})")
    if isinstance(text, Span) and text.text:
        return EncodedText(text)
    if not isinstance(text, str):
        raise PickleError("is damaged (bytes that are no text)")
    return text.encode("latin-1")


def _reconstructed(*_arguments: object) -> PickledArray:
    """What `_reconstruct` makes: an array without its state."""
    return PickledArray()


def scalar(dtype: object, data: object) -> object:
    """A number of NumPy as Python's number. Raises PickleError."""
    content = data
    if isinstance(data, str):
        content = data.encode("latin-1")
    if not isinstance(dtype, PickledDtype) or dtype.objects or not isinstance(content, bytes):
        raise PickleError("is damaged (a number without a type)")
    numbers = np.frombuffer(content, dtype.dtype, 1)
    return numbers[0].item()


def _empty_bytes(*arguments: object) -> bytes:
    """What `bytes()` makes. Raises PickleError for a call with arguments, which could ask for any amount of memory."""
    if arguments:
        raise PickleError("calls bytes() with arguments")
    return b""


KNOWN: Mapping[str, Callable[..., object] | None] = {
    "numpy.core.multiarray._reconstruct": _reconstructed,
    "numpy._core.multiarray._reconstruct": _reconstructed,
    "numpy.core.multiarray.scalar": scalar,
    "numpy._core.multiarray.scalar": scalar,
    "numpy.ndarray": None,
    "numpy.dtype": PickledDtype,
    "_codecs.encode": _encoded,
    "__builtin__.bytes": _empty_bytes,
    "builtins.bytes": _empty_bytes,
}
