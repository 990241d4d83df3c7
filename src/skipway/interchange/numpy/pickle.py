"""NumPy arrays inside pickles: what `ndarray.__reduce__` writes, under Python 2 and 3, NumPy 1 and 2."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from skipway.interchange.containers.blobs import Blob, checked_shape, damaged, stored_array
from skipway.interchange.containers.pickle_values import PickleError, Span
from skipway.interchange.source import Array

# Booleans, integers, floats, complex numbers and texts; nothing that could hold an object.
_ITEM = re.compile(r"([biu]1|[iuf][248]|c8|c16|[SU][1-9]\d{0,5})")
_ENCODINGS = {"latin1", "latin-1", "iso-8859-1"}


def numeric_dtype(code: str) -> np.dtype[Any]:
    """The type that a code such as 'f4' or '<f4' stands for. Raises ValueError for any but plain numbers and texts."""
    order, item = (code[0], code[1:]) if code[:1] in {"<", ">", "|", "="} else ("", code)
    if item == "?":
        item = "b1"
    if _ITEM.fullmatch(item) is None:
        raise ValueError(f"holds items of type {code[:40]!r}, which are no numbers")
    return np.dtype(("<" if order == "=" else order) + item)


class PickledDtype:
    """A dtype: the code first, the byte order with the state that follows."""

    def __init__(self, code: object, _align: object = False, _copy: object = False) -> None:  # noqa: FBT002
        if isinstance(code, bytes):
            code = code.decode("latin-1")
        if not isinstance(code, str):
            raise PickleError("holds a structured array, which no weights are")
        self.objects = code in {"O", "O4", "O8", "|O", "object"}
        try:
            self.dtype = np.dtype(np.int8) if self.objects else numeric_dtype(code)
        except ValueError as error:
            raise PickleError(str(error)) from None

    def build(self, state: Any) -> None:
        order: Any = state[1]
        rest = state[2:]
        order = order.decode("latin-1") if isinstance(order, bytes) else order
        if order not in {"<", ">", "|"} or any(part is not None for part in rest[:3]):
            raise PickleError("holds a structured array, which no weights are")
        self.dtype = self.dtype.newbyteorder(order)


class EncodedText:
    """Bytes that Python 3 wrote for Python 2: text, to be encoded as Latin-1."""

    def __init__(self, text: Span) -> None:
        self.span = text


class PickledArray:
    """An ndarray: `_reconstruct` makes an empty one, its state follows. `data` is a list for an array of objects."""

    def __init__(self, *_arguments: object) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.int8)
        self.fortran = False
        self.data: bytes | Span | EncodedText | list[Any] = b""

    def build(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, PickledDtype) or type(shape) is not tuple:
            raise PickleError("is damaged (an array without a type or a shape)")
        self.dtype, self.fortran = dtype.dtype, bool(fortran)
        try:
            self.shape = checked_shape(shape, self.dtype.itemsize)
        except ValueError as error:
            raise PickleError(str(error)) from None
        if isinstance(data, str):
            data = data.encode("latin-1")
        needed = math.prod(self.shape) * self.dtype.itemsize
        if dtype.objects:
            fits = isinstance(data, list) and len(data) == math.prod(self.shape)
        elif isinstance(data, EncodedText):  # each byte over 127 takes two in UTF-8; the rest is checked when read
            fits = needed <= data.span.size <= 2 * needed
        elif isinstance(data, Span):
            fits = data.size == needed
        else:
            fits = isinstance(data, bytes) and len(data) == needed
        if not fits:
            raise PickleError(f"is damaged (an array of shape {self.shape} whose data are of another size)")
        self.data = data

    def items(self) -> list[Any] | None:
        """The objects of an array of objects; None where it holds numbers."""
        return self.data if isinstance(self.data, list) else None

    def array(self, name: str, blob: Blob) -> Array:
        """The array by that name, its data still in `blob`, which is what the pickle was read from."""
        order = cast(Any, "F" if self.fortran else "C")
        if isinstance(self.data, Span):
            return stored_array(name, blob, self.data.start, self.shape, self.dtype, order=order)
        if isinstance(self.data, EncodedText):
            source: Blob = _EncodedBlob(blob, self.data.span, math.prod(self.shape) * self.dtype.itemsize)
        else:
            source = _LoadedBlob(blob.path, cast(bytes, self.data))
        return stored_array(name, source, 0, self.shape, self.dtype, order=order)


class _LoadedBlob:
    """Few bytes that came with the pickle."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.size, self._content = path, len(content), content

    def load(self, start: int, count: int) -> np.ndarray:
        return np.frombuffer(self._content, np.uint8, count, start).copy()


class _EncodedBlob:
    """Bytes spelt as UTF-8 text of the first 256 characters."""

    def __init__(self, blob: Blob, span: Span, size: int) -> None:
        self.path, self.size, self._blob, self._span = blob.path, size, blob, span

    def load(self, start: int, count: int) -> np.ndarray:
        try:
            text = str(self._blob.load(self._span.start, self._span.size).data, "utf-8")
            content = np.frombuffer(bytearray(text, "latin-1"), np.uint8)
        except UnicodeError:
            raise damaged(self.path, "is damaged (an array whose data are no bytes)") from None
        if len(content) != self.size:
            raise damaged(self.path, "is damaged (an array whose data are of another size)")
        return content[start : start + count]


def _encoded(text: object = "", encoding: object = "") -> bytes | EncodedText:
    if encoding not in _ENCODINGS:
        raise PickleError(f"is damaged (bytes spelt as {encoding!s:.40})")
    if isinstance(text, Span) and text.text:
        return EncodedText(text)
    if not isinstance(text, str):
        raise PickleError("is damaged (bytes that are no text)")
    return text.encode("latin-1")


def _reconstructed(*_arguments: object) -> PickledArray:
    return PickledArray()


def scalar(dtype: object, data: object) -> object:
    """A NumPy number as Python's."""
    content = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(dtype, PickledDtype) or dtype.objects or not isinstance(content, bytes):
        raise PickleError("is damaged (a number without a type)")
    return np.frombuffer(content, dtype.dtype, 1)[0].item()


def _empty_bytes(*arguments: object) -> bytes:
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
