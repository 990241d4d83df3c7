"""TensorFlow's element types, shapes and TensorProto: arrays inside protocol buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from skipway.interchange.containers.protobuf import BYTES, WIDTH, encode_bytes, encode_varint
from skipway.interchange.tensorflow.wire import Message, Value, number_field, unpacked_varints

MAX_DIMENSIONS = 32
_MAX_ITEMS = 1 << 56  # of an array; more than any memory holds
# Numbers of the fields of a TensorProto, of a TensorShapeProto and of one of its dimensions.
_TENSOR_CONTENT = 4
_DIMENSION, _UNKNOWN_RANK = 2, 3
_SIZE = 1
_FLOAT_LISTS = frozenset((5, 6))  # the fields of a TensorProto that list numbers of fixed width


@dataclass(frozen=True)
class ElementType:
    """One of TensorFlow's DataTypes.

    `code` is its number in files, `stored` the NumPy type of its stored bytes, `given` the NumPy type that readers
    give, and `listed_in` the field of a TensorProto that lists its values one by one.
    """

    code: int
    name: str
    stored: np.dtype[Any]
    given: np.dtype[Any]
    listed_in: int


def _element(code: int, name: str, listed_in: int, *, stored: str = "", given: str = "") -> ElementType:
    """A type that is stored and given as NumPy's type of the same name, where no other is stated."""
    stored_type = np.dtype(stored or name)
    given_type = np.dtype(given or name)
    return ElementType(code, name, stored_type, given_type, listed_in)


_TYPES = (
    _element(1, "float32", 5),
    _element(2, "float64", 6),
    _element(3, "int32", 7),
    _element(4, "uint8", 7),
    _element(5, "int16", 7),
    _element(6, "int8", 7),
    _element(9, "int64", 10),
    _element(10, "bool", 11, stored="uint8"),
    _element(14, "bfloat16", 13, stored="uint16", given="float32"),  # NumPy has none; float32 holds it exactly
    _element(17, "uint16", 7),
    _element(19, "float16", 13),
    _element(22, "uint32", 16),
    _element(23, "uint64", 17),
)
_BY_CODE = {element.code: element for element in _TYPES}
_BY_DTYPE = {element.given: element for element in reversed(_TYPES)}
# Types that hold no numbers of a network, or that no network here keeps its weights in.
_OTHER_TYPES = {
    7: "string", 8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16", 16: "quint16",
    18: "complex128", 20: "resource", 21: "variant", 24: "float8_e5m2", 25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
_REFERENCE = 100  # old graphs add this to the type of a variable


def element_type(code: int) -> ElementType | None:
    """The type of a code; None for one that holds no plain numbers. Raises ValueError where there is no such type."""
    if code > _REFERENCE:
        code -= _REFERENCE
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code not in _OTHER_TYPES:
        raise ValueError(f"an array has the unknown type {code}")
    return None


def type_name(code: int) -> str:
    """The name of a type, also of one that is not known here."""
    plain_code = code % _REFERENCE
    if plain_code in _BY_CODE:
        return _BY_CODE[plain_code].name
    return _OTHER_TYPES.get(plain_code, f"type {plain_code}")


def type_of(array: np.ndarray) -> ElementType:
    """The type to write an array as. Raises ValueError where TensorFlow has none."""
    native = array.dtype.newbyteorder("=")
    element = _BY_DTYPE.get(native)
    if element is None:
        raise ValueError(f"TensorFlow has no type for {array.dtype}")
    return element


def given(stored: np.ndarray, element: ElementType) -> np.ndarray:
    """Stored values as the array that a reader gives: native byte order, bfloat16 widened to float32."""
    if element.name == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        bits = stored.astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32)
    if element.name == "bool":
        return stored != 0
    return stored.astype(element.given, copy=False)


def shape_of(message: Message) -> tuple[int, ...]:
    """Read a TensorShapeProto. Raises ValueError for shapes that are unknown, negative or beyond all memory."""
    sizes: list[int] = []
    for number, value in message:
        if number == _DIMENSION:
            size = _dimension(value.message())
            sizes.append(size)
        elif number == _UNKNOWN_RANK and value.integer():
            raise ValueError("an array has no shape")
        if len(sizes) > MAX_DIMENSIONS:
            raise ValueError(f"an array has more than {MAX_DIMENSIONS} dimensions")
    has_negative = min(sizes, default=0) < 0
    items = math.prod(max(size, 1) for size in sizes)
    if has_negative or items >= _MAX_ITEMS:
        raise ValueError(f"an array has the impossible shape {tuple(sizes)}")
    return tuple(sizes)


def _dimension(message: Message) -> int:
    """The size of one dimension; 0 is the default and is not written."""
    size = 0
    for number, value in message:
        if number == _SIZE:
            size = value.integer()
    return size


def shape_message(shape: tuple[int, ...]) -> bytes:
    """Encode a TensorShapeProto, the inverse of `shape_of`."""
    dimensions: list[bytes] = []
    for size in shape:
        dimension = number_field(_SIZE, size)
        dimensions.append(encode_bytes(_DIMENSION, dimension))
    return b"".join(dimensions)


def tensor_values(message: Message, element: ElementType, most: int) -> np.ndarray:
    """The values of a TensorProto as they are listed, flat; they may be fewer than its shape asks for.

    Raises ValueError when there are more than `most`, before they are copied.
    """
    content: memoryview | None = None
    listed: list[np.ndarray] = []
    for number, value in message:
        if number == _TENSOR_CONTENT:
            content = value.bytes()
        elif number == element.listed_in:
            listed.append(_listed(value, element))
    if content:
        listed = [_fixed_width(content, element)]
    count = sum(values.size for values in listed)
    if count > most:
        raise ValueError(f"an array of {most} values holds {count}")
    if len(listed) == 1:
        return given(listed[0], element)
    none = np.zeros(0, element.stored)
    values = np.concatenate([none, *listed])
    return given(values, element)


def _listed(value: Value, element: ElementType) -> np.ndarray:
    """The values of one field that lists them: many where they are packed, else one."""
    is_packed = value.wire == BYTES
    if element.listed_in in _FLOAT_LISTS:
        if not is_packed and WIDTH.get(value.wire) != element.stored.itemsize:
            raise ValueError("an array lists its values with another width than its type has")
        return _fixed_width(value.payload, element)
    if is_packed:
        numbers = unpacked_varints(value.payload)
    else:
        numbers = np.array([value.number], np.uint64)
    # They come as 64 bits in two's complement; halves as the 16 bits that they consist of.
    bits = numbers.astype(f"uint{8 * element.stored.itemsize}")
    return bits.view(element.stored)


def _fixed_width(content: memoryview, element: ElementType) -> np.ndarray:
    """The values that lie one behind the other, little-endian as the machine that wrote them. Raises ValueError."""
    width = element.stored.itemsize
    if len(content) % width:
        raise ValueError(f"{len(content)} bytes are no whole number of values of {width}")
    little = element.stored.newbyteorder("<")
    return np.frombuffer(content, little)


def value_list(array: np.ndarray) -> bytes:
    """Encode a TensorProto that lists the values of an array and states neither type nor shape.

    Old checkpoints keep arrays in this form. Raises ValueError for a type that TensorFlow does not have.
    """
    element = type_of(array)
    native = array.dtype.newbyteorder("=")
    flat = np.ascontiguousarray(array, native).reshape(-1)
    if not flat.size:
        return b""
    if element.listed_in in _FLOAT_LISTS:
        return encode_bytes(element.listed_in, little_endian(flat))
    numbers = flat
    if element.name == "float16":
        numbers = flat.view(np.uint16)
    packed = b"".join(encode_varint(int(number)) for number in numbers)
    return encode_bytes(element.listed_in, packed)


def little_endian(array: np.ndarray) -> memoryview:
    """An array's bytes in C order, without a copy where they lie so already."""
    little = array.dtype.newbyteorder("<")
    plain = np.ascontiguousarray(array, little)
    return plain.reshape(-1).view(np.uint8).data
