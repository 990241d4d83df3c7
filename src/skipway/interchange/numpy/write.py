"""Write the `.npy` of caffe-tensorflow and plain `.npz` archives.

The pickle is spelt as Python 2 spells its protocol 2, arrays as byte strings: Python 2 reads it, and so does
`numpy.load(FILE, allow_pickle=True, encoding="latin1")` of Python 3, where one of Python 3's own could not be read by
the scripts that these files are for.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.numpy.read import labels_of

Form = Literal["list", "dict"]

_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
_OBJECT_DTYPE = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
_MAX_STRING = (1 << 31) - 1
# Codes of pickle's machine, as Python's module `pickle` names them.
_PROTO_2 = b"\x80\x02"
_EMPTY_DICT, _EMPTY_LIST, _MARK = b"}", b"]", b"("
_APPENDS, _SETITEMS = b"e", b"u"
_TUPLE, _BUILD, _STOP = b"t", b"b", b"."
_NEWFALSE = b"\x89"


def write_npy(path: Path, arrays: Mapping[str, np.ndarray], form: Form = "list") -> None:
    """Write `conv1/weights`, `conv1/biases`... as {"conv1": [weights, biases]}, or as {"conv1": {"weights": ...}}.

    `form` chooses. Raises ModelFileError for names that the form cannot hold, StorageError where the disk cannot.
    """
    layers = _by_layer(arrays)
    if form == "list":
        for layer, parts in layers.items():
            _check_list(layer, parts)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            _write_layers(opened, layers, form)

    write_whole(path, fill)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as an uncompressed `.npz`. Raises StorageError; ModelFileError for arrays of objects."""
    for name, array in arrays.items():
        _check_plain(name, array)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:  # np.savez would add an ending to a name
            np.savez(opened, allow_pickle=False, **dict(arrays))

    write_whole(path, fill)


def _by_layer(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays by their layer and their name in it. Raises ModelFileError for names and arrays that do not fit."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, _slash, part = name.rpartition("/")
        if not layer or not part:
            raise ModelFileError(f"{name!r} names no part of a layer; name arrays LAYER/weights and LAYER/biases")
        _check_plain(name, array)
        if array.nbytes > _MAX_STRING:
            raise ModelFileError(f"{name} has over 2 GiB, more than Python 2's pickles hold; write another format")
        parts = layers.setdefault(layer, {})
        parts[part] = array
    return layers


def _check_list(layer: str, parts: Mapping[str, object]) -> None:
    """Raise ModelFileError unless a list of these arrays gives them the same names when it is read."""
    labels = labels_of(len(parts))
    if set(parts) != set(labels):
        raise ModelFileError(f"{layer} has {sorted(parts)}, not weights and biases; write the form `dict`")


def _check_plain(name: str, array: np.ndarray) -> None:
    """Raise ModelFileError for an array that holds no numbers."""
    if array.dtype.kind not in "biufc":
        raise ModelFileError(f"{name} is of type {array.dtype}, not of numbers; convert it")


def _write_layers(opened: BinaryIO, layers: Mapping[str, Mapping[str, np.ndarray]], form: Form) -> None:
    """Write a 0-dimensional array of objects, whose one object is the dictionary of the layers."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    opened.write(header.getvalue())
    opened.write(_PROTO_2 + _RECONSTRUCT)
    opened.write(_MARK + b"K\x01)" + _OBJECT_DTYPE + _NEWFALSE)
    opened.write(_EMPTY_LIST + _MARK + _EMPTY_DICT + _MARK)
    for layer, parts in layers.items():
        opened.write(_string(layer.encode()))
        if form == "dict":
            _write_dict(opened, parts)
        else:
            _write_list(opened, parts)
    opened.write(_SETITEMS + _APPENDS + _TUPLE + _BUILD + _STOP)


def _write_dict(opened: BinaryIO, parts: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of a layer as a dictionary."""
    opened.write(_EMPTY_DICT + _MARK)
    for part, array in parts.items():
        opened.write(_string(part.encode()))
        _write_array(opened, array)
    opened.write(_SETITEMS)


def _write_list(opened: BinaryIO, parts: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of a layer as a list, in the order of their names."""
    opened.write(_EMPTY_LIST + _MARK)
    for label in labels_of(len(parts)):
        _write_array(opened, parts[label])
    opened.write(_APPENDS)


def _write_array(opened: BinaryIO, array: np.ndarray) -> None:
    """Write an array of numbers, little-endian and in C order."""
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    shape = b"".join(_integer(size) for size in little.shape)
    code = little.dtype.str[1:].encode()
    order = b"<"
    if little.dtype.itemsize == 1:
        order = b"|"
    opened.write(_RECONSTRUCT + b"(K\x01(" + shape + b"t")
    opened.write(b"cnumpy\ndtype\n" + _string(code) + b"K\x00K\x01\x87R")
    opened.write(b"(K\x03" + _string(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
    opened.write(b"T" + struct.pack("<i", little.nbytes))
    opened.write(little.reshape(-1).view(np.uint8).data)
    opened.write(b"tb")


def _string(content: bytes) -> bytes:
    """Pickle a string: its length is one byte where it fits, else four."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    length = struct.pack("<i", len(content))
    return b"T" + length + content


def _integer(value: int) -> bytes:
    """Pickle an integer of 32 bits where it fits, else of 64."""
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
