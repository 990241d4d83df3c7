"""The tar archives of the first PyTorch releases: `pickle` refers to tensors by number, `tensors` says how they view
storages, `storages` holds the numbers themselves."""

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
from skipway.interchange.torch.pickle import KNOWN, Storage, Tensor, refused, storage_dtype, unpickled, view

_PARTS = ("storages", "tensors", "pickle")
_BLOCK = 512
_MAX_MEMBERS = 16
_MAX_DIMENSIONS = 32


def is_tar(head: bytes, path: Path) -> bool:
    """Whether it is a tar archive that holds what torch.save once wrote."""
    if head[257:262] != b"ustar":
        return False
    try:
        return set(_PARTS) <= set(_members(path))
    except (OSError, ValueError):
        return False


def read_tar(path: Path) -> tuple[Any, Blob]:
    """The pickled object, with tensors in place of references to them, and the bytes that it came from."""
    spans = _members(path)
    whole = FileBlob(path, 0, path.stat().st_size)
    with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
        storages = _storages(path, data, spans["storages"])
        tensors = _tensors(path, data, spans["tensors"], storages)
        stream = PickleStream(data, KNOWN, lambda told: _resolved(path, told, tensors))
        stream.position = spans["pickle"]
        return unpickled(path, stream), whole


def place(path: Path, data: mmap, position: int, storage: Storage) -> int:
    """Put a storage where its number of items (64 bits) and then the items lie; gives the position behind it."""
    count, position = _integers(path, data, position, "<q", 1)
    size = storage.count * item_dtype(storage.dtype).itemsize
    if count != (storage.count,) or size > len(data) - position:
        raise damaged(path, f"is cut short or damaged (a storage of {size} bytes at byte {position})")
    storage.blob, storage.start = FileBlob(path, 0, len(data)), position
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
            if header[156:157] in {b"0", b"\0"}:
                starts[header[:100].rstrip(b"\0").decode("latin-1").removeprefix("./")] = opened.tell()
            opened.seek(-(-int(digits, 8) // _BLOCK) * _BLOCK, SEEK_CUR)
    return starts


def _integers(path: Path, data: mmap, position: int, form: str, count: int) -> tuple[tuple[int, ...], int]:
    size = struct.calcsize(form) * count
    if not 0 <= count <= _MAX_DIMENSIONS or position + size > len(data):
        raise damaged(path, "is cut short or damaged (numbers behind its end)")
    values = struct.unpack(form[0] + form[1:] * count, data[position : position + size])
    return values, position + size


def _storages(path: Path, data: mmap, position: int) -> dict[object, Storage]:
    stream = PickleStream(data, KNOWN)
    stream.position = position
    storages: dict[object, Storage] = {}
    for _ in range(_count(path, stream)):
        key, _location, kind = _triple(path, stream)
        dtype = _dtype(path, kind)
        (count,), _ = _integers(path, data, stream.position, "<q", 1)
        storages[key] = Storage(dtype, max(count, 0))
        stream.position = place(path, data, stream.position, storages[key])
    views = unpickled(path, stream)
    for told in views if isinstance(views, list) else ():
        if not isinstance(told, tuple) or len(told) != 4 or told[1] not in storages:
            raise damaged(path, "is damaged (a part of a storage that is absent)")
        key, root, skipped, count = told
        if type(skipped) is not int or type(count) is not int or skipped < 0 or count < 0:
            raise damaged(path, "is damaged (a part of a storage without a place)")
        storages[key] = Storage(storages[root].dtype, count, whole=storages[root], skipped=skipped)
    return storages


def _tensors(path: Path, data: mmap, position: int, storages: Mapping[object, Storage]) -> dict[object, Tensor]:
    stream = PickleStream(data, KNOWN)
    stream.position = position
    tensors: dict[object, Tensor] = {}
    for _ in range(_count(path, stream)):
        key, storage, _kind = _triple(path, stream)
        if storage not in storages:
            raise damaged(path, "is damaged (a tensor without its storage)")
        (dimensions, _padding), position = _integers(path, data, stream.position, "<i", 2)
        shape, position = _integers(path, data, position, "<q", dimensions)
        strides, position = _integers(path, data, position, "<q", dimensions)
        (offset,), stream.position = _integers(path, data, position, "<q", 1)
        try:
            tensors[key] = view(storages[storage], offset, shape, strides, storages[storage].dtype)
        except PickleError as error:
            raise damaged(path, str(error)) from None
    return tensors


def _count(path: Path, stream: PickleStream) -> int:
    count = unpickled(path, stream)
    if type(count) is not int or count < 0:
        raise damaged(path, "is damaged (a number of items that is none)")
    return count


def _triple(path: Path, stream: PickleStream) -> tuple[Any, Any, Any]:
    told = unpickled(path, stream)
    if not isinstance(told, tuple) or len(told) != 3 or not all(isinstance(key, int | str) for key in told[:2]):
        raise damaged(path, "is damaged (an entry that is no key, place and type)")
    return told[0], told[1], told[2]


def _dtype(path: Path, kind: object) -> str:
    try:
        return storage_dtype(kind.name if isinstance(kind, Global) else "")
    except PickleError as error:
        raise damaged(path, str(error)) from None


def _resolved(path: Path, told: object, tensors: Mapping[object, Tensor]) -> Tensor:
    if isinstance(told, tuple):
        raise refused(path, f"torch.nn.modules: {getattr(told[0], 'name', '') if told else ''}")
    key = int(told) if isinstance(told, str) and told.isdecimal() and len(told) < 20 else told
    if not isinstance(key, int) or key not in tensors:
        raise PickleError("is damaged (a reference to a tensor that is absent)")
    return tensors[key]
