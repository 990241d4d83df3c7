"""TensorFlow's protocol buffers: messages whose fields are asked for as what the schema says they are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skipway.interchange.containers.protobuf import BYTES, VARINT, WIDTH, Budget, encode_int, fields, signed

MAX_FIELDS = 2_000_000  # of one file; the largest networks have some hundred thousand
_PIECE = 1 << 20  # bytes of packed numbers decoded at once


class Value(NamedTuple):
    """A field's value: a number as it is, anything else as its bytes in place. Each method raises ValueError where the
    file keeps another kind of value."""

    wire: int
    number: int
    payload: memoryview
    budget: Budget

    def integer(self) -> int:
        if self.wire == BYTES:
            raise ValueError("a field that should be a number is text")
        return signed(self.number)

    def float32(self) -> float:
        result: float = struct.unpack("<f", (self.integer() & 0xFFFFFFFF).to_bytes(4, "little"))[0]
        return result

    def bytes(self) -> memoryview:
        if self.wire != BYTES:
            raise ValueError("a field that should be text is a number")
        return self.payload

    def text(self) -> str:
        try:
            return str(self.bytes(), "utf-8")
        except UnicodeDecodeError:
            raise ValueError("a name is not UTF-8") from None

    def message(self) -> Message:
        return Message(self.bytes(), self.budget)


class Message:
    """The fields of a message, in their order. Long payloads are never copied; the budget is that of the file."""

    def __init__(self, view: memoryview, budget: Budget | None = None) -> None:
        self.view = view
        self.budget = budget or Budget(MAX_FIELDS)

    def __iter__(self) -> Iterator[tuple[int, Value]]:
        """Number and value of each field; numbers of fixed width, listed one by one, come packed. Raises ValueError."""
        for field in fields(self.view, 0, len(self.view), self.budget):
            payload = self.view[field.start : field.end]
            if field.wire == VARINT:
                yield field.number, Value(VARINT, field.value, payload, self.budget)
            elif field.items > 1:  # each behind a tag of one byte
                packed = np.frombuffer(payload, np.uint8).reshape(field.items, -1)[:, 1:].tobytes()
                yield field.number, Value(BYTES, 0, memoryview(packed), self.budget)
            elif field.wire in WIDTH:
                yield field.number, Value(field.wire, int.from_bytes(payload, "little"), payload, self.budget)
            else:
                yield field.number, Value(BYTES, 0, payload, self.budget)


def unpacked_varints(packed: memoryview) -> NDArray[np.uint64]:
    """The numbers of a packed field, many at once. Raises ValueError."""
    groups = np.frombuffer(packed, np.uint8)
    values = np.zeros(np.count_nonzero(groups < 0x80), np.uint64)
    start = filled = 0
    while start < len(groups):
        piece = groups[start : start + _PIECE]
        ends = np.flatnonzero(piece < 0x80)
        if not len(ends):
            raise ValueError("a packed number does not end")
        begins = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - begins + 1
        if lengths.max() > 10:
            raise ValueError("a packed number has more than ten bytes")
        some = values[filled : filled + len(ends)]
        for place in range(int(lengths.max())):
            longer = lengths > place
            part = (piece[begins[longer] + place] & np.uint8(0x7F)).astype(np.uint64)
            some[longer] |= part << np.uint64(7 * place)
        start, filled = start + int(ends[-1]) + 1, filled + len(ends)
    return values


def number_field(number: int, value: int) -> bytes:
    """A field with a whole number; zero is the default and takes no bytes."""
    return encode_int(number, value) if value else b""
