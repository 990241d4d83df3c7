"""NumPy files: `.npy` and `.npz`, above all the `.npy` of caffe-tensorflow, a pickled dictionary of layers.

`bvlc_alexnet.npy` holds {"conv1": [weights, biases], ...}; later files of the kind {"conv1": {"weights": ..., ...}}.
Arrays are named `conv1/weights`, `conv1/biases` in both cases, kernels lie as (height, width, input, output).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import Blob, FileBlob, Order, checked_shape, damaged, named, stored_array
from skipway.interchange.containers.pickle_stream import PickleStream
from skipway.interchange.containers.pickle_values import PickleError, UnknownGlobalError
from skipway.interchange.containers.zips import SIGNATURE as ZIP_SIGNATURE
from skipway.interchange.containers.zips import ZipMember, members
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.numpy import pickle as numpy_pickle
from skipway.interchange.numpy.pickle import PickledArray, numeric_dtype
from skipway.interchange.source import Array, Layer, Notes, WeightFile

SIGNATURE = b"\x93NUMPY"
PAIR = ("weights", "biases")
_MAX_HEADER = 10_000  # NumPy's own bound
_MAX_OBJECTS = 64 << 20  # of a pickle inside an .npz, which is not mapped but loaded
_DESCRIPTION = re.compile(r"""['"]descr['"]\s*:\s*['"]([^'"]{1,16})['"]""")
_FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\dL,\s]*)\)""")
_OBJECTS = "|O"  # the code of an array of Python objects
_MAX_ARRAYS = 50_000  # one list can be the content of a million layers
_SAVE_AGAIN = 'save a dictionary of name -> [weights, biases] with numpy.save("weights.npy", dictionary)'


@dataclass
class _Found:
    """What a file holds: arrays, layers, and the names of what is neither."""

    arrays: list[Array] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Header:
    """The header of a `.npy`: where the data begin, the code of their type, their order and their shape."""

    start: int
    code: str
    fortran: bool
    shape: tuple[int, ...]


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001 (all formats are asked alike)
    """Whether a file that begins with `head` is a `.npy`, or a `.npz` (a zip whose first member is a `.npy`)."""
    if head.startswith(ZIP_SIGNATURE):
        name_length = int.from_bytes(head[26:28], "little")
        first_name = head[30 : 30 + name_length]
        return first_name.endswith(b".npy")
    return head.startswith(SIGNATURE)


def read(path: Path) -> WeightFile:
    """Read the arrays of a `.npy` or `.npz` file. Raises ModelFileError."""
    head = checked_head(path)
    if head.startswith(ZIP_SIGNATURE):
        return _read_archive(path)
    if not head.startswith(SIGNATURE):
        raise ModelFileError(f"{path} is no NumPy file but {describe_foreign(head)}")
    size = path.stat().st_size
    whole = FileBlob(path, 0, size)
    header = _read_header(whole)
    if header.code != _OBJECTS:
        array = _plain_array(path.stem, whole, header)
        return WeightFile("npy", path, named(path, [array]), notes={"form": "array"})
    with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
        root = _unpickled(path, data, header.start)
    found = _Found()
    _add_objects(found, path, root, whole)
    arrays, layers, left_out = found.arrays, found.layers, found.left_out
    if not arrays:
        raise damaged(path, "holds no arrays", _SAVE_AGAIN)
    notes: Notes = {"form": "dictionary of layers" if layers else "dictionary of arrays", "left_out": left_out}
    return WeightFile("npy", path, named(path, arrays), tuple(layers), notes=notes)


def _read_archive(path: Path) -> WeightFile:
    """Read the arrays of a `.npz`, whose members are `.npy` files."""
    found = _Found()
    for member in members(path).values():
        if member.name.endswith(".npy"):
            _add_member(found, path, member)
        else:
            found.left_out.append(member.name)
    arrays, layers, left_out = found.arrays, found.layers, found.left_out
    if not arrays:
        raise damaged(path, "is an archive without arrays", "name the file that holds the weights")
    return WeightFile("npz", path, named(path, arrays), tuple(layers), notes={"form": "archive", "left_out": left_out})


def _add_member(found: _Found, path: Path, member: ZipMember) -> None:
    """Add what a `.npy` inside an archive holds. Raises ModelFileError where it is damaged."""
    name = member.name.removesuffix(".npy")
    header = _read_header(member)
    if header.code != _OBJECTS:
        array = _plain_array(name, member, header)
        found.arrays.append(array)
        return
    if member.size > _MAX_OBJECTS:
        raise damaged(path, f"holds a pickle of {member.size} bytes as {name!r}", "save its arrays one by one")
    root = _unpickled(path, member.content(), header.start)
    _add_objects(found, path, root, member)


def _read_header(blob: Blob) -> _Header:
    """Read the header of a `.npy`. Raises ModelFileError where it is damaged."""
    path = blob.path
    begin, size = _header_place(blob)
    text = blob.load(begin, size).tobytes().decode("latin-1")
    code = _DESCRIPTION.search(text)
    fortran = _FORTRAN.search(text)
    shape = _SHAPE.search(text)
    if code is None and "'descr': [" in text:
        raise damaged(path, "holds a structured array, which no weights are", "save its fields one by one")
    if code is None or fortran is None or shape is None:
        raise damaged(path, "is damaged (its header says neither type nor shape)")
    sizes = _sizes(path, shape[1])
    return _Header(begin + size, code[1], fortran[1] == "True", sizes)


def _header_place(blob: Blob) -> tuple[int, int]:
    """Where the text of the header begins, and its size in bytes. Raises ModelFileError."""
    path = blob.path
    prefix = blob.load(0, min(12, blob.size)).tobytes()
    if len(prefix) < 12 or not prefix.startswith(SIGNATURE) or prefix[6] not in {1, 2, 3}:
        raise damaged(path, "is no NumPy array or one of an unknown version")
    begin = 12
    if prefix[6] == 1:
        begin = 10
    size = int.from_bytes(prefix[8:begin], "little")
    if size > min(_MAX_HEADER, blob.size - begin):
        raise damaged(path, f"is cut short or damaged (a header of {size} bytes)")
    return begin, size


def _sizes(path: Path, text: str) -> tuple[int, ...]:
    """The sizes of a shape from its text. Raises ModelFileError where they are no numbers."""
    sizes: list[int] = []
    for part in text.split(","):
        digits = part.strip()
        if not digits:
            continue
        digits = digits.rstrip("L")  # Python 2 marks long integers with an L
        if not digits.isdecimal() or len(digits) >= 20:
            raise damaged(path, "is damaged (a shape that is no numbers)")
        sizes.append(int(digits))
    return tuple(sizes)


def _plain_array(name: str, blob: Blob, header: _Header) -> Array:
    """An array of numbers. Raises ModelFileError for other items, and for a shape that no array can have."""
    try:
        dtype = numeric_dtype(header.code)
        checked_shape(header.shape, dtype.itemsize)
    except ValueError as error:
        raise damaged(blob.path, str(error), "save its numbers alone") from None
    order: Order = "C"
    if header.fortran:
        order = "F"
    return stored_array(name, blob, header.start, header.shape, dtype, order=order)


def _unpickled(path: Path, data: bytes | mmap, start: int) -> Any:
    """The object of the pickle that begins at `start`. Raises ModelFileError."""
    stream = PickleStream(data, numpy_pickle.KNOWN)
    stream.position = start
    try:
        return stream.load()
    except UnknownGlobalError as error:
        raise damaged(path, str(error), _SAVE_AGAIN) from None
    except PickleError as error:
        raise ModelFileError(f"{path} {error}; copy it again, or {_SAVE_AGAIN}") from None


def _add_objects(found: _Found, path: Path, root: Any, blob: Blob) -> None:
    """Add the arrays and layers of a dictionary of arrays or of layers, or of a list of either.

    `root` is the unpickled object, `blob` the bytes that it came from. Raises ModelFileError for anything else.
    """
    pairs = _pairs(path, root)
    count = sum(_count(value) for _, value in pairs)
    if count > _MAX_ARRAYS:
        raise damaged(path, f"holds over {_MAX_ARRAYS} arrays, no network does", "get it from its author")
    for key, value in pairs:
        name = _name(key)
        if _is_numbers(value):
            found.arrays.append(value.array(name, blob))
            continue
        arrays = _layer_arrays(name, value, blob)
        if not arrays:
            found.left_out.append(name)
            continue
        found.arrays += arrays
        array_names = tuple(array.name for array in arrays)
        found.layers.append(Layer(name, "", arrays=array_names))


def _layer_arrays(name: str, layer: Any, blob: Blob) -> list[Array]:
    """The arrays of numbers that a layer holds, under its name and theirs."""
    arrays: list[Array] = []
    for label, part in _parts(layer):
        if _is_numbers(part):
            array = part.array(f"{name}/{label}", blob)
            arrays.append(array)
    return arrays


def _pairs(path: Path, root: Any) -> list[tuple[Any, Any]]:
    """The keys and values of the object in an array of objects. Raises ModelFileError where the array holds none."""
    items = root.items() if isinstance(root, PickledArray) else None
    if items is None:
        raise damaged(path, "holds no dictionary of layers", _SAVE_AGAIN)
    content: Any = items
    if root.shape == ():
        content = items[0]
    if isinstance(content, dict):
        return list(content.items())
    if isinstance(content, list | tuple):
        return list(enumerate(content))
    return []


def _parts(layer: Any) -> Iterator[tuple[str, Any]]:
    """What one layer holds, by name. A list of up to two is weights, then biases."""
    content = _content(layer)
    if isinstance(content, dict):
        for key, value in content.items():
            yield _name(key), value
    elif isinstance(content, list | tuple):
        labels = labels_of(len(content))
        yield from zip(labels, content, strict=True)


def labels_of(count: int) -> tuple[str, ...]:
    """The names of the arrays in a layer that is a list of `count` of them: up to two are weights and biases."""
    if count <= len(PAIR):
        return PAIR[:count]
    return tuple(str(index) for index in range(count))


def _count(layer: Any) -> int:
    """How many arrays a layer may hold."""
    content = _content(layer)
    if isinstance(content, dict | list | tuple):
        return len(content)
    return 1


def _content(layer: Any) -> Any:
    """A layer, or the objects in it where it is an array of objects. None where it is an array of numbers."""
    if isinstance(layer, PickledArray):
        return layer.items()
    return layer


def _is_numbers(value: object) -> bool:
    """Whether it is an array that holds no objects."""
    return isinstance(value, PickledArray) and value.items() is None


def _name(key: object) -> str:
    """A key as the name of an array or a layer, cut where it is too long."""
    if isinstance(key, bytes):
        return key.decode("latin-1")[:200]
    return str(key)[:200]
