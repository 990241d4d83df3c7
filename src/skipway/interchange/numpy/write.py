"""Write the `.npy` of caffe-tensorflow and plain `.npz` archives.

The pickle is spelt as Python 2 spells its protocol 2, arrays as byte strings: Python 2 reads it, and so does
`numpy.load(FILE, allow_pickle=True, encoding="latin1")` of Python 3, where one of Python 3's own could not be read by
the scripts that these files are for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.numpy.read import PAIR

Form = Literal["list", "dict"]

_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
_OBJECT_DTYPE = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
_MAX_STRING = (1 << 31) - 1


def write_npy(path: Path, arrays: Mapping[str, np.ndarray], form: Form = "list") -> None:
    """Write `conv1/weights`, `conv1/biases`... as {"conv1": [weights, biases]}, or as {"conv1": {"weights": ...}}.

    Raises ModelFileError for names that the form cannot hold, StorageError where the disk cannot.
    """
    layers = _by_layer(arrays, form)
    write_whole(path, lambda temporary: _write(temporary, layers, form))


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as an uncompressed `.npz`. Raises StorageError; ModelFileError for arrays of objects."""
    for name, array in arrays.items():
        _check_plain(name, array)
    write_whole(path, lambda temporary: _write_npz(temporary, arrays))


def _write_npz(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with file.open("wb") as opened:  # np.savez would add an ending to a name
        np.savez(opened, allow_pickle=False, **dict(arrays))


def _by_layer(arrays: Mapping[str, np.ndarray], form: Form) -> dict[str, dict[str, np.ndarray]]:
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, separator, part = name.rpartition("/")
        if not separator or not layer or not part:
            raise ModelFileError(f"{name!r} names no part of a layer; name arrays LAYER/weights and LAYER/biases")
        _check_plain(name, array)
        if array.nbytes > _MAX_STRING:
            raise ModelFileError(f"{name} has over 2 GiB, more than Python 2's pickles hold; write another format")
        layers.setdefault(layer, {})[part] = array
    for layer, parts in layers.items():
        if form == "list" and not _is_list(parts):
            raise ModelFileError(f"{layer} has {sorted(parts)}, not weights and biases; write the form `dict`")
    return layers


def _is_list(parts: Mapping[str, object]) -> bool:
    """Whether a list of these arrays gives them the same names when it is read."""
    numbers = {str(index) for index in range(len(parts))}
    return set(parts) == set(PAIR[: len(parts)]) or (len(parts) > len(PAIR) and set(parts) == numbers)


def _check_plain(name: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "biufc":
        raise ModelFileError(f"{name} is of type {array.dtype}, not of numbers; convert it")


def _write(file: Path, layers: Mapping[str, Mapping[str, np.ndarray]], form: Form) -> None:
    with file.open("wb") as opened:
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
        opened.write(header.getvalue())
        # A 0-dimensional array of objects: its one object is the dictionary.
        opened.write(b"\x80\x02" + _RECONSTRUCT + b"(K\x01)" + _OBJECT_DTYPE + b"\x89](}(")
        for layer, parts in layers.items():
            opened.write(_string(layer.encode()))
            opened.write(b"}(" if form == "dict" else b"](")
            for part, array in _ordered(parts, form):
                if form == "dict":
                    opened.write(_string(part.encode()))
                _write_array(opened, array)
            opened.write(b"u" if form == "dict" else b"e")
        opened.write(b"uetb.")


def _ordered(parts: Mapping[str, np.ndarray], form: Form) -> Iterator[tuple[str, np.ndarray]]:
    names: Any = parts
    if form == "list":
        names = PAIR[: len(parts)] if len(parts) <= len(PAIR) else [str(index) for index in range(len(parts))]
    yield from ((name, parts[name]) for name in names)


def _write_array(opened: BinaryIO, array: np.ndarray) -> None:
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    order = b"|" if little.dtype.itemsize == 1 else b"<"
    opened.write(_RECONSTRUCT + b"(K\x01(" + b"".join(map(_integer, little.shape)) + b"t")
    opened.write(b"cnumpy\ndtype\n" + _string(little.dtype.str[1:].encode()) + b"K\x00K\x01\x87R")
    opened.write(b"(K\x03" + _string(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
    opened.write(b"T" + struct.pack("<i", little.nbytes))
    opened.write(little.reshape(-1).view(np.uint8).data)
    opened.write(b"tb")


def _string(content: bytes) -> bytes:
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<i", len(content)) + content


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)
