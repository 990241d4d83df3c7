"""NumPy files: `.npy` and `.npz`, above all the `.npy` of caffe-tensorflow, a pickled dictionary of layers.

`bvlc_alexnet.npy` holds {"conv1": [weights, biases], ...}; later files of the kind {"conv1": {"weights": ..., ...}}.
Arrays are named `conv1/weights`, `conv1/biases` in both cases, kernels lie as (height, width, input, output).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import Blob, FileBlob, checked_shape, damaged, named, stored_array
from skipway.interchange.containers.pickle_stream import PickleStream
from skipway.interchange.containers.pickle_values import PickleError, UnknownGlobalError
from skipway.interchange.containers.zips import SIGNATURE as ZIP_SIGNATURE
from skipway.interchange.containers.zips import members
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.numpy import pickle as numpy_pickle
from skipway.interchange.numpy.pickle import PickledArray, numeric_dtype
from skipway.interchange.source import Array, Layer, Notes, Source

SIGNATURE = b"\x93NUMPY"
PAIR = ("weights", "biases")
_MAX_HEADER = 10_000  # NumPy's own bound
_MAX_OBJECTS = 64 << 20  # of a pickle inside an .npz, which is not mapped but loaded
_DESCRIPTION = re.compile(r"""['"]descr['"]\s*:\s*['"]([^'"]{1,16})['"]""")
_FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\dL,\s]*)\)""")
_MAX_ARRAYS = 50_000  # one list can be the content of a million layers
_SAVE_AGAIN = 'save a dictionary of name -> [weights, biases] with numpy.save("weights.npy", dictionary)'


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001 (all formats are asked alike)
    """Whether a file that begins with `head` is a `.npy`, or a `.npz` (a zip whose first member is a `.npy`)."""
    if head.startswith(ZIP_SIGNATURE):
        return head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".npy")
    return head.startswith(SIGNATURE)


def read(path: Path) -> Source:
    """The arrays of a `.npy` or `.npz` file. Raises ModelFileError."""
    head = checked_head(path)
    if head.startswith(ZIP_SIGNATURE):
        return _read_archive(path)
    if not head.startswith(SIGNATURE):
        raise ModelFileError(f"{path} is no NumPy file but {describe_foreign(head)}")
    whole = FileBlob(path, 0, path.stat().st_size)
    start, description, fortran, shape = _header(whole)
    if description != "|O":
        array = _plain(path.stem, whole, start, description, fortran, shape)
        return Source("npy", path, named(path, [array]), notes={"form": "array"})
    with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
        root = _unpickled(path, data, start)
    arrays, layers, left_out = _flattened(path, root, whole)
    if not arrays:
        raise damaged(path, "holds no arrays", _SAVE_AGAIN)
    notes: Notes = {"form": "dictionary of layers" if layers else "dictionary of arrays", "left_out": left_out}
    return Source("npy", path, named(path, arrays), tuple(layers), notes=notes)


def _read_archive(path: Path) -> Source:
    arrays: list[Array] = []
    layers: list[Layer] = []
    left_out: list[str] = []
    for member in members(path).values():
        if not member.name.endswith(".npy"):
            left_out.append(member.name)
            continue
        name = member.name.removesuffix(".npy")
        start, description, fortran, shape = _header(member)
        if description != "|O":
            arrays.append(_plain(name, member, start, description, fortran, shape))
            continue
        if member.size > _MAX_OBJECTS:
            raise damaged(path, f"holds a pickle of {member.size} bytes as {name!r}", "save its arrays one by one")
        more, described, without = _flattened(path, _unpickled(path, member.content(), start), member)
        arrays += more
        layers += described
        left_out += without
    if not arrays:
        raise damaged(path, "is an archive without arrays", "name the file that holds the weights")
    return Source("npz", path, named(path, arrays), tuple(layers), notes={"form": "archive", "left_out": left_out})


def _header(blob: Blob) -> tuple[int, str, bool, tuple[int, ...]]:
    """Where the data begin, the code of their type, whether they lie in Fortran's order, and their shape."""
    path = blob.path
    prefix = blob.load(0, min(12, blob.size)).tobytes()
    if len(prefix) < 12 or not prefix.startswith(SIGNATURE) or prefix[6] not in {1, 2, 3}:
        raise damaged(path, "is no NumPy array or one of an unknown version")
    begin = 10 if prefix[6] == 1 else 12
    size = int.from_bytes(prefix[8:begin], "little")
    if size > min(_MAX_HEADER, blob.size - begin):
        raise damaged(path, f"is cut short or damaged (a header of {size} bytes)")
    text = blob.load(begin, size).tobytes().decode("latin-1")
    found = [pattern.search(text) for pattern in (_DESCRIPTION, _FORTRAN, _SHAPE)]
    if found[0] is None and "'descr': [" in text:
        raise damaged(path, "holds a structured array, which no weights are", "save its fields one by one")
    description, fortran, shape = (match.group(1) if match else "" for match in found)
    if not all(found):
        raise damaged(path, "is damaged (its header says neither type nor shape)")
    # Python 2 marks long integers with an L.
    sizes = [size.strip().rstrip("L") for size in shape.split(",") if size.strip()]
    if not all(size.isdecimal() and len(size) < 20 for size in sizes):
        raise damaged(path, "is damaged (a shape that is no numbers)")
    return begin + size, description, fortran == "True", tuple(int(size) for size in sizes)


def _plain(name: str, blob: Blob, start: int, code: str, fortran: bool, shape: tuple[int, ...]) -> Array:  # noqa: FBT001
    try:
        dtype = numeric_dtype(code)
        checked_shape(shape, dtype.itemsize)
    except ValueError as error:
        raise damaged(blob.path, str(error), "save its numbers alone") from None
    return stored_array(name, blob, start, shape, dtype, order="F" if fortran else "C")


def _unpickled(path: Path, data: bytes | mmap, start: int) -> Any:
    stream = PickleStream(data, numpy_pickle.KNOWN)
    stream.position = start
    try:
        return stream.load()
    except UnknownGlobalError as error:
        raise damaged(path, str(error), _SAVE_AGAIN) from None
    except PickleError as error:
        raise ModelFileError(f"{path} {error}; copy it again, or {_SAVE_AGAIN}") from None


def _flattened(path: Path, root: Any, blob: Blob) -> tuple[list[Array], list[Layer], list[str]]:
    """Arrays, layers, and the names of what is neither: a dictionary of arrays or of layers, or a list of either."""
    items = root.items() if isinstance(root, PickledArray) else None
    if items is None or not isinstance(root, PickledArray):
        raise damaged(path, "holds no dictionary of layers", _SAVE_AGAIN)
    content = items[0] if root.shape == () else items
    pairs = list(content.items() if isinstance(content, dict) else enumerate(content) if _listed(content) else ())
    if sum(_count(value) for _, value in pairs) > _MAX_ARRAYS:
        raise damaged(path, f"holds over {_MAX_ARRAYS} arrays, no network does", "get it from its author")
    arrays: list[Array] = []
    layers: list[Layer] = []
    left_out: list[str] = []
    for key, value in pairs:
        name = _name(key)
        if isinstance(value, PickledArray) and value.items() is None:
            arrays.append(value.array(name, blob))
            continue
        own = [
            part.array(f"{name}/{label}", blob)
            for label, part in _parts(value)
            if isinstance(part, PickledArray) and part.items() is None
        ]
        if own:
            arrays += own
            layers.append(Layer(name, "", arrays=tuple(array.name for array in own)))
        else:
            left_out.append(name)
    return arrays, layers, left_out


def _parts(layer: Any) -> Iterator[tuple[str, Any]]:
    """What one layer holds, by name. A list of up to two is weights, then biases."""
    if isinstance(layer, PickledArray):
        layer = layer.items()
    if isinstance(layer, dict):
        yield from ((_name(key), value) for key, value in layer.items())
    elif _listed(layer):
        labels = PAIR if len(layer) <= len(PAIR) else tuple(str(index) for index in range(len(layer)))
        yield from zip(labels, layer, strict=False)


def _count(layer: Any) -> int:
    content = layer.items() if isinstance(layer, PickledArray) else layer
    return len(content) if isinstance(content, dict | list | tuple) else 1


def _listed(value: object) -> bool:
    return isinstance(value, list | tuple)


def _name(key: object) -> str:
    return (key.decode("latin-1") if isinstance(key, bytes) else str(key))[:200]
