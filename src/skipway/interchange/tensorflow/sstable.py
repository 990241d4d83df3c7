"""LevelDB's table: sorted keys and values in checksummed blocks. TensorFlow keeps its checkpoints in it.

A footer points to the index block, whose entries give the last key and the place of each data block. In a block a key
is stored as the length that it shares with the one before it and the rest. Blocks end with their restart points (not
needed here), a byte for the compression and a masked CRC-32C.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from skipway.interchange.containers.protobuf import encode_varint, varint
from skipway.interchange.tensorflow.crc32c import Bytes, crc32c, masked
from skipway.interchange.tensorflow.snappy import decompress

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5
_PLAIN, _SNAPPY = 0, 1  # the compressions of a block
_BLOCK_SIZE = 1 << 18  # TensorFlow's: a block ends with the entry that takes it over this
_RESTART_INTERVAL = 16
_MAX_KEY_GROWTH = 8  # bytes of keys for each byte of the file; sharing beyond it is no table of names
_MAX_BLOCK = 1 << 31  # TensorFlow's own limit for one tensor in such a file


def is_table(path: Path) -> bool:
    """Whether the file ends as a table does. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _FOOTER:
            return False
        file.seek(size - len(MAGIC))
        return file.read(len(MAGIC)) == MAGIC


class Table:
    """A table file. Holds its index alone; blocks are read, and their checksums verified, when they are asked for.

    Every method raises ValueError where the file is damaged, OSError where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.size = file.seek(0, os.SEEK_END)
            index = self._index_block(file)
        self._last_keys: list[bytes] = []
        self._places: list[tuple[int, int]] = []
        self._read_index(index)

    def _read_index(self, index: memoryview) -> None:
        """Read the last key and the place of each data block."""
        end = 0
        for key, value in self._entries(index):
            offset, length, _ = _handle(value, 0)
            block_end = offset + length + _TRAILER
            if offset < end or block_end > self.size - _FOOTER:
                raise ValueError("its index points outside the file or twice to one place")
            end = block_end
            self._last_keys.append(key)
            self._places.append((offset, length))

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key, None where there is none. Reads one block."""
        number = bisect_left(self._last_keys, key)
        if number == len(self._places):
            return None
        offset, length = self._places[number]
        with self.path.open("rb") as file:
            block = self._block(file, offset, length)
        for found, value in self._entries(block):
            if found == key:
                return value
            if found > key:
                return None
        return None

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """All entries, their keys ascending."""
        last: bytes | None = None
        total = 0
        with self.path.open("rb") as file:
            for offset, length in self._places:
                block = self._block(file, offset, length)
                for key, value in self._entries(block):
                    if last is not None and key <= last:
                        raise ValueError("its keys are out of order")
                    total += len(key)
                    self._check_growth(total)
                    last = key
                    yield key, value

    def _index_block(self, file: BinaryIO) -> memoryview:
        """Read the index block, whose place the footer states after that of a block that is not needed here."""
        if self.size < _FOOTER:
            raise ValueError(f"{self.size} bytes are too few for a table")
        file.seek(self.size - _FOOTER)
        footer = memoryview(file.read(_FOOTER))
        if bytes(footer[-8:]) != MAGIC:
            raise ValueError("it does not end as a table does")
        _, _, position = _handle(footer, 0)
        offset, length, _ = _handle(footer, position)
        return self._block(file, offset, length)

    def _block(self, file: BinaryIO, offset: int, length: int) -> memoryview:
        """Read a block of `length` bytes and its trailer, verify its checksum, and give its content unpacked."""
        if offset + length + _TRAILER > self.size:
            raise ValueError("a block reaches past the end of the file")
        file.seek(offset)
        stored = bytearray(length + _TRAILER)
        count = file.readinto(stored)  # type: ignore[attr-defined]
        if count != len(stored):
            raise ValueError("it became shorter while it was read")
        view = memoryview(stored)
        checksum = int.from_bytes(view[-4:], "little")
        if checksum != masked(crc32c(view[:-4])):
            raise ValueError(f"the checksum of its block at byte {offset} is wrong")
        content = view[:length]
        compression = stored[length]
        if compression == _PLAIN:
            return content
        if compression == _SNAPPY:
            return memoryview(decompress(content))
        raise ValueError(f"a block is compressed in an unknown way, {compression}")

    def _entries(self, block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
        """The entries of a block, their keys ascending."""
        end = _end_of_entries(block)
        key = b""
        position = 0
        total = 0
        is_first = True
        while position < end:
            shared, position = varint(block, position, end)
            unshared, position = varint(block, position, end)
            length, position = varint(block, position, end)
            value_at = position + unshared
            if shared > len(key) or value_at + length > end:
                raise ValueError("an entry reaches past the end of its block")
            following = key[:shared] + bytes(block[position:value_at])
            if not is_first and following <= key:
                raise ValueError("its keys are out of order")
            key = following
            is_first = False
            total += len(key)
            self._check_growth(total)
            position = value_at + length
            yield key, block[value_at:position]

    def _check_growth(self, total: int) -> None:
        """Raise ValueError where the keys have `total` bytes, far more than the file."""
        if total > _MAX_KEY_GROWTH * self.size + (1 << 20):
            raise ValueError("its keys repeat each other without end")


def _end_of_entries(block: memoryview) -> int:
    """Where the entries of a block end: before its restart points and their number, of four bytes each."""
    if len(block) < 4:
        raise ValueError("a block without its restart points")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("a block has more restart points than bytes")
    return end


def _handle(data: memoryview, position: int) -> tuple[int, int, int]:
    """The place and the length of a block, as they are stated at `position`, and the position behind them."""
    offset, position = varint(data, position, len(data))
    length, position = varint(data, position, len(data))
    if length > _MAX_BLOCK:
        raise ValueError(f"a block of {length} bytes is too large")
    return offset, length, position


def write_table(file: BinaryIO, entries: Iterable[tuple[bytes, Bytes]]) -> None:
    """Write the entries, which must come in ascending order of their keys, uncompressed. Holds one block at a time."""
    index: list[tuple[bytes, Bytes]] = []
    pending: list[tuple[bytes, Bytes]] = []
    size = 0
    for key, value in entries:
        pending.append((key, value))
        size += len(key) + len(value)
        if size >= _BLOCK_SIZE:
            handle = _write_block(file, pending, _RESTART_INTERVAL)
            index.append((key, handle))
            pending = []
            size = 0
    if pending:
        last_key = pending[-1][0]
        handle = _write_block(file, pending, _RESTART_INTERVAL)
        index.append((last_key, handle))
    meta_index_handle = _write_block(file, [], 1)
    index_handle = _write_block(file, index, 1)
    handles = meta_index_handle + index_handle
    footer = handles.ljust(_FOOTER - len(MAGIC), b"\0") + MAGIC
    file.write(footer)


class _BlockWriter:
    """Writes the bytes of a block and counts them: `length` of them so far, with the checksum `crc`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.length = 0
        self.crc = 0

    def put(self, piece: Bytes) -> None:
        """Write the next bytes of the block."""
        self.file.write(piece)
        self.crc = crc32c(piece, self.crc)
        self.length += len(piece)

    def end(self) -> None:
        """Write what stands behind a block: a byte for the compression and the checksum of all bytes."""
        compression = bytes([_PLAIN])
        checksum = masked(crc32c(compression, self.crc))
        self.file.write(compression + checksum.to_bytes(4, "little"))


def _write_block(file: BinaryIO, entries: list[tuple[bytes, Bytes]], interval: int) -> bytes:
    """Write a block and give its handle: place and length, as the index and the footer keep them.

    `interval` is the number of entries from one restart point, where a key is stored whole, to the next.
    """
    offset = file.tell()
    block = _BlockWriter(file)
    restarts: list[int] = []
    last = b""
    for number, (key, value) in enumerate(entries):
        if number % interval == 0:
            restarts.append(block.length)
            last = b""
        block.put(_entry_head(key, value, _shared(last, key)))
        block.put(value)
        last = key
    if not entries:
        restarts.append(0)
    points = [point.to_bytes(4, "little") for point in (*restarts, len(restarts))]
    block.put(b"".join(points))
    block.end()
    return encode_varint(offset) + encode_varint(block.length)


def _entry_head(key: bytes, value: Bytes, shared: int) -> bytes:
    """What stands before the value of an entry, whose key begins with `shared` bytes of the key before it."""
    rest = key[shared:]
    lengths = [encode_varint(shared), encode_varint(len(rest)), encode_varint(len(value))]
    return b"".join(lengths) + rest


def _shared(left: bytes, right: bytes) -> int:
    """How many bytes two keys begin with alike."""
    shortest = min(len(left), len(right))
    for at in range(shortest):
        if left[at] != right[at]:
            return at
    return shortest
