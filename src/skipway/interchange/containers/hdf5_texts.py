"""Text attributes of HDF5 objects, read without the HDF5 library: on damaged heaps of texts it never returns.

Texts of variable length lie in global heaps; nothing keeps a file from naming one long text thousands of times, so that
lengths are added up before anything is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from skipway.interchange.containers.hdf5_data import Region

TEXT_LIMIT = 8 << 20  # bytes of one attribute; the configuration of a network of 1,000 layers takes half of it
_ATTRIBUTE, _ATTRIBUTE_INFO, _CONTINUATION = 0x0C, 0x15, 0x10
_FIXED, _VARIABLE = 3, 9  # classes of types
_MAX_MESSAGES = 1 << 16


@dataclass(frozen=True)
class _Message:
    kind: int
    flags: int
    body: bytes


@dataclass
class Texts:
    """Reads the text attributes of a file. `sizes` are those of an address and of a length, in bytes.

    The methods raise ValueError, whose message tells what is wrong with the file.
    """

    region: Region
    base: int
    sizes: tuple[int, int]
    _heaps: dict[int, dict[int, bytes]] = field(default_factory=dict)
    _heap_bytes: int = 0

    def attributes(self, address: int) -> dict[str, list[bytes] | None]:
        """The attributes of the object at an address: their texts, or None where they are no texts."""
        found: dict[str, list[bytes] | None] = {}
        for message in self._messages(address):
            if message.kind == _ATTRIBUTE:
                name, values = self._attribute(message)
                found[name] = values
            elif message.kind == _ATTRIBUTE_INFO and not self._is_undefined(message.body):
                raise ValueError("its attributes lie in an index, as no Keras writes them")
        return found

    def _bytes(self, offset: int, count: int) -> bytes:
        if not (offset >= 0 and 0 <= count <= self.region.size - offset):
            raise ValueError("a part of it lies beyond the end of the file")
        into = bytearray(count)
        self.region.fill(offset, memoryview(into))
        return bytes(into)

    def _number(self, data: bytes, at: int, size: int) -> int:
        if at + size > len(data):
            raise ValueError("a part of it is cut short")
        return int.from_bytes(data[at : at + size], "little")

    def _is_undefined(self, body: bytes) -> bool:
        at = 2 + 2 * (body[1] & 1) if len(body) > 1 else 2
        return self._number(body, at, self.sizes[0]) == (1 << 8 * self.sizes[0]) - 1

    def _messages(self, address: int) -> Iterator[_Message]:
        head = self._bytes(self.base + address, 16)
        ordered = 0
        if head[:4] == b"OHDR":
            flags = self._bytes(self.base + address + 5, 1)[0]
            start = self.base + address + 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
            width = 1 << (flags & 3)
            size = int.from_bytes(self._bytes(start, width), "little")
            start, form, ordered = start + width, "new", flags >> 2 & 1
        elif head[0] == 1:
            start, size, form = self.base + address + 16, int.from_bytes(head[8:12], "little"), "old"
        else:
            raise ValueError("an object has a header of an unknown version")
        blocks, seen, count = [(start, size)], set(), 0
        while blocks:
            block = blocks.pop(0)
            if block in seen:
                raise ValueError("the header of an object leads back to itself")
            seen.add(block)
            for message in self._block(self._bytes(*block), form, ordered):
                count += 1
                if count > _MAX_MESSAGES:
                    raise ValueError("an object has a header beyond measure")
                if message.kind == _CONTINUATION:
                    blocks.append(self._continued(message.body, form))
                else:
                    yield message

    def _continued(self, body: bytes, form: str) -> tuple[int, int]:
        offset = self.base + self._number(body, 0, self.sizes[0])
        size = self._number(body, self.sizes[0], self.sizes[1])
        return (offset, size) if form == "old" else (offset + 4, size - 8)  # without signature and checksum

    def _block(self, data: bytes, form: str, ordered: int) -> Iterator[_Message]:
        at = 0
        width = 8 if form == "old" else 4 + 2 * ordered
        while at + width <= len(data):
            if form == "old":
                kind, size, flags = struct.unpack_from("<HHB", data, at)
            else:
                kind, size, flags = struct.unpack_from("<BHB", data, at)
            at += width
            if at + size > len(data):
                raise ValueError("the header of an object is cut short")
            yield _Message(kind, flags, data[at : at + size])
            at += size

    def _attribute(self, message: _Message) -> tuple[str, list[bytes] | None]:
        body = message.body
        if message.flags & 2 or len(body) < 9 or body[0] not in {1, 2, 3} or (body[0] > 1 and body[1]):
            raise ValueError("an attribute is of an unknown version or shared")
        lengths = struct.unpack_from("<3H", body, 2)
        parts, at = [], 9 if body[0] == 3 else 8
        for length in lengths:
            parts.append(body[at : at + length])
            at += -(-length // 8) * 8 if body[0] == 1 else length
        name, kind, space = parts
        return name.split(b"\0")[0].decode("utf-8", "replace"), self._values(kind, space, body[at:])

    def _values(self, kind: bytes, space: bytes, data: bytes) -> list[bytes] | None:
        count = self._count(space)
        if count == 0:  # NumPy makes an empty list one of floats
            return []
        size = self._number(kind, 4, 4)
        text = kind[0] & 15 == _FIXED or (kind[0] & 15 == _VARIABLE and kind[1] & 15 == 1)
        if not text:
            return None
        if size == 0 or count * size > len(data):
            raise ValueError("an attribute declares more than it holds")
        items = [data[at : at + size] for at in range(0, count * size, size)]
        if kind[0] & 15 == _VARIABLE:
            return self._variable(items)
        return [item.rstrip(b" ") if kind[1] & 15 == 2 else item.split(b"\0")[0] for item in items]

    def _count(self, space: bytes) -> int:
        if len(space) < 4 or space[0] not in {1, 2}:
            raise ValueError("an attribute has a shape of an unknown version")
        if space[0] == 2 and space[3] == 2:  # the space without any element
            return 0
        start, width = (8 if space[0] == 1 else 4), self.sizes[1]
        return math.prod(self._number(space, start + width * side, width) for side in range(space[1]))

    def _variable(self, items: list[bytes]) -> list[bytes]:
        width = self.sizes[0]
        lengths = [self._number(item, 0, 4) for item in items]
        if sum(lengths) > TEXT_LIMIT:
            raise ValueError(f"an attribute is longer than {TEXT_LIMIT} bytes")
        values = []
        for item, length in zip(items, lengths, strict=True):
            address, index = self._number(item, 4, width), self._number(item, 4 + width, 4)
            if length == 0:
                values.append(b"")
                continue
            stored = self._heap(address).get(index, b"")
            if len(stored) < length:
                raise ValueError("a text is not where it should be")
            values.append(stored[:length].split(b"\0")[0])
        return values

    def _heap(self, address: int) -> dict[int, bytes]:
        if address in self._heaps:
            return self._heaps[address]
        width = self.sizes[1]
        head = self._bytes(self.base + address, 8 + width)
        size = self._number(head, 8, width)
        self._heap_bytes += size
        if head[:4] != b"GCOL" or self._heap_bytes > 2 * self.region.size:
            raise ValueError("a heap of texts is damaged")
        data = self._bytes(self.base + address, size)
        texts: dict[int, bytes] = {}
        at = 8 + width
        while at + 8 + width <= size:
            index, length = self._number(data, at, 2), self._number(data, at + 8, width)
            at += 8 + width
            if index == 0:  # free space, the last
                break
            if length > size - at:
                raise ValueError("a heap of texts is damaged")
            texts[index] = data[at : at + length]
            at += -(-length // 8) * 8
        self._heaps[address] = texts
        return texts
