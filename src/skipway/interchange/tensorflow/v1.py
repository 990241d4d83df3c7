"""TensorFlow's checkpoint of version 1: one table, or several, of SavedTensorSlices.

The entry with the empty key lists every variable, its shape, type and parts; each part's values are an entry of their
own, a TensorProto, whose key encodes name and extents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.containers.protobuf import BYTES, Budget, encode_bytes
from skipway.interchange.source import Array
from skipway.interchange.tensorflow.bundle import MAX_ARRAYS, Contents
from skipway.interchange.tensorflow.paths import reading, writing
from skipway.interchange.tensorflow.slices import Part, check_cover, part_key, part_message, part_of, whole
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
_META, _DATA = 1, 2  # the fields of SavedTensorSlices
_MAX_VARIABLE = (1 << 31) - (1 << 10)  # bytes; a message of protocol buffers cannot be larger


@dataclass
class Variable:
    """A SavedSliceMeta, and in which table each part lies."""

    shape: tuple[int, ...]
    code: int
    parts: list[tuple[Table, Part]] = field(default_factory=list)


def read_v1(files: tuple[Path, ...]) -> Contents:
    """The contents of a V1 checkpoint; its values stay in the file. Raises ModelFileError."""
    variables: dict[str, Variable] = {}
    for file in files:
        with reading(file):
            _collect(Table(file), variables)
    contents = Contents(notes={"shards": len(files)})
    with reading(files[0]):
        for name, variable in variables.items():
            element = element_type(variable.code)
            if element is None:
                contents.others[name] = type_name(variable.code)
                continue
            check_cover([part for _, part in variable.parts], variable.shape)
            if element.name == "bfloat16":
                contents.widened[name] = element.name
            contents.arrays[name] = Array(name, variable.shape, element.given, _loader(name, variable, element))
    return contents


def _collect(table: Table, variables: dict[str, Variable]) -> None:
    meta = table.get(_META_KEY)
    if meta is None:
        raise ValueError("it does not list its variables")
    if meta[:1] != bytes([_META << 3 | BYTES]):  # as in a V2 index, whose first entry begins with a number
        fix = f"rename it to {table.path.name}.index and give that"
        raise ModelFileError(f"{table.path} is no V1 checkpoint but may be the index of a V2 one; {fix}")
    budget = Budget(MAX_FIELDS)
    here: set[str] = set()
    for number, value in Message(meta, budget):
        for inner, listed in value.message() if number == _META else ():
            if inner == 1:
                name, variable = _listed(listed.message(), table)
                if name in here or not name:
                    raise ValueError(f"it lists the variable '{name}' twice" if name else "it lists one without a name")
                here.add(name)
                known = variables.setdefault(name, variable)
                if known is not variable:
                    if (known.shape, known.code) != (variable.shape, variable.code):
                        raise ValueError(f"the parts of {name} disagree about its shape or type")
                    known.parts += variable.parts
                if len(variables) > MAX_ARRAYS:
                    raise ValueError(f"it lists more than {MAX_ARRAYS} variables")


def _listed(message: Message, table: Table) -> tuple[str, Variable]:
    name, code = "", 0
    shape: tuple[int, ...] = ()
    parts: list[tuple[Table, Part]] = []
    for number, value in message:
        if number == 1:
            name = value.text()
        elif number == 2:
            shape = shape_of(value.message())
        elif number == 3:
            code = value.integer()
        elif number == 4:
            parts.append((table, part_of(value.message())))
    return name, Variable(shape, code, parts)


def _loader(name: str, variable: Variable, element: ElementType) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        if len(variable.parts) == 1:
            return _values(name, variable, *variable.parts[0], element).copy()
        # Nothing of the declared size is allocated before every part has shown its values.
        pieces = [_values(name, variable, table, part, element) for table, part in variable.parts]
        values = np.empty(variable.shape, element.given)
        for (_, part), piece in zip(variable.parts, pieces, strict=True):
            values[part.slices(variable.shape)] = piece
        return values

    return load


def _values(name: str, variable: Variable, table: Table, part: Part, element: ElementType) -> np.ndarray:
    """A part's values. Raises ModelFileError."""
    shape = part.shape(variable.shape)
    with reading(table.path):
        row = table.get(part_key(name, part))
        if row is None:
            raise ValueError(f"{name} is listed but not there")
        saved_as, tensor = None, Message(memoryview(b""))
        for number, value in Message(row):
            for inner, saved in value.message() if number == _DATA else ():
                if inner == 1:
                    saved_as = saved.text()
                elif inner == 3:
                    tensor = saved.message()
        values = tensor_values(tensor, element, math.prod(shape))
        if saved_as != name or values.size != math.prod(shape):
            raise ValueError(f"{name} should have {math.prod(shape)} values; {values.size} of {saved_as} are there")
        return values.reshape(shape)


def write_v1(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a V1 checkpoint in one file. Raises StorageError, and ModelFileError for arrays that it cannot hold."""
    with writing(file):
        meta = encode_bytes(_META, _meta_message(arrays))
        rows = sorted((part_key(name, whole(array.ndim)), name) for name, array in arrays.items())
        for name, array in arrays.items():
            if not name or array.nbytes > _MAX_VARIABLE:
                raise ValueError(f"'{name}' of {array.nbytes} bytes is without a name or over 2 GiB")

    def entries() -> Iterator[tuple[bytes, bytes]]:
        yield _META_KEY, meta
        for key, name in rows:
            part = encode_bytes(2, part_message(whole(arrays[name].ndim)))
            saved = encode_bytes(1, name.encode()) + part + encode_bytes(3, value_list(arrays[name]))
            yield key, encode_bytes(_DATA, saved)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            write_table(opened, entries())

    write_whole(file, fill)


def _meta_message(arrays: Mapping[str, np.ndarray]) -> bytes:
    listed = []
    for name, array in arrays.items():
        fields = encode_bytes(1, name.encode()) + encode_bytes(2, shape_message(array.shape))
        fields += number_field(3, type_of(array).code) + encode_bytes(4, part_message(whole(array.ndim)))
        listed.append(encode_bytes(1, fields))
    return b"".join(listed) + encode_bytes(2, number_field(1, 1))
