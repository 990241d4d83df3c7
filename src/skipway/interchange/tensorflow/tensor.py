"""TensorFlow's element types, shapes and TensorProto: arrays inside protocol buffers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from skipway.interchange.containers.protobuf import BYTES, WIDTH, encode_bytes, encode_varint
from skipway.interchange.tensorflow.wire import Message, Value, number_field, unpacked_varints

MAX_DIMENSIONS = 32
_TENSOR_CONTENT = 4


@dataclass(frozen=True)
class ElementType:
    """One of TensorFlow's DataTypes: its `code` in files, the NumPy type of its stored bytes, the type that we give,
    and the field of a TensorProto that lists its values one by one."""

    code: int
    name: str
    stored: np.dtype[Any]
    given: np.dtype[Any]
    listed_in: int


def _element(code: int, name: str, listed_in: int, *, stored: str = "", given: str = "") -> ElementType:
    return ElementType(code, name, np.dtype(stored or name), np.dtype(given or name), listed_in)


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
_REFERENCE = 100  # old graphs mark a variable's type so


def element_type(code: int) -> ElementType | None:
    """The type of a code; None for one that holds no plain numbers. Raises ValueError where there is no such type."""
    code = code - _REFERENCE if code > _REFERENCE else code
    if code not in _BY_CODE and code not in _OTHER_TYPES:
        raise ValueError(f"an array has the unknown type {code}")
    return _BY_CODE.get(code)


def type_name(code: int) -> str:
    """A type in words, also one that is not known here."""
    plain = code % _REFERENCE
    return _BY_CODE[plain].name if plain in _BY_CODE else _OTHER_TYPES.get(plain, f"type {code}")


def type_of(array: np.ndarray) -> ElementType:
    """The type to write an array as. Raises ValueError where TensorFlow has none."""
    element = _BY_DTYPE.get(array.dtype.newbyteorder("="))
    if element is None:
        raise ValueError(f"TensorFlow has no type for {array.dtype}")
    return element


def given(stored: np.ndarray, element: ElementType) -> np.ndarray:
    """Stored values as the array that a reader gives: native byte order, bfloat16 widened."""
    if element.name == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if element.name == "bool":
        return stored != 0
    return stored.astype(element.given, copy=False)


def shape_of(message: Message) -> tuple[int, ...]:
    """A TensorShapeProto. Raises ValueError for shapes that are unknown, negative or beyond all memory."""
    sizes = []
    for number, value in message:
        if number == 2:
            size = 0
            for inner, extent in value.message():
                size = extent.integer() if inner == 1 else size
            sizes.append(size)
        elif number == 3 and value.integer():
            raise ValueError("an array has no shape")
        if len(sizes) > MAX_DIMENSIONS:
            raise ValueError(f"an array has more than {MAX_DIMENSIONS} dimensions")
    if any(size < 0 for size in sizes) or math.prod(max(size, 1) for size in sizes) >= 1 << 56:
        raise ValueError(f"an array has the impossible shape {tuple(sizes)}")
    return tuple(sizes)


def shape_message(shape: tuple[int, ...]) -> bytes:
    """The inverse of `shape_of`."""
    return b"".join(encode_bytes(2, number_field(1, size)) for size in shape)


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
    if content:  # in the order of the machine that wrote it, which was little-endian
        listed = [np.frombuffer(_whole(content, element.stored.itemsize), element.stored.newbyteorder("<"))]
    if sum(part.size for part in listed) > most:
        raise ValueError(f"an array of {most} values holds {sum(part.size for part in listed)}")
    values = listed[0] if len(listed) == 1 else np.concatenate([np.zeros(0, element.stored), *listed])
    return given(values, element)


def _listed(value: Value, element: ElementType) -> np.ndarray:
    plain = element.stored.newbyteorder("<")
    if element.listed_in in {5, 6}:
        if value.wire != BYTES and WIDTH.get(value.wire) != plain.itemsize:
            raise ValueError("an array lists its values with another width than its type has")
        return np.frombuffer(_whole(value.payload, plain.itemsize), plain)
    numbers = unpacked_varints(value.payload) if value.wire == BYTES else np.array([value.number], np.uint64)
    # They come as 64 bits in two's complement; halves as the 16 bits that they consist of.
    return numbers.astype(f"uint{8 * element.stored.itemsize}").view(element.stored)


def _whole(values: memoryview, width: int) -> memoryview:
    if len(values) % width:
        raise ValueError(f"{len(values)} bytes are no whole number of values of {width}")
    return values


def value_list(array: np.ndarray) -> bytes:
    """A TensorProto that lists an array's values and says neither type nor shape, as old checkpoints keep it."""
    element = type_of(array)
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    if not flat.size:
        return b""
    if element.listed_in in {5, 6}:
        return encode_bytes(element.listed_in, little_endian(flat))
    numbers = flat.view(np.uint16) if element.name == "float16" else flat
    return encode_bytes(element.listed_in, b"".join(encode_varint(int(value)) for value in numbers))


def little_endian(array: np.ndarray) -> memoryview:
    """An array's bytes in C order, without a copy where they lie so already."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data
