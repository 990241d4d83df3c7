"""Protocol buffers' wire format: https://protobuf.dev/programming-guides/encoding, read field by field, and written.

A message is walked, never loaded: of long payloads only their places are told, so that a file of any size can be mapped
and its numbers left where they are. Nothing here knows what the fields mean, and nothing recurses.

Why an own reader: protobuf loads a message whole, and none of more than 2 GB. Here a budget
bounds the number of fields, and a length that runs past its message is refused before anything is read.
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


class Field(NamedTuple):
    """One field as it lies in the buffer.

    `start` and `end` bound the payload. `value` is the number of a VARINT, unsigned. Repeated numbers of fixed width
    that are not packed come as one field: `items` of them, each behind the tag of one byte that leads it, `start` at
    the first tag.
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
        self.left -= 1
        if self.left < 0:
            raise WireError(f"it has more than {self.fields:,} fields")


def fields(buffer: Buffer, start: int, end: int, budget: Budget) -> Iterator[Field]:
    """The fields of the message at `buffer[start:end]`, in their order. Raises WireError."""
    at = start
    while at < end:
        budget.spend()
        begin = at
        tag, at = varint(buffer, at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"byte {begin:,} starts a field of number {number}")
        if wire == VARINT:
            value, after = varint(buffer, at, end)
            yield Field(number, wire, at, after, value)
        elif wire == BYTES:
            length, at = varint(buffer, at, end)
            after = at + length
            if after > end:
                raise WireError(f"byte {begin:,} declares {length:,} bytes where {end - at:,} are left")
            yield Field(number, wire, at, after)
        elif wire in WIDTH:
            after = at + WIDTH[wire]
            if after > end:
                raise WireError(f"it ends inside the number at byte {begin:,}")
            more = _repeats(buffer, after, end, tag, WIDTH[wire]) if tag < 0x80 else 0
            if more:
                after += more * (1 + WIDTH[wire])
                yield Field(number, wire, begin, after, items=1 + more)
            else:
                yield Field(number, wire, at, after)
        else:
            raise WireError(f"byte {begin:,} starts a field of wire type {wire}")
        at = after


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, seven bits a byte, the lowest first, and the place behind it. Raises WireError."""
    value = shift = 0
    for place in range(at, min(at + 10, end)):
        byte = buffer[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise WireError(f"the number at byte {at:,} has more than 64 bits")
            return value, place + 1
        shift += 7
    raise WireError(f"the number at byte {at:,} " + ("is cut off" if end - at < 10 else "has more than ten bytes"))


def signed(value: int) -> int:
    """An int32 or int64 from its varint: two's complement of 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def varints(buffer: Buffer, field: Field) -> Iterator[int]:
    """The numbers of a field of whole numbers, packed or one alone, unsigned. Raises WireError."""
    if field.wire == VARINT:
        yield field.value
        return
    at = field.start
    while at < field.end:
        value, at = varint(buffer, at, field.end)
        yield value


def _repeats(buffer: Buffer, at: int, end: int, tag: int, width: int) -> int:
    """How many fields of the same tag follow at once. Files from before packing hold a million of them in a row."""
    found, step, chunk = 0, 1 + width, 64
    while (room := (end - at) // step) and buffer[at] == tag:
        tags = np.frombuffer(buffer, np.uint8, min(room, chunk) * step, at)[::step]
        others = np.flatnonzero(tags != tag)
        same = int(others[0]) if others.size else tags.size
        found, at, chunk = found + same, at + same * step, min(2 * chunk, 1 << 16)
        if others.size:
            break
    return found


def encode_varint(value: int) -> bytes:
    """`value` from -2**63 to 2**64 - 1."""
    value &= (1 << 64) - 1
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def encode_int(number: int, value: int) -> bytes:
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def encode_float(number: int, value: float) -> bytes:
    with np.errstate(over="ignore"):  # to infinity, as every cast to single precision
        return encode_varint(number << 3 | FIXED32) + np.float32(value).astype("<f4").tobytes()


def encode_bytes(number: int, payload: bytes | memoryview) -> bytes:
    return b"".join((encode_length(number, len(payload)), payload))


def encode_length(number: int, length: int) -> bytes:
    """What stands before a text, a message or packed numbers of `length` bytes."""
    return encode_varint(number << 3 | BYTES) + encode_varint(length)
