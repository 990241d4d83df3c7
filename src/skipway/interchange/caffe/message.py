"""Caffe's messages as plain mappings of a field's name to the list of its values, whichever form they were read from.

The binary form is decoded here; `prototxt` parses the text, whose values are then checked here against the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skipway.interchange.caffe.schema import ENUMERATIONS, MESSAGES, NUMBERS, SchemaField
from skipway.interchange.containers import protobuf
from skipway.interchange.containers.protobuf import Budget, Buffer, WireError, WireField

Message = dict[str, list[Any]]

# Thousands of layers fit in; a file made of nothing but tiny fields is refused in time.
MAX_FIELDS = 300_000
MAX_TEXT = 1 << 16  # bytes
_TEXT_TRUTH = {"true": True, "t": True, "false": False, "f": False}
# The numbers of a blob: the wire type of one number, and its width in bytes.
_SPANS = {"float32s": (protobuf.FIXED32, 4), "float64s": (protobuf.FIXED64, 8), "raw": (protobuf.BYTES, 1)}


class TextError(ValueError):
    """A text that is not in the text form. The message names the line or the field."""


class Symbol(str):
    """A bare word of the text form, such as MAX or true."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """Numbers that stay in the file.

    They are `count` numbers of `width` bytes each and begin at byte `start`. `gap` bytes, to be skipped, stand before
    each of them.
    """

    start: int
    count: int
    width: int
    gap: int


def decode(buffer: Buffer, start: int, end: int, kind: str, budget: Budget) -> Message:
    """The message of that kind at `buffer[start:end]`. Fields that the schema lacks are left out.

    The schema has no message that holds itself: recursion ends after five levels, whatever the file says. Raises
    WireError where the bytes are not such a message or the budget of fields is spent.
    """
    message: Message = {}
    entries = MESSAGES[kind]
    for field in protobuf.fields(buffer, start, end, budget):
        entry = entries.get(field.number)
        if entry is None:
            continue
        found = _values(buffer, field, entry, budget)
        if found:
            values = message.setdefault(entry.name, [])
            values.extend(found)
    return message


def _values(buffer: Buffer, field: WireField, entry: SchemaField, budget: Budget) -> list[Any]:
    """The values of a field.

    There are none where the field has another wire type: forks of Caffe gave some numbers another meaning.
    """
    kind = entry.kind
    if kind in _SPANS:
        return _spans(field, entry)
    if kind == "float":
        return _floats(buffer, field, budget)
    is_bytes = field.wire == protobuf.BYTES
    if kind in MESSAGES:
        if not is_bytes:
            return []
        message = decode(buffer, field.start, field.end, kind, budget)
        return [message]
    if kind == "text":
        if not is_bytes:
            return []
        text = _text(buffer, field)
        return [text]
    return _integers(buffer, field, kind, budget)


def _integers(buffer: Buffer, field: WireField, kind: str, budget: Budget) -> list[int | bool | str]:
    packed = field.wire == protobuf.BYTES
    if not packed and field.wire != protobuf.VARINT:
        return []
    values = []
    for number in protobuf.varints(buffer, field):
        if packed:
            budget.spend()
        signed = protobuf.signed(number)
        values.append(_named(signed, kind))
    return values


def _named(value: int, kind: str) -> int | bool | str:
    """An integer as a truth value or as the word of an enumeration, where its field is of such a kind."""
    if kind == "bool":
        return bool(value)
    words = ENUMERATIONS.get(kind, {})
    return words.get(value, value)


def _text(buffer: Buffer, field: WireField) -> str:
    size = field.end - field.start
    if size > MAX_TEXT:
        raise WireError(f"the text at byte {field.start:,} has {size:,} bytes")
    encoded = bytes(buffer[field.start : field.end])
    return encoded.decode("utf-8", "backslashreplace")


def _floats(buffer: Buffer, field: WireField, budget: Budget) -> list[float]:
    """Numbers of single precision as they read in a text: 0.1, not the 0.10000000149 nearest to it."""
    size = field.end - field.start
    if field.wire == protobuf.BYTES and size % 4 == 0:
        count = size // 4
        gap = 0
    elif field.wire == protobuf.FIXED32:
        count = field.items
        gap = _gap(field)
    else:
        return []
    values = []
    place = field.start + gap
    for _ in range(count):
        budget.spend()
        number = np.frombuffer(buffer[place : place + 4], "<f4")[0]
        shortest = str(number)
        values.append(float(shortest))
        place += 4 + gap
    return values


def _spans(field: WireField, entry: SchemaField) -> list[ByteSpan]:
    """Where the numbers of a blob lie in the file. Raises WireError where their bytes are no whole numbers."""
    wire, width = _SPANS[entry.kind]
    if field.wire == protobuf.BYTES:
        size = field.end - field.start
        if size % width:
            raise WireError(f"the {entry.name} at byte {field.start:,} are {size:,} bytes, no multiple of {width}")
        packed = ByteSpan(field.start, size // width, width, gap=0)
        return [packed]
    if field.wire != wire:
        return []
    gap = _gap(field)
    unpacked = ByteSpan(field.start, field.items, width, gap)
    return [unpacked]


def _gap(field: WireField) -> int:
    """Bytes before each number of numbers that are not packed: the tag of each, where there are several of them."""
    has_tags = field.items > 1
    return int(has_tags)


def _entry_of(name: str, kind: str) -> SchemaField | None:
    """What the schema says of a field of a message of that kind; None where it says nothing."""
    entries = NUMBERS.get(kind, {})
    _, entry = entries.get(name, (0, None))
    return entry


def _message_kind(entry: SchemaField | None) -> str:
    """The kind of the messages that a field holds, "" where the schema has none."""
    if entry is None or entry.kind not in MESSAGES:
        return ""
    return entry.kind


def conform(message: Message, kind: str, where: str = "") -> None:
    """Turn the values of a parsed text, in place, into those that the binary form would give.

    `kind` is the message's kind in the schema, "" where the schema lacks it, and `where` is the path to it for error
    messages. Raises TextError where a value is not of its field's kind, or stands twice where it may stand once.
    """
    for name, values in message.items():
        entry = _entry_of(name, kind)
        place = f"{where}.{name}" if where else name
        may_repeat = entry is None or entry.repeated
        if len(values) > 1 and not may_repeat:
            raise TextError(f"{place} stands {len(values)} times; it may stand once")
        inner_kind = _message_kind(entry)
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                values[index] = _conformed(value, entry, place)
                continue
            if entry is not None and not inner_kind:
                raise TextError(f"{place} is a message; it must be of kind {entry.kind}")
            conform(value, inner_kind, place)


def _conformed(value: Any, entry: SchemaField | None, place: str) -> Any:
    """A value as the binary form would give it. Raises TextError where it is not of its field's kind."""
    if entry is None:
        if isinstance(value, Symbol) and value in ("true", "false"):
            return value == "true"
        return value
    kind = entry.kind
    converted: Any
    if isinstance(value, Symbol):
        converted = _from_symbol(value, kind)
    elif isinstance(value, str):
        converted = value if kind == "text" else None
    else:
        converted = _from_number(value, kind)
    if converted is None:
        shown = str(value)[:40]
        wanted = "message" if kind in MESSAGES else kind
        raise TextError(f"{place} is {shown!r}; it must be of kind {wanted}")
    return converted


def _from_symbol(word: Symbol, kind: str) -> bool | str | None:
    """The value of a bare word; None where a field of that kind cannot have it."""
    if kind == "bool":
        return _TEXT_TRUTH.get(word)
    if kind in ENUMERATIONS:
        return str(word)
    return None


def _from_number(number: int | float, kind: str) -> int | float | bool | str | None:
    """The value of a number; None where a field of that kind cannot have it."""
    if kind == "bool":
        if number not in (0, 1):
            return None
        return bool(number)
    if kind == "float":
        return float(number)
    if kind in ("float32s", "float64s"):
        return number
    if isinstance(number, int) and (kind == "int" or kind in ENUMERATIONS):
        return _named(number, kind)
    return None


def plain(message: Message, kind: str) -> dict[str, Any]:
    """A message with one value a field; repeated fields have a tuple of them.

    Where a field that is not repeated has several values, the last one counts, as protocol buffers have it. A field
    that the schema lacks is taken as repeated where it has several values.
    """
    simple: dict[str, Any] = {}
    for name, values in message.items():
        if not values:
            continue
        entry = _entry_of(name, kind)
        inner_kind = _message_kind(entry)
        made = []
        for value in values:
            if isinstance(value, dict):
                value = plain(value, inner_kind)
            made.append(value)
        repeated = len(made) > 1 if entry is None else entry.repeated
        if repeated:
            simple[name] = tuple(made)
        else:
            simple[name] = made[-1]
    return simple


def last(message: Message, name: str, default: Any = None) -> Any:
    """The value of a field that is not repeated: the last one counts. `default` where the message lacks the field."""
    values = message.get(name)
    if not values:
        return default
    return values[-1]
