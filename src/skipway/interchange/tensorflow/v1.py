"""TensorFlow's checkpoint of version 1: one table, or several, of SavedTensorSlices.

The entry with the empty key lists every variable, its shape, type and parts; each part's values are an entry of their
own, a TensorProto, whose key encodes name and extents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.containers.protobuf import BYTES, Budget, encode_bytes
from skipway.interchange.source import Array
from skipway.interchange.tensorflow.bundle import MAX_ARRAYS, Contents
from skipway.interchange.tensorflow.paths import reading, writing
from skipway.interchange.tensorflow.slices import SavedPart, check_cover, part_key, part_message, part_of, whole
from skipway.interchange.tensorflow.sstable import Table, write_table
from skipway.interchange.tensorflow.tensor import (
    ElementType,
    element_type,
    shape_message,
    shape_of,
    tensor_values,
    type_name,
    type_of,
    value_list,
)
from skipway.interchange.tensorflow.wire import MAX_FIELDS, Message, number_field

_META_KEY = b""
# Numbers of the fields of SavedTensorSlices, of SavedTensorSliceMeta, of SavedSliceMeta and of SavedSlice.
_META, _DATA = 1, 2
_VARIABLE, _VERSIONS = 1, 2
_NAME, _SHAPE, _TYPE, _PART = 1, 2, 3, 4
_SAVED_NAME, _SAVED_PART, _SAVED_TENSOR = 1, 2, 3
_MAX_VARIABLE = (1 << 31) - (1 << 10)  # bytes; a message of protocol buffers cannot be larger


@dataclass
class Variable:
    """A SavedSliceMeta: shape, code of the element type, and the parts with the table that each lies in."""

    shape: tuple[int, ...]
    code: int
    parts: list[tuple[Table, SavedPart]] = field(default_factory=list)


def read_v1(files: tuple[Path, ...]) -> Contents:
    """Read what a V1 checkpoint lists. The values stay in its files until an array is read. Raises ModelFileError."""
    variables: dict[str, Variable] = {}
    for file in files:
        with reading(file):
            table = Table(file)
            _collect(table, variables)
    contents = Contents(notes={"shards": len(files)})
    with reading(files[0]):
        _add_variables(contents, variables)
    return contents


def _add_variables(contents: Contents, variables: Mapping[str, Variable]) -> None:
    """Add the variables to `contents`. Raises ValueError for a variable whose parts do not make it up."""
    for name, variable in variables.items():
        element = element_type(variable.code)
        if element is None:
            contents.others[name] = type_name(variable.code)
            continue
        parts = [part for _, part in variable.parts]
        check_cover(parts, variable.shape)
        if element.name == "bfloat16":
            contents.widened[name] = element.name
        load = partial(_load, name, variable, element)
        contents.arrays[name] = Array(name, variable.shape, element.given, load)


def _collect(table: Table, variables: dict[str, Variable]) -> None:
    """Add the variables that a table lists. Raises ValueError where the list is damaged or missing."""
    meta = table.get(_META_KEY)
    if meta is None:
        raise ValueError("it does not list its variables")
    if meta[:1] != bytes([_META << 3 | BYTES]):  # as in a V2 index, whose first entry begins with a number
        fix = f"rename it to {table.path.name}.index and give that"
        raise ModelFileError(f"{table.path} is no V1 checkpoint but may be the index of a V2 one; {fix}")
    names: set[str] = set()
    for message in _variable_messages(meta):
        name, variable = _listed(message, table)
        if not name:
            raise ValueError("it lists one without a name")
        if name in names:
            raise ValueError(f"it lists the variable '{name}' twice")
        names.add(name)
        _add_variable(variables, name, variable)


def _variable_messages(meta: memoryview) -> Iterator[Message]:
    """The SavedSliceMeta messages of a table, one for each of its variables."""
    budget = Budget(MAX_FIELDS)
    for number, value in Message(meta, budget):
        if number != _META:
            continue
        for inner, listed in value.message():
            if inner == _VARIABLE:
                yield listed.message()


def _add_variable(variables: dict[str, Variable], name: str, variable: Variable) -> None:
    """Add a variable, or its parts where another table has listed some. Raises ValueError."""
    known = variables.get(name)
    if known is None:
        variables[name] = variable
    elif known.shape != variable.shape or known.code != variable.code:
        raise ValueError(f"the parts of {name} disagree about its shape or type")
    else:
        known.parts += variable.parts
    if len(variables) > MAX_ARRAYS:
        raise ValueError(f"it lists more than {MAX_ARRAYS} variables")


def _listed(message: Message, table: Table) -> tuple[str, Variable]:
    """Read a SavedSliceMeta, whose parts lie in `table`."""
    name = ""
    code = 0
    shape: tuple[int, ...] = ()
    parts: list[tuple[Table, SavedPart]] = []
    for number, value in message:
        if number == _NAME:
            name = value.text()
        elif number == _SHAPE:
            shape = shape_of(value.message())
        elif number == _TYPE:
            code = value.integer()
        elif number == _PART:
            part = part_of(value.message())
            parts.append((table, part))
    return name, Variable(shape, code, parts)


def _load(name: str, variable: Variable, element: ElementType) -> np.ndarray:
    """Load a variable and put its parts together. Raises ModelFileError."""
    if len(variable.parts) == 1:
        table, part = variable.parts[0]
        return _values(name, variable, table, part, element).copy()
    # Nothing of the declared size is allocated before every part has shown its values.
    pieces: list[np.ndarray] = []
    for table, part in variable.parts:
        piece = _values(name, variable, table, part, element)
        pieces.append(piece)
    values = np.empty(variable.shape, element.given)
    for (_, part), piece in zip(variable.parts, pieces, strict=True):
        place = part.slices(variable.shape)
        values[place] = piece
    return values


def _values(name: str, variable: Variable, table: Table, part: SavedPart, element: ElementType) -> np.ndarray:
    """The values of one part. Raises ModelFileError."""
    shape = part.shape(variable.shape)
    count = math.prod(shape)
    with reading(table.path):
        row = table.get(part_key(name, part))
        if row is None:
            raise ValueError(f"{name} is listed but not there")
        saved_name, tensor = _saved(Message(row))
        values = tensor_values(tensor, element, count)
        if saved_name != name or values.size != count:
            raise ValueError(f"{name} should have {count} values; {values.size} of {saved_name} are there")
        return values.reshape(shape)


def _saved(message: Message) -> tuple[str | None, Message]:
    """The name and the TensorProto of the SavedSlice in a SavedTensorSlices."""
    name: str | None = None
    tensor = Message(memoryview(b""))
    for number, value in message:
        if number != _DATA:
            continue
        for inner, saved in value.message():
            if inner == _SAVED_NAME:
                name = saved.text()
            elif inner == _SAVED_TENSOR:
                tensor = saved.message()
    return name, tensor


def write_v1(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a V1 checkpoint in one file. Raises StorageError, and ModelFileError for arrays that it cannot hold."""
    with writing(file):
        meta = encode_bytes(_META, _meta_message(arrays))
        keys: list[tuple[bytes, str]] = []
        for name, array in arrays.items():
            key = part_key(name, whole(array.ndim))
            keys.append((key, name))
        keys.sort()
        for name, array in arrays.items():
            if not name or array.nbytes > _MAX_VARIABLE:
                raise ValueError(f"'{name}' of {array.nbytes} bytes is without a name or over 2 GiB")

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            write_table(opened, _rows(meta, keys, arrays))

    write_whole(file, fill)


def _rows(
    meta: bytes, keys: list[tuple[bytes, str]], arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the table: the list of the variables, then the values of each."""
    yield _META_KEY, meta
    for key, name in keys:
        array = arrays[name]
        part = part_message(whole(array.ndim))
        saved = b"".join(
            (
                encode_bytes(_SAVED_NAME, name.encode()),
                encode_bytes(_SAVED_PART, part),
                encode_bytes(_SAVED_TENSOR, value_list(array)),
            )
        )
        yield key, encode_bytes(_DATA, saved)


def _meta_message(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode a SavedTensorSliceMeta, which lists the variables."""
    pieces: list[bytes] = []
    for name, array in arrays.items():
        element = type_of(array)
        part = part_message(whole(array.ndim))
        variable = b"".join(
            (
                encode_bytes(_NAME, name.encode()),
                encode_bytes(_SHAPE, shape_message(array.shape)),
                number_field(_TYPE, element.code),
                encode_bytes(_PART, part),
            )
        )
        pieces.append(encode_bytes(_VARIABLE, variable))
    producer = number_field(1, 1)
    pieces.append(encode_bytes(_VERSIONS, producer))
    return b"".join(pieces)
