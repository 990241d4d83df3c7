"""TensorFlow's checkpoint of version 2: an index of entries, a table, and the values in shards beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.containers.protobuf import FIXED32, Budget, encode_bytes, encode_varint
from skipway.interchange.source import Array
from skipway.interchange.tensorflow.crc32c import crc32c, masked
from skipway.interchange.tensorflow.paths import reading, writing
from skipway.interchange.tensorflow.slices import Part, check_cover, part_key, part_of
from skipway.interchange.tensorflow.sstable import Table, write_table
from skipway.interchange.tensorflow.tensor import (
    ElementType,
    element_type,
    given,
    little_endian,
    shape_message,
    shape_of,
    type_name,
    type_of,
)
from skipway.interchange.tensorflow.wire import MAX_FIELDS, Message, number_field

MAX_ARRAYS = 100_000  # of a checkpoint; each costs memory that its few bytes in the file do not show
_HEADER_KEY = b""
_PART_KEY = 0  # the first byte of a part's key; no variable's name begins with it
_VERSION = number_field(1, 1)  # the producer, as of TensorFlow's own files


@dataclass(frozen=True)
class Entry:
    """One BundleEntryProto: where the values of a variable, or of a part of it, lie."""

    code: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds: arrays, the names of entries that are no numbers (with their type), and the types of
    those that are given in a wider one."""

    arrays: dict[str, Array] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    widened: dict[str, str] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)


def read_bundle(prefix: Path, index: Path) -> Contents:
    """The contents of a V2 checkpoint; its values stay in their shards. Raises ModelFileError."""
    with reading(index):
        entries, shards, little = _entries(index)
    files = [prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{shards:05d}") for number in range(shards)]
    sizes = {}
    for entry in entries.values():
        if not entry.parts and entry.shard not in sizes:
            sizes[entry.shard] = _size(files[entry.shard], prefix)
    contents = Contents(notes={"shards": shards, "byte_order": "little" if little else "big"})
    with reading(index):
        _check_room(entries, sizes, files)
        for key, entry in entries.items():
            if key[0] == _PART_KEY:
                continue
            name = _name(key)
            element = element_type(entry.code)
            if element is None:
                contents.others[name] = type_name(entry.code)
                continue
            if element.name == "bfloat16":
                contents.widened[name] = element.name
            load = _loader(name, entry, element, entries, files, little=little)
            contents.arrays[name] = Array(name, entry.shape, element.given, load)
    return contents


def _entries(index: Path) -> tuple[dict[bytes, Entry], int, bool]:
    """The entries by their keys, the number of shards, and whether values are little-endian."""
    budget = Budget(MAX_FIELDS)
    rows = Table(index).items()
    key, header = next(rows, (b"?", memoryview(b"")))
    if key != _HEADER_KEY:
        raise ValueError("it has no header")
    shards, order = 0, 0
    for number, value in Message(header, budget):
        shards = value.integer() if number == 1 else shards
        order = value.integer() if number == 2 else order
    if not 0 < shards < 100_000 or order not in {0, 1}:
        raise ValueError(f"its header tells of {shards} shards in byte order {order}")
    entries: dict[bytes, Entry] = {}
    for key, row in rows:
        if len(entries) == MAX_ARRAYS:
            raise ValueError(f"it has more than {MAX_ARRAYS} entries")
        entries[key] = _entry(Message(row, budget))
        if not 0 <= entries[key].shard < shards:
            raise ValueError(f"an entry lies in shard {entries[key].shard} of {shards}")
    return entries, shards, order == 0


def _entry(message: Message) -> Entry:
    shape: tuple[int, ...] = ()
    parts: list[Part] = []
    numbers = dict.fromkeys(range(1, 7), 0)
    for number, value in message:
        if number == 2:
            shape = shape_of(value.message())
        elif number == 7:
            parts.append(part_of(value.message()))
        elif number in numbers:
            numbers[number] = value.integer()
    return Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6] & 0xFFFFFFFF, tuple(parts))


def _check_room(entries: Mapping[bytes, Entry], sizes: Mapping[int, int], files: list[Path]) -> None:
    """Every entry's bytes are there and no entries share them, so that no index asks for more than the shards hold."""
    ends: dict[int, int] = {}
    stored = (entry for entry in entries.values() if not entry.parts)
    for entry in sorted(stored, key=lambda entry: (entry.shard, entry.offset, entry.size)):
        element = element_type(entry.code)
        if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > sizes[entry.shard]:
            raise ValueError(
                f"an entry ends at byte {entry.offset + entry.size} of {files[entry.shard].name}, "
                f"which has {sizes[entry.shard]}; one of them is cut off or of another checkpoint"
            )
        if element is not None and entry.size != math.prod(entry.shape) * element.stored.itemsize:
            raise ValueError(f"an entry of shape {entry.shape} and type {element.name} has {entry.size} bytes")
        if entry.size and entry.offset < ends.get(entry.shard, 0):
            raise ValueError("two entries share their bytes")
        ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.size)


def _loader(
    name: str,
    entry: Entry,
    element: ElementType,
    entries: Mapping[bytes, Entry],
    files: list[Path],
    *,
    little: bool,
) -> Callable[[], np.ndarray]:
    if not entry.parts:
        return lambda: given(_values(files[entry.shard], entry, element, name, little=little), element)
    check_cover(entry.parts, entry.shape)
    pieces: list[tuple[Part, Entry]] = []
    for part in entry.parts:
        piece = entries.get(part_key(name, part))
        if piece is None or piece.parts or piece.code != entry.code or piece.shape != part.shape(entry.shape):
            raise ValueError(f"a part of {name} is missing or of another shape")
        pieces.append((part, piece))

    def assemble() -> np.ndarray:
        values = np.empty(entry.shape, element.given)
        for part, piece in pieces:
            stored = _values(files[piece.shard], piece, element, name, little=little)
            values[part.slices(entry.shape)] = given(stored, element)
        return values

    return assemble


def _values(file: Path, entry: Entry, element: ElementType, name: str, *, little: bool) -> np.ndarray:
    """An entry's values as stored, their checksum verified. Raises ModelFileError."""
    with reading(file), file.open("rb") as opened:
        values = np.empty(entry.shape, element.stored.newbyteorder("<" if little else ">"))
        raw = values.reshape(-1).view(np.uint8).data
        opened.seek(entry.offset)
        if opened.readinto(raw) != entry.size:
            raise ValueError("it became shorter while it was read")
        if masked(crc32c(raw)) != entry.crc:
            raise ValueError(f"the checksum of {name} is wrong")
        return values


def _size(file: Path, prefix: Path) -> int:
    if not file.is_file():
        raise ModelFileError(f"{prefix}.index needs {file.name}, which is not beside it; put it there")
    return file.stat().st_size


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ValueError("a name is not UTF-8") from None


def write_bundle(prefix: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write PREFIX.index and PREFIX.data-00000-of-00001. Raises StorageError, and ModelFileError for unfit arrays."""
    with writing(prefix):
        rows = sorted((name.encode(), name) for name in arrays)
        if rows and (not rows[0][0] or rows[0][0][0] == _PART_KEY):
            raise ValueError("a name is empty or begins with a zero byte")
        for array in arrays.values():
            type_of(array)
    data = prefix.with_name(f"{prefix.name}.data-00000-of-00001")

    def entries() -> Iterator[tuple[bytes, bytes]]:
        yield _HEADER_KEY, number_field(1, 1) + encode_bytes(3, _VERSION)
        offset = 0
        for key, name in rows:
            values = little_endian(arrays[name])
            yield key, _entry_message(arrays[name], offset, len(values), masked(crc32c(values)))
            offset += len(values)

    def fill_data(file: BinaryIO) -> None:
        for _, name in rows:
            file.write(little_endian(arrays[name]))

    def fill(temporary: Path) -> None:
        # The index is written first and takes its place last: until then the old one, if any, is still there.
        with temporary.open("wb") as file:
            write_table(file, entries())
        write_whole(data, lambda temporary: _filled(temporary, fill_data))

    write_whole(prefix.with_name(f"{prefix.name}.index"), fill)


def _filled(temporary: Path, fill: Callable[[BinaryIO], None]) -> None:
    with temporary.open("wb") as file:
        fill(file)


def _entry_message(array: np.ndarray, offset: int, size: int, crc: int) -> bytes:
    numbers = number_field(4, offset) + number_field(5, size)
    checksum = encode_varint(6 << 3 | FIXED32) + crc.to_bytes(4, "little")
    return number_field(1, type_of(array).code) + encode_bytes(2, shape_message(array.shape)) + numbers + checksum
