"""Caffe's messages as plain mappings of a field's name to the list of its values, whichever form they were read from.

The binary form is decoded here; `prototxt` parses the text, whose values are then checked here against the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skipway.interchange.caffe.schema import ENUMERATIONS, MESSAGES, NUMBERS, Entry
from skipway.interchange.containers import protobuf
from skipway.interchange.containers.protobuf import Budget, Buffer, Field, WireError

Message = dict[str, list[Any]]

# Thousands of layers fit in; a file made of nothing but tiny fields is refused in time.
MAX_FIELDS = 300_000
MAX_TEXT = 1 << 16  # bytes
_SPANS = {"float32s": (protobuf.FIXED32, 4), "float64s": (protobuf.FIXED64, 8), "raw": (protobuf.BYTES, 1)}


class TextError(ValueError):
    """A text that is not of the form; the message tells the line or the field."""


class Symbol(str):
    """A bare word of the text form, such as MAX or true."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Span:
    """`count` numbers of `width` bytes that stay in the file, from byte `start`, each led by `gap` bytes to skip."""

    start: int
    count: int
    width: int
    gap: int


def decode(buffer: Buffer, start: int, end: int, kind: str, budget: Budget) -> Message:
    """The message of that kind at `buffer[start:end]`; fields that the schema lacks are left out. Raises WireError.

    The schema has no message that holds itself: recursion ends after five levels whatever the file says.
    """
    message: Message = {}
    entries = MESSAGES[kind]
    for field in protobuf.fields(buffer, start, end, budget):
        entry = entries.get(field.number)
        if entry is None:
            continue
        found = _values(buffer, field, entry, budget)
        if found:
            message.setdefault(entry.name, []).extend(found)
    return message


def _values(buffer: Buffer, field: Field, entry: Entry, budget: Budget) -> list[Any]:
    """Empty where the field is of another wire type: forks of Caffe gave some numbers another meaning."""
    kind, wire = entry.kind, field.wire
    if kind in _SPANS:
        return _spans(field, entry)
    if kind in MESSAGES:
        return [decode(buffer, field.start, field.end, kind, budget)] if wire == protobuf.BYTES else []
    if kind == "text":
        return [_text(buffer, field)] if wire == protobuf.BYTES else []
    if kind == "float":
        return _floats(buffer, field, budget)
    if wire not in (protobuf.VARINT, protobuf.BYTES):
        return []
    values = []
    for value in protobuf.varints(buffer, field):
        if wire == protobuf.BYTES:
            budget.spend()
        values.append(_whole(protobuf.signed(value), kind))
    return values


def _whole(value: int, kind: str) -> int | bool | str:
    if kind == "bool":
        return bool(value)
    return ENUMERATIONS[kind].get(value, value) if kind in ENUMERATIONS else value


def _text(buffer: Buffer, field: Field) -> str:
    if field.end - field.start > MAX_TEXT:
        raise WireError(f"the text at byte {field.start:,} has {field.end - field.start:,} bytes")
    return bytes(buffer[field.start : field.end]).decode("utf-8", "backslashreplace")


def _floats(buffer: Buffer, field: Field, budget: Budget) -> list[float]:
    """As they read in a text: 0.1, not the 0.10000000149 nearest to it in single precision."""
    if field.wire == protobuf.BYTES and (field.end - field.start) % 4 == 0:
        step, count, start = 4, (field.end - field.start) // 4, field.start
    elif field.wire == protobuf.FIXED32:
        step, count, start = (4, 1, field.start) if field.items == 1 else (5, field.items, field.start + 1)
    else:
        return []
    values = []
    for place in range(start, start + step * count, step):
        budget.spend()
        values.append(float(str(np.frombuffer(buffer[place : place + 4], "<f4")[0])))
    return values


def _spans(field: Field, entry: Entry) -> list[Span]:
    wire, width = _SPANS[entry.kind]
    size = field.end - field.start
    if field.wire == protobuf.BYTES:
        if size % width:
            raise WireError(f"the {entry.name} at byte {field.start:,} are {size:,} bytes, no multiple of {width}")
        return [Span(field.start, size // width, width, 0)]
    if field.wire != wire:
        return []
    return [Span(field.start, field.items, width, 1 if field.items > 1 else 0)]


def conform(message: Message, kind: str, where: str = "") -> None:
    """Turn the values of a parsed text, in place, into those that the binary form would give.

    Raises TextError where a value is not of its field's kind, or stands twice where it may stand once.
    """
    for name, values in message.items():
        _, entry = NUMBERS[kind].get(name, (0, None)) if kind else (0, None)
        place = f"{where}.{name}" if where else name
        if entry is not None and not entry.repeated and len(values) > 1:
            raise TextError(f"{place} stands {len(values)} times; it may stand once")
        for index, value in enumerate(values):
            if isinstance(value, dict):
                if entry is not None and entry.kind not in MESSAGES:
                    raise TextError(f"{place} is a message; it must be of kind {entry.kind}")
                conform(value, entry.kind if entry is not None else "", place)
            else:
                values[index] = _conformed(value, entry, place)


def _conformed(value: Any, entry: Entry | None, place: str) -> Any:
    if entry is None:
        return {"true": True, "false": False}.get(value, value) if isinstance(value, Symbol) else value
    kind, symbol = entry.kind, isinstance(value, Symbol)
    if kind == "text" and isinstance(value, str) and not symbol:
        return value
    if kind == "bool" and (value in (0, 1) or (symbol and value in ("true", "false", "t", "f"))):
        return value in (1, "true", "t")
    if kind == "float" and isinstance(value, int | float):
        return float(value)
    if kind == "int" and isinstance(value, int):
        return value
    if kind in ENUMERATIONS and (symbol or isinstance(value, int)):
        return str(value) if symbol else _whole(value, kind)
    if kind in ("float32s", "float64s") and isinstance(value, int | float):
        return value
    raise TextError(f"{place} is {str(value)[:40]!r}; it must be of kind {kind if kind not in MESSAGES else 'message'}")


def plain(message: Message, kind: str) -> dict[str, Any]:
    """Repeated fields as tuples, the others as their value (the last, as protocol buffers have it)."""
    simple: dict[str, Any] = {}
    for name, values in message.items():
        if not values:
            continue
        _, entry = NUMBERS[kind].get(name, (0, None)) if kind else (0, None)
        inner = entry.kind if entry is not None and entry.kind in MESSAGES else ""
        made = tuple(plain(value, inner) if isinstance(value, dict) else value for value in values)
        simple[name] = made if (entry.repeated if entry is not None else len(made) > 1) else made[-1]
    return simple


def last(message: Message, name: str, default: Any = None) -> Any:
    """The value of a field that is not repeated: the last one counts."""
    values = message.get(name)
    return values[-1] if values else default
