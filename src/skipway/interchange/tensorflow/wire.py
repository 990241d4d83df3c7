"""TensorFlow's protocol buffers: messages whose fields are asked for as what the schema says they are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipway.interchange.containers.protobuf import BYTES, VARINT, WIDTH, Budget, WireField, encode_int, fields, signed

MAX_FIELDS = 2_000_000  # of one file; the largest networks have some hundred thousand
_PIECE = 1 << 20  # bytes of packed numbers decoded at once


class Value(NamedTuple):
    """The value of a field. Each method raises ValueError where the file keeps another kind of value.

    `number` is the value of a number, `payload` the bytes of any other value where they lie, and `budget` the budget of
    the file.
    """

    wire: int
    number: int
    payload: memoryview
    budget: Budget

    def integer(self) -> int:
        """The value as a signed whole number."""
        if self.wire == BYTES:
            raise ValueError("a field that should be a number is text")
        return signed(self.number)

    def float32(self) -> float:
        """The value as a number of single precision."""
        bits = self.integer() & 0xFFFFFFFF
        content = bits.to_bytes(4, "little")
        result: float = struct.unpack("<f", content)[0]
        return result

    def bytes(self) -> memoryview:
        """The value as bytes, which are not copied."""
        if self.wire != BYTES:
            raise ValueError("a field that should be text is a number")
        return self.payload

    def text(self) -> str:
        """The value as text."""
        content = self.bytes()
        try:
            return str(content, "utf-8")
        except UnicodeDecodeError:
            raise ValueError("a name is not UTF-8") from None

    def message(self) -> Message:
        """The value as a message, whose fields count towards the same budget."""
        return Message(self.bytes(), self.budget)


class Message:
    """The fields of a message, in their order. Long payloads are never copied; the budget is that of the file."""

    def __init__(self, view: memoryview, budget: Budget | None = None) -> None:
        self.view = view
        if budget is None:
            budget = Budget(MAX_FIELDS)
        self.budget = budget

    def __iter__(self) -> Iterator[tuple[int, Value]]:
        """Number and value of each field; numbers of fixed width, listed one by one, come packed. Raises ValueError."""
        for field in fields(self.view, 0, len(self.view), self.budget):
            value = self._value(field)
            yield field.number, value

    def _value(self, field: WireField) -> Value:
        """The value of a field as its wire type has it."""
        payload = self.view[field.start : field.end]
        if field.wire == VARINT:
            return Value(VARINT, field.value, payload, self.budget)
        if field.items > 1:
            packed = _without_tags(payload, field.items)
            return Value(BYTES, 0, packed, self.budget)
        if field.wire in WIDTH:
            number = int.from_bytes(payload, "little")
            return Value(field.wire, number, payload, self.budget)
        return Value(BYTES, 0, payload, self.budget)


def _without_tags(payload: memoryview, items: int) -> memoryview:
    """Numbers of fixed width without the tag of one byte that stands before each of them."""
    rows = np.frombuffer(payload, np.uint8).reshape(items, -1)
    numbers = rows[:, 1:]
    return memoryview(numbers.tobytes())


def unpacked_varints(packed: memoryview) -> NDArray[np.uint64]:
    """The numbers of a packed field, many at once. Raises ValueError."""
    groups = np.frombuffer(packed, np.uint8)
    count = np.count_nonzero(groups < 0x80)
    values = np.zeros(count, np.uint64)
    start = 0
    filled = 0
    while start < len(groups):
        piece = groups[start : start + _PIECE]
        ends = np.flatnonzero(piece < 0x80)
        if not len(ends):
            raise ValueError("a packed number does not end")
        values[filled : filled + len(ends)] = _decode(piece, ends)
        start += int(ends[-1]) + 1
        filled += len(ends)
    return values


def _decode(piece: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[np.uint64]:
    """The numbers whose last bytes are at `ends`. Each byte holds seven bits, the lowest first. Raises ValueError."""
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins + 1
    longest = int(lengths.max())
    if longest > 10:
        raise ValueError("a packed number has more than ten bytes")
    values = np.zeros(len(ends), np.uint64)
    for place in range(longest):
        is_longer = lengths > place
        seven_bits = piece[begins[is_longer] + place] & np.uint8(0x7F)
        values[is_longer] |= seven_bits.astype(np.uint64) << np.uint64(7 * place)
    return values


def number_field(number: int, value: int) -> bytes:
    """Encode a field with a whole number; zero is the default and takes no bytes."""
    if value == 0:
        return b""
    return encode_int(number, value)
