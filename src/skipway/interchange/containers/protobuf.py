"""Protocol buffers' wire format: https://protobuf.dev/programming-guides/encoding, read field by field, and written.

A message is read field by field and never loaded whole: of a long payload only its place is given. So a file of any
size can be mapped, and its numbers stay where they are. Nothing here knows what the fields mean, and nothing recurses.

Why an own reader: protobuf loads a message whole, and none of more than 2 GB. Here a budget limits the number of
fields, and a length that runs past its message is refused before anything is read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Buffer = bytes | memoryview | mmap.mmap

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTH = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """Bytes that are no message. The text says what is wrong, not in which file."""


class WireField(NamedTuple):
    """One field as it lies in the buffer.

    - `number`: the number of the field in its message.
    - `wire`: its wire type: VARINT, FIXED64, BYTES or FIXED32.
    - `start`, `end`: where its payload lies.
    - `value`: the number of a VARINT, unsigned.
    - `items`: how many fields it stands for. Repeated numbers of fixed width that are not packed come as one field:
      `start` is then at the first tag, and each number follows a tag of one byte.
    """

    number: int
    wire: int
    start: int
    end: int
    value: int = 0
    items: int = 1


class Budget:
    """How many fields may still be read of a file: each costs time and memory that its few bytes do not show."""

    def __init__(self, fields: int) -> None:
        self.fields = self.left = fields

    def spend(self) -> None:
        """Count one field. Raises WireError where the budget is used up."""
        self.left -= 1
        if self.left < 0:
            raise WireError(f"it has more than {self.fields:,} fields")


def fields(buffer: Buffer, start: int, end: int, budget: Budget) -> Iterator[WireField]:
    """The fields of the message at `buffer[start:end]`, in their order. Raises WireError."""
    at = start
    while at < end:
        budget.spend()
        field = _field(buffer, at, end)
        yield field
        at = field.end


def _field(buffer: Buffer, begin: int, end: int) -> WireField:
    """The field at `begin` in a message that ends at `end`."""
    tag, at = varint(buffer, begin, end)
    number = tag >> 3
    wire = tag & 7
    if not 0 < number < 1 << 29:
        raise WireError(f"byte {begin:,} starts a field of number {number}")
    if wire == VARINT:
        value, after = varint(buffer, at, end)
        return WireField(number, wire, at, after, value)
    if wire == BYTES:
        length, at = varint(buffer, at, end)
        left = end - at
        if length > left:
            raise WireError(f"byte {begin:,} declares {length:,} bytes where {left:,} are left")
        return WireField(number, wire, at, at + length)
    if wire not in WIDTH:
        raise WireError(f"byte {begin:,} starts a field of wire type {wire}")
    width = WIDTH[wire]
    after = at + width
    if after > end:
        raise WireError(f"it ends inside the number at byte {begin:,}")
    more = 0
    if tag < 0x80:
        more = _repeats(buffer, after, end, tag, width)
    if more == 0:
        return WireField(number, wire, at, after)
    after += more * (1 + width)
    return WireField(number, wire, begin, after, items=1 + more)


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, seven bits a byte, the lowest first, and the place behind it. Raises WireError."""
    value = 0
    shift = 0
    for place in range(at, min(at + 10, end)):
        byte = buffer[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise WireError(f"the number at byte {at:,} has more than 64 bits")
            return value, place + 1
        shift += 7
    if end - at < 10:
        raise WireError(f"the number at byte {at:,} is cut off")
    raise WireError(f"the number at byte {at:,} has more than ten bytes")


def signed(value: int) -> int:
    """An int32 or int64 from its varint: two's complement of 64 bits."""
    negative = value >> 63
    if negative:
        return value - (1 << 64)
    return value


def varints(buffer: Buffer, field: WireField) -> Iterator[int]:
    """The numbers of a field of whole numbers, packed or one alone, unsigned. Raises WireError."""
    if field.wire == VARINT:
        yield field.value
        return
    at = field.start
    while at < field.end:
        value, at = varint(buffer, at, field.end)
        yield value


def _repeats(buffer: Buffer, at: int, end: int, tag: int, width: int) -> int:
    """How many numbers of `width` bytes with the same tag follow at once: at `at`, in a message that ends at `end`.

    Files from before packing hold a million of them in a row, so the tags are compared in pieces that grow.
    """
    step = 1 + width
    left = (end - at) // step
    found = 0
    piece = 64
    while found < left:
        start = at + found * step
        if buffer[start] != tag:
            break
        count = min(left - found, piece)
        data = np.frombuffer(buffer, np.uint8, count * step, start)
        tags = data[::step]
        others = np.flatnonzero(tags != tag)
        if others.size:
            found += int(others[0])
            break
        found += count
        piece = min(2 * piece, 1 << 16)
    return found


def encode_varint(value: int) -> bytes:
    """`value`, from -2**63 to 2**64 - 1, as a varint."""
    mask = (1 << 64) - 1
    left = value & mask
    groups = bytearray()
    while left > 0x7F:
        groups.append(left & 0x7F | 0x80)
        left >>= 7
    groups.append(left)
    return bytes(groups)


def encode_int(number: int, value: int) -> bytes:
    """The field `number` with a whole number."""
    tag = number << 3 | VARINT
    return encode_varint(tag) + encode_varint(value)


def encode_float(number: int, value: float) -> bytes:
    """The field `number` with a number of single precision. Too large ones become infinite, as in every such cast."""
    tag = number << 3 | FIXED32
    with np.errstate(over="ignore"):
        single = np.float32(value).astype("<f4")
    return encode_varint(tag) + single.tobytes()


def encode_bytes(number: int, payload: bytes | memoryview) -> bytes:
    """The field `number` with a text, a message or packed numbers."""
    head = encode_length(number, len(payload))
    return b"".join((head, payload))


def encode_length(number: int, length: int) -> bytes:
    """What stands before the `length` bytes of a text, a message or packed numbers in the field `number`."""
    tag = number << 3 | BYTES
    return encode_varint(tag) + encode_varint(length)
