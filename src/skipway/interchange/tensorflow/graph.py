"""TensorFlow's frozen graphs (GraphDef, `.pb`): their constants as arrays, their nodes as layers. Nothing is run."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.containers.protobuf import BYTES, Budget, fields, signed, varint
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.source import Array, Layer, Source
from skipway.interchange.tensorflow.paths import reading
from skipway.interchange.tensorflow.tensor import ElementType, element_type, shape_of, tensor_values, type_name
from skipway.interchange.tensorflow.wire import MAX_FIELDS, Message, Value, unpacked_varints

FORMAT = "TensorFlow graph"
_NODE, _LIBRARY, _VERSIONS = 1, 2, 4
_TENSOR = 8  # the field of an AttrValue
# A constant may state one value for all its elements. How much more than the file all of them together may take.
_MAX_GROWTH, _ALLOWANCE = 8, 64 << 20


_SAVED_MODEL = "saved_model.pb"
_CUT_OFF = "the graph states no version at its end: it may be cut off, or its writer is very old"


@dataclass(frozen=True)
class Constant:
    """A Const node: its type and shape, and where its message lies in the file."""

    code: int
    shape: tuple[int, ...]
    start: int
    end: int


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file begins as a GraphDef does, or is the graph of a SavedModel, which `read` refuses."""
    return _begins(head) or path.name == _SAVED_MODEL


def _begins(head: bytes) -> bool:
    """Whether the first field is a node, which begins with its name and goes on to its kind."""
    try:
        _, at = _prefixed(head, 0)
        length, at = _prefixed(head, at)
        name = head[at : at + length]
        return bool(name) and name.decode().isprintable() and head[at + length : at + length + 1] in {b"", b"\x12"}
    except ValueError:
        return False


def _prefixed(head: bytes, at: int) -> tuple[int, int]:
    """Length and start of the first field's payload, where that is field 1 and no number."""
    if head[at : at + 1] != b"\n":
        raise ValueError("another field comes first")
    return varint(head, at + 1, len(head))


def read(path: Path) -> Source:
    """A frozen graph. Raises ModelFileError."""
    head = checked_head(path)
    if not _begins(head):
        raise ModelFileError(f"{path} is {_told(head)}")
    with reading(path), path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        nodes, versioned = _nodes(memoryview(mapped))
        size = os.fstat(opened.fileno()).st_size
        arrays: dict[str, Array] = {}
        others: dict[str, str] = {}
        total = 0
        for layer, constant in nodes:
            if constant is None:
                continue
            element = element_type(constant.code)
            if element is None:
                others[layer.name] = type_name(constant.code)
                continue
            total += math.prod(constant.shape) * element.given.itemsize
            load = _loader(path, constant, element)
            arrays[layer.name] = Array(layer.name, constant.shape, element.given, load)
        if total > _MAX_GROWTH * size + _ALLOWANCE:
            raise ValueError(f"its constants claim {total} bytes, far more than the file has")
    return Source(
        format=FORMAT,
        path=path,
        arrays=MappingProxyType(arrays),
        layers=tuple(layer for layer, _ in nodes),
        warnings=() if versioned else (_CUT_OFF,),
        notes={"others": others},
    )


def _nodes(view: memoryview) -> tuple[list[tuple[Layer, Constant | None]], bool]:
    """The nodes, and whether the versions follow them, as in every file that is whole."""
    budget = Budget(MAX_FIELDS)
    nodes: list[tuple[Layer, Constant | None]] = []
    names: set[str] = set()
    versioned = False
    for field in fields(view, 0, len(view), budget):
        if field.number not in {_NODE, _LIBRARY, 3, _VERSIONS, 5}:
            raise ValueError(f"a graph has no field {field.number}")
        versioned |= field.number == _VERSIONS
        if field.number != _NODE:
            continue
        if field.wire != BYTES:
            raise ValueError("a node is no message")
        layer, constant = _node(Message(view[field.start : field.end], budget), field.start, field.end)
        if layer.name in names or not layer.name:
            raise ValueError(f"two nodes are named '{layer.name}'" if layer.name else "a node has no name")
        names.add(layer.name)
        nodes.append((layer, constant))
    return nodes, versioned


def _node(message: Message, start: int, end: int) -> tuple[Layer, Constant | None]:
    name = operation = ""
    inputs: list[str] = []
    attributes: dict[str, Any] = {}
    tensor: Message | None = None
    for number, value in message:
        if number == 1:
            name = value.text()
        elif number == 2:
            operation = value.text()
        elif number == 3:
            inputs.append(value.text())
        elif number == 5:
            key, attribute = _pair(value.message())
            if key == "value" and operation == "Const":
                tensor = next((inner.message() for number, inner in attribute if number == _TENSOR), None)
            elif not key.startswith("_"):  # those are notes of the machine that made the graph
                attributes[key] = _attribute(attribute)
    constant = None
    if operation == "Const":
        if tensor is None:
            raise ValueError(f"the constant {name} has no value")
        constant = _constant(tensor, start, end)
    arrays = (name,) if constant is not None and element_type(constant.code) is not None else ()
    return Layer(name, operation, tuple(inputs), (name,), arrays, MappingProxyType(attributes)), constant


def _pair(message: Message) -> tuple[str, Message]:
    key, attribute = "", Message(memoryview(b""), message.budget)
    for number, value in message:
        if number == 1:
            key = value.text()
        elif number == 2:
            attribute = value.message()
    return key, attribute


def _attribute(message: Message) -> Any:
    """An AttrValue as plain Python: a number, text, bytes, a shape, a list of these; None for anything else."""
    for number, value in message:
        if number == 1:
            return tuple(item for inner, listed in value.message() for item in _items(inner, listed))
        return _scalar(number, value)
    return None


def _items(number: int, value: Value) -> list[Any]:
    if number in {3, 5, 6} and value.wire == BYTES:  # packed whole numbers
        items = [signed(int(item)) for item in unpacked_varints(value.payload)]
        return [type_name(item) for item in items] if number == 6 else items
    if number == 4 and value.wire == BYTES:
        if len(value.payload) % 4:
            raise ValueError("a list of numbers is cut off")
        return [float(item) for item in np.frombuffer(value.payload, "<f4")]
    return [_scalar(number, value)]


def _scalar(number: int, value: Value) -> Any:
    if number == 2:
        text = bytes(value.bytes())
        return text.decode() if text.isascii() else text
    if number == 4:
        return value.float32()
    if number == 5:
        return bool(value.integer())
    if number == 3:
        return value.integer()
    if number == 6:
        return type_name(value.integer())
    if number == 7:
        return _shape(value.message())
    return None


def _shape(message: Message) -> tuple[int, ...] | None:
    """A shape among the attributes, where sizes may be unknown: -1, or None for all of it."""
    sizes = []
    for number, value in message:
        if number == 3 and value.integer():
            return None
        if number == 2:
            sizes.append(next((size.integer() for inner, size in value.message() if inner == 1), 0))
    return tuple(sizes)


def _constant(tensor: Message, start: int, end: int) -> Constant:
    code = 0
    shape: tuple[int, ...] = ()
    for number, value in tensor:
        if number == 1:
            code = value.integer()
        elif number == 2:
            shape = shape_of(value.message())
    return Constant(code, shape, start, end)


def _loader(path: Path, constant: Constant, element: ElementType) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        count = math.prod(constant.shape)
        with reading(path), path.open("rb") as opened:
            opened.seek(constant.start)
            message = Message(memoryview(opened.read(constant.end - constant.start)))
            values = tensor_values(_tensor(message), element, count)
            if values.size < count:  # the last value stands for the rest, none at all for zeros
                filled = np.full(count, values[-1] if values.size else 0, values.dtype)
                filled[: values.size] = values
                values = filled
            elif values.base is not None:
                values = values.copy()
            return values.reshape(constant.shape)

    return load


def _tensor(message: Message) -> Message:
    for number, value in message:
        if number == 5:
            key, attribute = _pair(value.message())
            if key == "value":
                for inner, tensor in attribute:
                    if inner == _TENSOR:
                        return tensor.message()
    raise ValueError("it was changed while it was read")


def _told(head: bytes) -> str:
    """What a file is that does not begin as a graph does."""
    if head[:2] == b"\x08\x01":
        return (
            "a SavedModel, which keeps its weights beside it; give the folder's variables/variables.index or, where "
            "Keras saved it, save the model again as .h5 or .keras"
        )
    if b"MetaGraphDef" in head or b"\n\x05\n\x03Add" in head:
        return "a MetaGraphDef, which holds no weights; give the checkpoint beside it"
    told = describe_foreign(head)
    return "no frozen graph of TensorFlow; download or copy it again" if told.startswith("something else") else told
