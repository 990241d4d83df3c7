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
_BLOCK_SIZE = 1 << 18  # TensorFlow's: a block ends with the entry that takes it over this
_RESTART_INTERVAL = 16
_MAX_KEY_GROWTH = 8  # bytes of keys for each byte of the file; sharing beyond it is no table of names
_MAX_BLOCK = 1 << 31  # TensorFlow's own limit for one tensor in such a file


def is_table(path: Path) -> bool:
    """Whether the file ends as a table does."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(MAGIC)))
        return size >= _FOOTER and file.read(len(MAGIC)) == MAGIC


class Table:
    """A table file. Holds its index alone; blocks are read, and their checksums verified, when they are asked for.

    Every method raises ValueError where the file is damaged, OSError where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.size = file.seek(0, os.SEEK_END)
            if self.size < _FOOTER:
                raise ValueError(f"{self.size} bytes are too few for a table")
            file.seek(self.size - _FOOTER)
            footer = memoryview(file.read(_FOOTER))
            if bytes(footer[-8:]) != MAGIC:
                raise ValueError("it does not end as a table does")
            _, _, position = _handle(footer, 0)
            offset, length, _ = _handle(footer, position)
            index = self._block(file, offset, length)
        self._last_keys: list[bytes] = []
        self._places: list[tuple[int, int]] = []
        end = 0
        for key, value in self._entries(index):
            offset, length, _ = _handle(value, 0)
            if offset < end or offset + length + _TRAILER > self.size - _FOOTER:
                raise ValueError("its index points outside the file or twice to one place")
            end = offset + length + _TRAILER
            self._last_keys.append(key)
            self._places.append((offset, length))

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key, None where there is none. Reads one block."""
        number = bisect_left(self._last_keys, key)
        if number == len(self._places):
            return None
        with self.path.open("rb") as file:
            block = self._block(file, *self._places[number])
        for found, value in self._entries(block):
            if found >= key:
                return value if found == key else None
        return None

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """All entries, their keys ascending."""
        last, total = None, 0
        with self.path.open("rb") as file:
            for place in self._places:
                for key, value in self._entries(self._block(file, *place)):
                    if last is not None and key <= last:
                        raise ValueError("its keys are out of order")
                    total += len(key)
                    self._check_growth(total)
                    last = key
                    yield key, value

    def _block(self, file: BinaryIO, offset: int, length: int) -> memoryview:
        if offset + length + _TRAILER > self.size:
            raise ValueError("a block reaches past the end of the file")
        file.seek(offset)
        stored = bytearray(length + _TRAILER)
        if file.readinto(stored) != len(stored):  # type: ignore[attr-defined]
            raise ValueError("it became shorter while it was read")
        view = memoryview(stored)
        if int.from_bytes(view[-4:], "little") != masked(crc32c(view[:-4])):
            raise ValueError(f"the checksum of its block at byte {offset} is wrong")
        compression = stored[length]
        if compression == 0:
            return view[:length]
        if compression == 1:
            return memoryview(decompress(view[:length]))
        raise ValueError(f"a block is compressed in an unknown way, {compression}")

    def _entries(self, block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
        if len(block) < 4:
            raise ValueError("a block without its restart points")
        end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
        if end < 0:
            raise ValueError("a block has more restart points than bytes")
        key, position, total, first = b"", 0, 0, True
        while position < end:
            shared, position = varint(block, position, end)
            unshared, position = varint(block, position, end)
            length, position = varint(block, position, end)
            if shared > len(key) or position + unshared + length > end:
                raise ValueError("an entry reaches past the end of its block")
            following = key[:shared] + bytes(block[position : position + unshared])
            if not first and following <= key:
                raise ValueError("its keys are out of order")
            key, first = following, False
            total += len(key)
            self._check_growth(total)
            position += unshared
            yield key, block[position : position + length]
            position += length

    def _check_growth(self, total: int) -> None:
        if total > _MAX_KEY_GROWTH * self.size + (1 << 20):
            raise ValueError("its keys repeat each other without end")


def _handle(data: memoryview, position: int) -> tuple[int, int, int]:
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
            index.append((key, _write_block(file, pending, _RESTART_INTERVAL)))
            pending, size = [], 0
    if pending:
        index.append((pending[-1][0], _write_block(file, pending, _RESTART_INTERVAL)))
    footer = _write_block(file, [], 1) + _write_block(file, index, 1)
    file.write(footer.ljust(_FOOTER - len(MAGIC), b"\0") + MAGIC)


def _write_block(file: BinaryIO, entries: list[tuple[bytes, Bytes]], interval: int) -> bytes:
    """Write a block and give its handle: place and length, as the index and the footer keep them."""
    offset, length, crc = file.tell(), 0, 0
    restarts = [] if entries else [0]
    last = b""

    def put(piece: Bytes) -> None:
        nonlocal length, crc
        file.write(piece)
        crc = crc32c(piece, crc)
        length += len(piece)

    for number, (key, value) in enumerate(entries):
        if number % interval == 0:
            restarts.append(length)
            last = b""
        shared = _shared(last, key)
        put(b"".join([*map(encode_varint, (shared, len(key) - shared, len(value))), key[shared:]]))
        put(value)
        last = key
    put(b"".join(number.to_bytes(4, "little") for number in (*restarts, len(restarts))))
    file.write(b"\0" + masked(crc32c(b"\0", crc)).to_bytes(4, "little"))
    return encode_varint(offset) + encode_varint(length)


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two keys begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
