"""TensorFlow's checkpoint of version 2, written: the index and one shard of values beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from skipway.files import write_whole
from skipway.interchange.containers.protobuf import FIXED32, encode_bytes, encode_varint
from skipway.interchange.tensorflow.bundle import (
    CHECKSUM,
    HEADER_KEY,
    HEADER_VERSION,
    OFFSET,
    PART_KEY,
    SHAPE,
    SHARD_COUNT,
    SIZE,
    TYPE,
    shard_file,
)
from skipway.interchange.tensorflow.crc32c import crc32c, masked
from skipway.interchange.tensorflow.paths import writing
from skipway.interchange.tensorflow.sstable import write_table
from skipway.interchange.tensorflow.tensor import little_endian, shape_message, type_of
from skipway.interchange.tensorflow.wire import number_field

_VERSION = number_field(1, 1)  # the producer, as of TensorFlow's own files


def write_bundle(prefix: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write PREFIX.index and PREFIX.data-00000-of-00001.

    Raises StorageError, and ModelFileError for arrays and names that a checkpoint cannot hold.
    """
    with writing(prefix):
        names = _names_in_order(arrays)
        for array in arrays.values():
            type_of(array)
    index = prefix.with_name(f"{prefix.name}.index")
    data = shard_file(prefix, 0, 1)

    def fill_data(temporary: Path) -> None:
        with temporary.open("wb") as file:
            _write_values(file, names, arrays)

    def fill_index(temporary: Path) -> None:
        # The index is written first and takes its place last: until then the old one, if any, is still there.
        with temporary.open("wb") as file:
            write_table(file, _index_rows(names, arrays))
        write_whole(data, fill_data)

    write_whole(index, fill_index)


def _names_in_order(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Give the names in the order of their bytes, as a table needs them. Raises ValueError for an unfit name."""
    names = sorted(arrays, key=lambda name: name.encode())
    for name in names:
        key = name.encode()
        if not key or key[0] == PART_KEY:
            raise ValueError("a name is empty or begins with a zero byte")
    return names


def _index_rows(names: list[str], arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[bytes, bytes]]:
    """Give the keys and values of the index: the header, then an entry for each array."""
    header = number_field(SHARD_COUNT, 1) + encode_bytes(HEADER_VERSION, _VERSION)
    yield HEADER_KEY, header
    offset = 0
    for name in names:
        array = arrays[name]
        values = little_endian(array)
        checksum = masked(crc32c(values))
        entry = _entry_message(array, offset, len(values), checksum)
        yield name.encode(), entry
        offset += len(values)


def _write_values(file: BinaryIO, names: list[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the values of the arrays, one behind the other."""
    for name in names:
        values = little_endian(arrays[name])
        file.write(values)


def _entry_message(array: np.ndarray, offset: int, size: int, crc: int) -> bytes:
    """The BundleEntryProto of an array. A zero is the default of a number and takes no bytes."""
    element = type_of(array)
    shape = shape_message(array.shape)
    checksum_tag = encode_varint(CHECKSUM << 3 | FIXED32)
    pieces = [
        number_field(TYPE, element.code),
        encode_bytes(SHAPE, shape),
        number_field(OFFSET, offset),
        number_field(SIZE, size),
        checksum_tag,
        crc.to_bytes(4, "little"),
    ]
    return b"".join(pieces)
