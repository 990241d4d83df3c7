"""The tar archives of the first PyTorch releases: `pickle` refers to tensors by number, `tensors` says how they view
storages, `storages` holds the numbers themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from os import SEEK_CUR
from pathlib import Path
from typing import Any

from skipway.interchange.containers.blobs import Blob, FileBlob, damaged, item_dtype
from skipway.interchange.containers.pickle_stream import PickleStream
from skipway.interchange.containers.pickle_values import Global, PickleError
from skipway.interchange.torch.checks import is_count, is_tuple
from skipway.interchange.torch.pickle import KNOWN, refused, unpickled
from skipway.interchange.torch.tensors import Storage, Tensor, storage_dtype, view

_PARTS = ("storages", "tensors", "pickle")
_BLOCK = 512
_MAX_MEMBERS = 16
_MAX_DIMENSIONS = 32


def is_tar(head: bytes, path: Path) -> bool:
    """Whether it is a tar archive that holds what torch.save once wrote."""
    if head[257:262] != b"ustar":
        return False
    try:
        names = set(_members(path))
    except (OSError, ValueError):
        return False
    return names.issuperset(_PARTS)


def read_tar(path: Path) -> tuple[Any, Blob]:
    """The pickled object, with tensors in place of references to them, and the bytes that it came from.

    Raises ModelFileError where the file is damaged.
    """
    starts = _members(path)
    size = path.stat().st_size
    whole = FileBlob(path, 0, size)
    with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
        storages = _storages(path, data, starts["storages"])
        tensors = _tensors(path, data, starts["tensors"], storages)
        stream = PickleStream(data, KNOWN, lambda reference: _find_tensor(path, reference, tensors))
        stream.position = starts["pickle"]
        return unpickled(path, stream), whole


def place(path: Path, data: mmap, position: int, storage: Storage) -> int:
    """Set where a storage lies: at `position`, behind its number of items (64 bits). Gives the position behind it.

    Raises ModelFileError where the number is another than the storage's, or the file too short.
    """
    (count,), position = _integers(path, data, position, "<q", 1)
    size = storage.count * item_dtype(storage.dtype).itemsize
    if count != storage.count or size > len(data) - position:
        raise damaged(path, f"is cut short or damaged (a storage of {size} bytes at byte {position})")
    storage.blob = FileBlob(path, 0, len(data))
    storage.start = position
    return position + size


def _members(path: Path) -> dict[str, int]:
    """Where the archive's files begin. Its headers are blocks of 512 bytes: a name, and the size in octal digits."""
    starts: dict[str, int] = {}
    with path.open("rb") as opened:
        for _ in range(_MAX_MEMBERS):
            header = opened.read(_BLOCK)
            digits = header[124:136].strip(b"\0 ")
            if len(header) < _BLOCK or not digits.isdigit():
                break
            kind = header[156:157]
            is_file = kind in {b"0", b"\0"}
            if is_file:
                name = header[:100].rstrip(b"\0").decode("latin-1")
                starts[name.removeprefix("./")] = opened.tell()
            size = int(digits, 8)
            blocks = -(-size // _BLOCK)
            opened.seek(blocks * _BLOCK, SEEK_CUR)
    return starts


def _integers(path: Path, data: mmap, position: int, form: str, count: int) -> tuple[tuple[int, ...], int]:
    """`count` numbers at `position`, and the position behind them. `form` is one number as `struct` describes it."""
    size = struct.calcsize(form) * count
    if not 0 <= count <= _MAX_DIMENSIONS or position + size > len(data):
        raise damaged(path, "is cut short or damaged (numbers behind its end)")
    byte_order, kind = form[0], form[1]
    values = struct.unpack(byte_order + kind * count, data[position : position + size])
    return values, position + size


def _storages(path: Path, data: mmap, position: int) -> dict[object, Storage]:
    """The storages by their keys: those with numbers of their own, then those that are parts of these."""
    stream = PickleStream(data, KNOWN)
    stream.position = position
    storages: dict[object, Storage] = {}
    count = _count(path, stream)
    for _ in range(count):
        key, _location, kind = _triple(path, stream)
        dtype = _dtype(path, kind)
        (items,), _ = _integers(path, data, stream.position, "<q", 1)
        storage = Storage(dtype, max(items, 0))
        stream.position = place(path, data, stream.position, storage)
        storages[key] = storage
    parts = unpickled(path, stream)
    if isinstance(parts, list):
        _add_parts(path, parts, storages)
    return storages


def _add_parts(path: Path, parts: list[Any], storages: dict[object, Storage]) -> None:
    """Add the storages that are parts of others. Raises ModelFileError where such a part is damaged."""
    for part in parts:
        if not is_tuple(part, 4) or part[1] not in storages:
            raise damaged(path, "is damaged (a part of a storage that is absent)")
        key, whole_key, skipped, count = part
        if not is_count(skipped) or not is_count(count):
            raise damaged(path, "is damaged (a part of a storage without a place)")
        whole = storages[whole_key]
        storages[key] = Storage(whole.dtype, count, whole=whole, skipped=skipped)


def _tensors(path: Path, data: mmap, position: int, storages: Mapping[object, Storage]) -> dict[object, Tensor]:
    """The tensors by their keys. Raises ModelFileError where one is damaged."""
    stream = PickleStream(data, KNOWN)
    stream.position = position
    tensors: dict[object, Tensor] = {}
    count = _count(path, stream)
    for _ in range(count):
        key, storage_key, _kind = _triple(path, stream)
        if storage_key not in storages:
            raise damaged(path, "is damaged (a tensor without its storage)")
        storage = storages[storage_key]
        (dimensions, _padding), position = _integers(path, data, stream.position, "<i", 2)
        shape, position = _integers(path, data, position, "<q", dimensions)
        strides, position = _integers(path, data, position, "<q", dimensions)
        (offset,), stream.position = _integers(path, data, position, "<q", 1)
        try:
            tensors[key] = view(storage, offset, shape, strides, storage.dtype)
        except PickleError as error:
            raise damaged(path, str(error)) from None
    return tensors


def _count(path: Path, stream: PickleStream) -> int:
    """A number of entries, the next object of the stream."""
    count = unpickled(path, stream)
    if not is_count(count):
        raise damaged(path, "is damaged (a number of items that is none)")
    return count


def _triple(path: Path, stream: PickleStream) -> tuple[Any, Any, Any]:
    """An entry, the next object of the stream: a key, a place or the key of a storage, and a type."""
    entry = unpickled(path, stream)
    problem = "is damaged (an entry that is no key, place and type)"
    if not is_tuple(entry, 3):
        raise damaged(path, problem)
    key, location, kind = entry
    if not isinstance(key, int | str) or not isinstance(location, int | str):
        raise damaged(path, problem)
    return key, location, kind


def _dtype(path: Path, kind: object) -> str:
    """The code of the items of a storage, whose class is `kind`. Raises ModelFileError."""
    name = ""
    if isinstance(kind, Global):
        name = kind.name
    try:
        return storage_dtype(name)
    except PickleError as error:
        raise damaged(path, str(error)) from None


def _find_tensor(path: Path, reference: object, tensors: Mapping[object, Tensor]) -> Tensor:
    """The tensor that the pickle refers to by its number, which is written as text or as a number."""
    if isinstance(reference, tuple):
        # So the pickle refers to the class of a network.
        name = ""
        if reference:
            name = getattr(reference[0], "name", "")
        raise refused(path, f"torch.nn.modules: {name}")
    key = _tensor_key(reference)
    if not isinstance(key, int) or key not in tensors:
        raise PickleError("is damaged (a reference to a tensor that is absent)")
    return tensors[key]


def _tensor_key(reference: object) -> object:
    """The number that a text spells; anything else as it is."""
    if not isinstance(reference, str):
        return reference
    if reference.isdecimal() and len(reference) < 20:
        return int(reference)
    return reference
