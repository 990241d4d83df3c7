"""Text attributes of HDF5 objects, read without the HDF5 library: on damaged heaps of texts it never returns.

Texts of variable length lie in global heaps. A file may name one long text thousands of times, so the lengths are
added up before anything is read. Source: the HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from skipway.interchange.containers.hdf5_data import Region

TEXT_LIMIT = 8 << 20  # bytes of one attribute; the configuration of a network of 1,000 layers takes half of it
_ATTRIBUTE, _ATTRIBUTE_INFO, _CONTINUATION = 0x0C, 0x15, 0x10  # kinds of messages in an object header
_FIXED, _VARIABLE = 3, 9  # classes of types
_TEXT_OF_VARIABLE = 1  # kind of a type of variable length: a text, not a sequence
_SPACE_PADDED = 2  # kind of a text of fixed length
_NULL_SPACE = 2  # kind of a shape without any element
_MAX_MESSAGES = 1 << 16


@dataclass(frozen=True)
class _Message:
    """One message of an object header: its kind, its flags and its bytes."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class _Header:
    """Where the first block of an object header lies in the region, and how its messages are written.

    - `start`, `size`: place and size of the block in bytes.
    - `old`: whether it has the form of version 1, and not that of version 2.
    - `ordered`: whether each message of version 2 states the order in which it was written.
    """

    start: int
    size: int
    old: bool
    ordered: bool


@dataclass
class Texts:
    """Reads the text attributes of a file.

    - `region`: where the file lies.
    - `base`: the place in the region that addresses count from.
    - `sizes`: the sizes of an address and of a length, in bytes.

    The methods raise ValueError, whose message says what is wrong with the file.
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
        """`count` bytes of the region from `offset` on."""
        left = self.region.size - offset
        if offset < 0 or not 0 <= count <= left:
            raise ValueError("a part of it lies beyond the end of the file")
        into = bytearray(count)
        self.region.fill(offset, memoryview(into))
        return bytes(into)

    def _is_undefined(self, body: bytes) -> bool:
        """Whether a message about attributes names no index: its address has all bits set."""
        flags = body[1] if len(body) > 1 else 0
        address_at = 4 if flags & 1 else 2  # behind the highest index, where that is kept
        width = self.sizes[0]
        undefined = (1 << 8 * width) - 1
        return _number(body, address_at, width) == undefined

    def _messages(self, address: int) -> Iterator[_Message]:
        """The messages of the header of the object at an address."""
        header = self._header(address)
        blocks = [(header.start, header.size)]
        seen: set[tuple[int, int]] = set()
        count = 0
        while blocks:
            block = blocks.pop(0)
            if block in seen:
                raise ValueError("the header of an object leads back to itself")
            seen.add(block)
            data = self._bytes(*block)
            for message in _block_messages(data, header):
                count += 1
                if count > _MAX_MESSAGES:
                    raise ValueError("an object has a header beyond measure")
                if message.kind == _CONTINUATION:
                    continuation = self._continuation(message.body, old=header.old)
                    blocks.append(continuation)
                else:
                    yield message

    def _header(self, address: int) -> _Header:
        """The header of the object at an address."""
        at = self.base + address
        head = self._bytes(at, 16)
        if head[:4] == b"OHDR":
            return self._new_header(at)
        if head[0] == 1:
            size = int.from_bytes(head[8:12], "little")
            return _Header(at + 16, size, old=True, ordered=False)
        raise ValueError("an object has a header of an unknown version")

    def _new_header(self, at: int) -> _Header:
        """The header of version 2 at a place of the region."""
        flags = self._bytes(at + 5, 1)[0]
        start = at + 6
        if flags & 0x20:  # four times are kept
            start += 16
        if flags & 0x10:  # two limits of attributes are kept
            start += 4
        width = 1 << (flags & 3)
        size = int.from_bytes(self._bytes(start, width), "little")
        ordered = bool(flags & 4)
        return _Header(start + width, size, old=False, ordered=ordered)

    def _continuation(self, body: bytes, *, old: bool) -> tuple[int, int]:
        """Place and size of the messages in a further block of a header."""
        offset_width, length_width = self.sizes
        offset = self.base + _number(body, 0, offset_width)
        size = _number(body, offset_width, length_width)
        if old:
            return offset, size
        return offset + 4, size - 8  # without signature and checksum

    def _attribute(self, message: _Message) -> tuple[str, list[bytes] | None]:
        """Name and texts of an attribute."""
        name, kind, space, data = _attribute_parts(message)
        decoded = name.split(b"\0")[0].decode("utf-8", "replace")
        values = self._values(kind, space, data)
        return decoded, values

    def _values(self, kind: bytes, space: bytes, data: bytes) -> list[bytes] | None:
        """The texts of an attribute with this type and this shape. None where it holds no texts."""
        count = self._count(space)
        if count == 0:  # NumPy makes an empty list one of floats
            return []
        size = _number(kind, 4, 4)
        type_class = kind[0] & 15
        type_kind = kind[1] & 15
        variable = (type_class, type_kind) == (_VARIABLE, _TEXT_OF_VARIABLE)
        if type_class != _FIXED and not variable:
            return None
        if size == 0 or count * size > len(data):
            raise ValueError("an attribute declares more than it holds")
        items = [data[at : at + size] for at in range(0, count * size, size)]
        if variable:
            return self._variable(items)
        return _fixed(items, type_kind)

    def _count(self, space: bytes) -> int:
        """The number of elements of a shape."""
        if len(space) < 4 or space[0] not in {1, 2}:
            raise ValueError("an attribute has a shape of an unknown version")
        version, axes, _, kind = space[:4]
        if version == 2 and kind == _NULL_SPACE:
            return 0
        start = 8 if version == 1 else 4
        width = self.sizes[1]
        sides = [_number(space, start + width * axis, width) for axis in range(axes)]
        return math.prod(sides)

    def _variable(self, items: list[bytes]) -> list[bytes]:
        """Texts of variable length. Each item names a length, the address of a heap, and a number in it."""
        width = self.sizes[0]
        lengths = [_number(item, 0, 4) for item in items]
        if sum(lengths) > TEXT_LIMIT:
            raise ValueError(f"an attribute is longer than {TEXT_LIMIT} bytes")
        values = []
        for item, length in zip(items, lengths, strict=True):
            address = _number(item, 4, width)
            index = _number(item, 4 + width, 4)
            value = b""
            if length > 0:
                value = self._heap_text(address, index, length)
            values.append(value)
        return values

    def _heap_text(self, address: int, index: int, length: int) -> bytes:
        """The text number `index` in the heap at an address, up to its first zero byte."""
        heap = self._heap(address)
        stored = heap.get(index, b"")
        if len(stored) < length:
            raise ValueError("a text is not where it should be")
        return stored[:length].split(b"\0")[0]

    def _heap(self, address: int) -> dict[int, bytes]:
        """The texts of the heap at an address, by number. Each heap is read once."""
        if address in self._heaps:
            return self._heaps[address]
        start = self.base + address
        width = self.sizes[1]
        head = self._bytes(start, 8 + width)
        size = _number(head, 8, width)
        self._heap_bytes += size
        if head[:4] != b"GCOL" or self._heap_bytes > 2 * self.region.size:
            raise ValueError("a heap of texts is damaged")
        data = self._bytes(start, size)
        texts = _heap_texts(data, width)
        self._heaps[address] = texts
        return texts


def _number(data: bytes, at: int, size: int) -> int:
    """The unsigned number of `size` bytes at a place of `data`."""
    end = at + size
    if end > len(data):
        raise ValueError("a part of it is cut short")
    return int.from_bytes(data[at:end], "little")


def _padded(size: int) -> int:
    """A size in bytes with what fills it up to a multiple of 8."""
    return -(-size // 8) * 8


def _block_messages(data: bytes, header: _Header) -> Iterator[_Message]:
    """The messages in one block of a header."""
    form, width = "<BHB", 4
    if header.old:
        form, width = "<HHB", 8
    elif header.ordered:
        width = 6
    at = 0
    while at + width <= len(data):
        kind, size, flags = struct.unpack_from(form, data, at)
        start = at + width
        at = start + size
        if at > len(data):
            raise ValueError("the header of an object is cut short")
        yield _Message(kind, flags, data[start:at])


def _attribute_parts(message: _Message) -> tuple[bytes, bytes, bytes, bytes]:
    """Name, type, shape and values of an attribute, as bytes."""
    body = message.body
    shared = message.flags & 2
    if shared or len(body) < 9:
        raise ValueError("an attribute is of an unknown version or shared")
    version, flags = body[:2]
    shared_parts = version > 1 and flags
    if version not in {1, 2, 3} or shared_parts:
        raise ValueError("an attribute is of an unknown version or shared")
    at = 9 if version == 3 else 8
    parts = []
    for length in struct.unpack_from("<3H", body, 2):
        parts.append(body[at : at + length])
        at += _padded(length) if version == 1 else length
    name, kind, space = parts
    return name, kind, space, body[at:]


def _fixed(items: list[bytes], kind: int) -> list[bytes]:
    """Texts of fixed length without what fills them up: spaces, or all from the first zero byte on."""
    if kind == _SPACE_PADDED:
        return [item.rstrip(b" ") for item in items]
    return [item.split(b"\0")[0] for item in items]


def _heap_texts(data: bytes, width: int) -> dict[int, bytes]:
    """The texts of a heap, by number. `width` is the size of a length in bytes."""
    texts: dict[int, bytes] = {}
    head = 8 + width
    at = head
    while at + head <= len(data):
        index = _number(data, at, 2)
        length = _number(data, at + 8, width)
        if index == 0:  # free space, the last
            break
        start = at + head
        end = start + length
        if end > len(data):
            raise ValueError("a heap of texts is damaged")
        texts[index] = data[start:end]
        at = start + _padded(length)
    return texts
