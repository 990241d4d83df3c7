"""TensorFlow's frozen graphs (GraphDef, `.pb`): their constants as arrays, their nodes as layers. Nothing is run."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.containers.protobuf import BYTES, Budget, fields, varint
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.source import Array, Layer, WeightFile
from skipway.interchange.tensorflow.attributes import named_attribute, plain_value, tensor_of
from skipway.interchange.tensorflow.paths import reading
from skipway.interchange.tensorflow.tensor import ElementType, element_type, shape_of, tensor_values, type_name
from skipway.interchange.tensorflow.wire import MAX_FIELDS, Message

FORMAT = "TensorFlow graph"
# Numbers of the fields of a GraphDef, of a NodeDef and of a TensorProto. Fields 3 and 5 of a GraphDef are read over.
_NODE, _LIBRARY, _VERSIONS = 1, 2, 4
_GRAPH_FIELDS = frozenset((_NODE, _LIBRARY, 3, _VERSIONS, 5))
_NAME, _OPERATION, _INPUT, _ATTRIBUTE = 1, 2, 3, 5
_TYPE, _SHAPE = 1, 2
_NAME_TAG = b"\n"  # the byte before a node, and before the name in it: field 1, not a number
_OPERATION_TAG = b"\x12"  # the byte before a node's operation
_CONSTANT = "Const"
# A constant may state one value for all its elements. How much more than the file all of them together may take.
_MAX_GROWTH, _ALLOWANCE = 8, 64 << 20


_SAVED_MODEL = "saved_model.pb"
_CUT_OFF = "the graph states no version at its end: it may be cut off, or its writer is very old"


@dataclass(frozen=True)
class Constant:
    """A Const node: the code of its type, its shape, and the first byte and the end of its message in the file."""

    code: int
    shape: tuple[int, ...]
    start: int
    end: int


Nodes = list[tuple[Layer, Constant | None]]


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file begins as a GraphDef does, or is the graph of a SavedModel, which `read` refuses."""
    return _begins(head) or path.name == _SAVED_MODEL


def _begins(head: bytes) -> bool:
    """Whether the first field is a node that begins with its name, and its operation comes next."""
    try:
        _, node = _skip_tag(head, 0)
        length, start = _skip_tag(head, node)
        end = start + length
        name = head[start:end].decode()
    except ValueError:
        return False
    following = head[end : end + 1]
    if not name or not name.isprintable():
        return False
    return following in {b"", _OPERATION_TAG}


def _skip_tag(head: bytes, at: int) -> tuple[int, int]:
    """Give the length and the first byte of the content of field 1. Raises ValueError where another field is there."""
    if head[at : at + 1] != _NAME_TAG:
        raise ValueError("another field comes first")
    return varint(head, at + 1, len(head))


def read(path: Path) -> WeightFile:
    """Read a frozen graph. Its arrays stay in the file until they are read. Raises ModelFileError."""
    head = checked_head(path)
    if not _begins(head):
        description = _describe_other_file(head)
        raise ModelFileError(f"{path} is {description}")
    with reading(path), path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        nodes, versioned = _nodes(memoryview(mapped))
        size = os.fstat(opened.fileno()).st_size
        arrays, others = _arrays(path, nodes)
        _check_total(arrays, size)
    layers = tuple(layer for layer, _ in nodes)
    warnings = () if versioned else (_CUT_OFF,)
    return WeightFile(
        format=FORMAT,
        path=path,
        arrays=MappingProxyType(arrays),
        layers=layers,
        warnings=warnings,
        notes={"others": others},
    )


def _nodes(view: memoryview) -> tuple[Nodes, bool]:
    """Give the nodes, and whether the versions follow them, as in every file that is whole. Raises ValueError."""
    budget = Budget(MAX_FIELDS)
    nodes: Nodes = []
    names: set[str] = set()
    versioned = False
    for field in fields(view, 0, len(view), budget):
        if field.number not in _GRAPH_FIELDS:
            raise ValueError(f"a graph has no field {field.number}")
        if field.number == _VERSIONS:
            versioned = True
        if field.number != _NODE:
            continue
        if field.wire != BYTES:
            raise ValueError("a node is no message")
        message = Message(view[field.start : field.end], budget)
        layer, constant = _node(message, field.start, field.end)
        if not layer.name:
            raise ValueError("a node has no name")
        if layer.name in names:
            raise ValueError(f"two nodes are named '{layer.name}'")
        names.add(layer.name)
        nodes.append((layer, constant))
    return nodes, versioned


def _node(message: Message, start: int, end: int) -> tuple[Layer, Constant | None]:
    """Read a NodeDef that lies at the bytes `start` to `end` of the file. Raises ValueError."""
    name = ""
    operation = ""
    inputs: list[str] = []
    attributes: dict[str, Any] = {}
    tensor: Message | None = None
    for number, value in message:
        if number == _NAME:
            name = value.text()
        elif number == _OPERATION:
            operation = value.text()
        elif number == _INPUT:
            inputs.append(value.text())
        elif number == _ATTRIBUTE:
            key, attribute = named_attribute(value.message())
            if key == "value" and operation == _CONSTANT:
                tensor = tensor_of(attribute)
            elif not key.startswith("_"):  # those are notes of the machine that made the graph
                attributes[key] = plain_value(attribute)
    constant = None
    arrays: tuple[str, ...] = ()
    if operation == _CONSTANT:
        constant = _constant(name, tensor, start, end)
        holds_numbers = element_type(constant.code) is not None
        if holds_numbers:
            arrays = (name,)
    layer = Layer(name, operation, tuple(inputs), (name,), arrays, MappingProxyType(attributes))
    return layer, constant


def _constant(name: str, tensor: Message | None, start: int, end: int) -> Constant:
    """Read type and shape of the TensorProto of a Const node. Raises ValueError where it has none."""
    if tensor is None:
        raise ValueError(f"the constant {name} has no value")
    code = 0
    shape: tuple[int, ...] = ()
    for number, value in tensor:
        if number == _TYPE:
            code = value.integer()
        elif number == _SHAPE:
            shape = shape_of(value.message())
    return Constant(code, shape, start, end)


def _arrays(path: Path, nodes: Nodes) -> tuple[dict[str, Array], dict[str, str]]:
    """Give the constants as arrays, and the types of those that hold no numbers."""
    arrays: dict[str, Array] = {}
    others: dict[str, str] = {}
    for layer, constant in nodes:
        if constant is None:
            continue
        element = element_type(constant.code)
        if element is None:
            others[layer.name] = type_name(constant.code)
            continue
        load = partial(_load, path, constant, element)
        arrays[layer.name] = Array(layer.name, constant.shape, element.given, load)
    return arrays, others


def _check_total(arrays: Mapping[str, Array], size: int) -> None:
    """Raise ValueError where the arrays need far more memory than the file has bytes."""
    total = 0
    for array in arrays.values():
        total += math.prod(array.shape) * array.dtype.itemsize
    if total > _MAX_GROWTH * size + _ALLOWANCE:
        raise ValueError(f"its constants claim {total} bytes, far more than the file has")


def _load(path: Path, constant: Constant, element: ElementType) -> np.ndarray:
    """Load the values of a constant. Raises ModelFileError."""
    count = math.prod(constant.shape)
    with reading(path), path.open("rb") as opened:
        opened.seek(constant.start)
        content = opened.read(constant.end - constant.start)
        node = Message(memoryview(content))
        tensor = _value_of(node)
        listed = tensor_values(tensor, element, count)
        values = _all_values(listed, count)
        return values.reshape(constant.shape)


def _value_of(node: Message) -> Message:
    """The TensorProto of a Const node. Raises ValueError where it is not there any more."""
    for number, value in node:
        if number != _ATTRIBUTE:
            continue
        key, attribute = named_attribute(value.message())
        if key != "value":
            continue
        tensor = tensor_of(attribute)
        if tensor is not None:
            return tensor
    raise ValueError("it was changed while it was read")


def _all_values(listed: np.ndarray, count: int) -> np.ndarray:
    """Give all values of a constant, as an array of its own.

    Where fewer than `count` are listed, the last value stands for the rest. Where none is listed, all are zero.
    """
    if listed.size < count:
        rest = listed[-1] if listed.size else 0
        values = np.full(count, rest, listed.dtype)
        values[: listed.size] = listed
        return values
    is_view = listed.base is not None
    if is_view:
        return listed.copy()
    return listed


def _describe_other_file(head: bytes) -> str:
    """Say what a file is that does not begin as a graph does, and what to do about it."""
    is_saved_model = head[:2] == b"\x08\x01"
    if is_saved_model:
        return (
            "a SavedModel, which keeps its weights beside it; give the folder's variables/variables.index or, where "
            "Keras saved it, save the model again as .h5 or .keras"
        )
    is_meta_graph = b"MetaGraphDef" in head or b"\n\x05\n\x03Add" in head
    if is_meta_graph:
        return "a MetaGraphDef, which holds no weights; give the checkpoint beside it"
    description = describe_foreign(head)
    if description.startswith("something else"):
        return "no frozen graph of TensorFlow; download or copy it again"
    return description
