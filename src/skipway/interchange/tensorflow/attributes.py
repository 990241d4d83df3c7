"""The attributes of the nodes of a TensorFlow graph (AttrValue) as plain Python values."""

from __future__ import annotations

from typing import Any

import numpy as np

from skipway.interchange.containers.protobuf import BYTES, signed
from skipway.interchange.tensorflow.tensor import type_name
from skipway.interchange.tensorflow.wire import Message, Value, unpacked_varints

# Numbers of the fields of an AttrValue; those of the list inside it are the same.
_LIST, _TEXT, _INTEGER, _FLOAT, _BOOLEAN, _TYPE, _SHAPE, _TENSOR = 1, 2, 3, 4, 5, 6, 7, 8
# Numbers of the fields of an entry of the attributes, of a TensorShapeProto and of one of its dimensions.
_KEY, _VALUE = 1, 2
_DIMENSION, _UNKNOWN_RANK = 2, 3
_SIZE = 1


def named_attribute(entry: Message) -> tuple[str, Message]:
    """Give the name and the AttrValue of one entry of a node's attributes. Raises ValueError."""
    name = ""
    attribute = Message(memoryview(b""), entry.budget)
    for number, value in entry:
        if number == _KEY:
            name = value.text()
        elif number == _VALUE:
            attribute = value.message()
    return name, attribute


def tensor_of(attribute: Message) -> Message | None:
    """Give the TensorProto of an AttrValue; None where it holds none. Raises ValueError."""
    for number, value in attribute:
        if number == _TENSOR:
            return value.message()
    return None


def plain_value(attribute: Message) -> Any:
    """Give an AttrValue as a number, a text, bytes, a shape or a tuple of these; None for anything else.

    Raises ValueError where the attribute is damaged.
    """
    for number, value in attribute:
        if number == _LIST:
            return _listed(value.message())
        return _scalar(number, value)
    return None


def _listed(message: Message) -> tuple[Any, ...]:
    """The items of a ListValue."""
    items: list[Any] = []
    for number, value in message:
        items.extend(_items(number, value))
    return tuple(items)


def _items(number: int, value: Value) -> list[Any]:
    """The items of one field of a ListValue: many where they are packed, else one."""
    in_bytes = value.wire == BYTES
    if in_bytes and number == _FLOAT:
        return _packed_floats(value.payload)
    if in_bytes and number in {_INTEGER, _BOOLEAN, _TYPE}:
        return _packed_integers(number, value.payload)
    return [_scalar(number, value)]


def _packed_floats(payload: memoryview) -> list[float]:
    """Numbers of single precision that lie one behind the other."""
    if len(payload) % 4:
        raise ValueError("a list of numbers is cut off")
    numbers = np.frombuffer(payload, "<f4")
    return [float(number) for number in numbers]


def _packed_integers(number: int, payload: memoryview) -> list[Any]:
    """Whole numbers that lie one behind the other, or the names of the types that they stand for."""
    unsigned = unpacked_varints(payload)
    integers = [signed(int(item)) for item in unsigned]
    if number == _TYPE:
        return [type_name(code) for code in integers]
    return integers


def _scalar(number: int, value: Value) -> Any:
    """The value of one field of an AttrValue or of a ListValue."""
    if number == _TEXT:
        content = bytes(value.bytes())
        if content.isascii():
            return content.decode()
        return content
    if number == _FLOAT:
        return value.float32()
    if number == _BOOLEAN:
        return bool(value.integer())
    if number == _INTEGER:
        return value.integer()
    if number == _TYPE:
        code = value.integer()
        return type_name(code)
    if number == _SHAPE:
        shape = value.message()
        return _shape(shape)
    return None


def _shape(message: Message) -> tuple[int, ...] | None:
    """A TensorShapeProto: a size is -1 where it is unknown, and the shape None where even its rank is unknown."""
    sizes: list[int] = []
    for number, value in message:
        if number == _UNKNOWN_RANK and value.integer():
            return None
        if number == _DIMENSION:
            size = _dimension(value.message())
            sizes.append(size)
    return tuple(sizes)


def _dimension(message: Message) -> int:
    """The size of a dimension; 0 is the default and is not written."""
    for number, value in message:
        if number == _SIZE:
            return value.integer()
    return 0
