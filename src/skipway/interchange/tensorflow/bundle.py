"""TensorFlow's checkpoint of version 2: an index of entries, a table, and the values in shards beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.containers.protobuf import Budget
from skipway.interchange.source import Array
from skipway.interchange.tensorflow.crc32c import crc32c, masked
from skipway.interchange.tensorflow.paths import reading
from skipway.interchange.tensorflow.slices import SavedPart, check_cover, part_key, part_of
from skipway.interchange.tensorflow.sstable import Table
from skipway.interchange.tensorflow.tensor import ElementType, element_type, given, shape_of, type_name
from skipway.interchange.tensorflow.wire import MAX_FIELDS, Message

MAX_ARRAYS = 100_000  # of a checkpoint; each costs memory that its few bytes in the file do not show
_MAX_SHARDS = 99_999  # the name of a shard has five digits for its number
HEADER_KEY = b""
PART_KEY = 0  # the first byte of a part's key; no variable's name begins with it
# Numbers of the fields of a BundleHeaderProto and of a BundleEntryProto.
SHARD_COUNT, BYTE_ORDER, HEADER_VERSION = 1, 2, 3
TYPE, SHAPE, SHARD, OFFSET, SIZE, CHECKSUM, PART = 1, 2, 3, 4, 5, 6, 7


@dataclass(frozen=True)
class TensorEntry:
    """One BundleEntryProto. It says where the values of a variable, or of a part of a variable, lie.

    `code` is the code of the element type, `shard` the number of the file, `offset` and `size` are in bytes, and `crc`
    is the masked checksum of the values. A variable that was saved in parts has `parts` and no values of its own.
    """

    code: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    parts: tuple[SavedPart, ...]


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    `arrays` are the arrays by name, `others` the types of the entries that hold no numbers, and `widened` the types of
    the arrays that are given in a wider type.
    """

    arrays: dict[str, Array] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    widened: dict[str, str] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Shards:
    """The files that hold the values of a checkpoint. `little` says whether the values are little-endian."""

    files: tuple[Path, ...]
    little: bool

    def values(self, entry: TensorEntry, element: ElementType, name: str) -> np.ndarray:
        """Read the values of an entry as they are stored, and verify their checksum. Raises ModelFileError."""
        file = self.files[entry.shard]
        order: Literal["<", ">"] = "<" if self.little else ">"
        with reading(file), file.open("rb") as opened:
            values = np.empty(entry.shape, element.stored.newbyteorder(order))
            raw = values.reshape(-1).view(np.uint8).data
            opened.seek(entry.offset)
            count = opened.readinto(raw)
            if count != entry.size:
                raise ValueError("it became shorter while it was read")
            if masked(crc32c(raw)) != entry.crc:
                raise ValueError(f"the checksum of {name} is wrong")
            return values


def read_bundle(prefix: Path, index: Path) -> Contents:
    """Read the index of a V2 checkpoint. The values stay in their shards until an array is read.

    Raises ModelFileError where the index is damaged, or where a shard is missing or too short.
    """
    with reading(index):
        entries, shards, little = _read_index(index)
    files = tuple(shard_file(prefix, number, shards) for number in range(shards))
    sizes = _shard_sizes(prefix, files, entries)
    contents = Contents(notes={"shards": shards, "byte_order": "little" if little else "big"})
    with reading(index):
        _check_room(entries, sizes, files)
        _add_variables(contents, entries, Shards(files, little))
    return contents


def _read_index(index: Path) -> tuple[dict[bytes, TensorEntry], int, bool]:
    """Give the entries by their keys, the number of shards, and whether the values are little-endian."""
    budget = Budget(MAX_FIELDS)
    rows = Table(index).items()
    first_row = next(rows, None)
    if first_row is None or first_row[0] != HEADER_KEY:
        raise ValueError("it has no header")
    header = Message(first_row[1], budget)
    shards, little = _read_header(header)
    entries: dict[bytes, TensorEntry] = {}
    for key, row in rows:
        if len(entries) == MAX_ARRAYS:
            raise ValueError(f"it has more than {MAX_ARRAYS} entries")
        entry = _entry(Message(row, budget))
        if not 0 <= entry.shard < shards:
            raise ValueError(f"an entry lies in shard {entry.shard} of {shards}")
        entries[key] = entry
    return entries, shards, little


def _read_header(header: Message) -> tuple[int, bool]:
    """Give the number of shards, and whether the values are little-endian."""
    shards = 0
    order = 0
    for number, value in header:
        if number == SHARD_COUNT:
            shards = value.integer()
        elif number == BYTE_ORDER:
            order = value.integer()
    if not 0 < shards <= _MAX_SHARDS or order not in {0, 1}:
        raise ValueError(f"its header states {shards} shards in byte order {order}")
    little = order == 0
    return shards, little


def _entry(message: Message) -> TensorEntry:
    """Read a BundleEntryProto."""
    shape: tuple[int, ...] = ()
    parts: list[SavedPart] = []
    numbers = dict.fromkeys((TYPE, SHARD, OFFSET, SIZE, CHECKSUM), 0)
    for number, value in message:
        if number == SHAPE:
            shape = shape_of(value.message())
        elif number == PART:
            part = part_of(value.message())
            parts.append(part)
        elif number in numbers:
            numbers[number] = value.integer()
    return TensorEntry(
        code=numbers[TYPE],
        shape=shape,
        shard=numbers[SHARD],
        offset=numbers[OFFSET],
        size=numbers[SIZE],
        crc=numbers[CHECKSUM] & 0xFFFFFFFF,
        parts=tuple(parts),
    )


def shard_file(prefix: Path, number: int, count: int) -> Path:
    """The path of one of `count` shards."""
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def _shard_sizes(prefix: Path, files: tuple[Path, ...], entries: Mapping[bytes, TensorEntry]) -> dict[int, int]:
    """Give the sizes in bytes of the shards that hold values. Raises ModelFileError where one is missing."""
    sizes: dict[int, int] = {}
    for entry in entries.values():
        holds_values = not entry.parts
        if not holds_values or entry.shard in sizes:
            continue
        file = files[entry.shard]
        if not file.is_file():
            raise ModelFileError(f"{prefix}.index needs {file.name}, which is not beside it; put it there")
        sizes[entry.shard] = file.stat().st_size
    return sizes


def _check_room(entries: Mapping[bytes, TensorEntry], sizes: Mapping[int, int], files: tuple[Path, ...]) -> None:
    """Check that every entry lies in its shard and that no two entries share bytes.

    So no index can ask for more memory than its shards have bytes. Raises ValueError.
    """
    stored = [entry for entry in entries.values() if not entry.parts]
    stored.sort(key=lambda entry: (entry.shard, entry.offset, entry.size))
    ends: dict[int, int] = {}
    for entry in stored:
        size = sizes[entry.shard]
        _check_size(entry, size, files[entry.shard])
        end_before = ends.get(entry.shard, 0)
        if entry.size and entry.offset < end_before:
            raise ValueError("two entries share their bytes")
        ends[entry.shard] = max(end_before, entry.offset + entry.size)


def _check_size(entry: TensorEntry, shard_size: int, file: Path) -> None:
    """Raise ValueError unless an entry lies in its shard and has as many bytes as its shape and type need."""
    element = element_type(entry.code)
    end = entry.offset + entry.size
    if entry.offset < 0 or entry.size < 0 or end > shard_size:
        raise ValueError(
            f"an entry ends at byte {end} of {file.name}, which has {shard_size}; "
            "one of them is cut off or of another checkpoint"
        )
    if element is None:
        return
    needed = math.prod(entry.shape) * element.stored.itemsize
    if entry.size != needed:
        raise ValueError(f"an entry of shape {entry.shape} and type {element.name} has {entry.size} bytes")


def _add_variables(contents: Contents, entries: Mapping[bytes, TensorEntry], shards: Shards) -> None:
    """Add the variables of an index to `contents`. Raises ValueError for names and parts that are damaged."""
    for key, entry in entries.items():
        is_part = key[0] == PART_KEY
        if is_part:
            continue
        name = _decode_name(key)
        element = element_type(entry.code)
        if element is None:
            contents.others[name] = type_name(entry.code)
            continue
        if element.name == "bfloat16":
            contents.widened[name] = element.name
        load = _loader(name, entry, element, entries, shards)
        contents.arrays[name] = Array(name, entry.shape, element.given, load)


def _decode_name(key: bytes) -> str:
    """The name of a variable from its key. Raises ValueError."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ValueError("a name is not UTF-8") from None


def _loader(
    name: str, entry: TensorEntry, element: ElementType, entries: Mapping[bytes, TensorEntry], shards: Shards
) -> Callable[[], np.ndarray]:
    """Give the function that loads a variable. Raises ValueError where its parts do not make it up."""
    if not entry.parts:
        return partial(_load, name, entry, element, shards)
    pieces = _find_pieces(name, entry, entries)
    return partial(_load_parts, name, entry, element, pieces, shards)


def _load(name: str, entry: TensorEntry, element: ElementType, shards: Shards) -> np.ndarray:
    """Load a variable that was saved whole. Raises ModelFileError."""
    stored = shards.values(entry, element, name)
    return given(stored, element)


def _load_parts(
    name: str, entry: TensorEntry, element: ElementType, pieces: list[tuple[SavedPart, TensorEntry]], shards: Shards
) -> np.ndarray:
    """Load a variable that was saved in parts, and put the parts together. Raises ModelFileError."""
    values = np.empty(entry.shape, element.given)
    for part, piece in pieces:
        stored = shards.values(piece, element, name)
        place = part.slices(entry.shape)
        values[place] = given(stored, element)
    return values


def _find_pieces(
    name: str, entry: TensorEntry, entries: Mapping[bytes, TensorEntry]
) -> list[tuple[SavedPart, TensorEntry]]:
    """Give each part of a variable with the entry that holds its values. Raises ValueError."""
    check_cover(entry.parts, entry.shape)
    pieces: list[tuple[SavedPart, TensorEntry]] = []
    for part in entry.parts:
        key = part_key(name, part)
        piece = entries.get(key)
        if piece is None or piece.parts:
            raise ValueError(f"a part of {name} is missing or of another shape")
        shape = part.shape(entry.shape)
        if piece.code != entry.code or piece.shape != shape:
            raise ValueError(f"a part of {name} is missing or of another shape")
        pieces.append((part, piece))
    return pieces
