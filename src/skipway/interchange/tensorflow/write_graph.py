"""TensorFlow's frozen graphs, written without TensorFlow: a constant for each array, and no operations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.containers.protobuf import encode_bytes, encode_int, encode_length
from skipway.interchange.tensorflow.tensor import little_endian, shape_message, type_of

MAX_BYTES = (1 << 31) - 1  # what protocol buffers, and so TensorFlow, read of one message
# Numbers of fields: of a GraphDef, a NodeDef, an entry of its attributes, an AttrValue, a TensorProto.
_NODE, _VERSIONS = 1, 4
_NAME, _OPERATION, _ATTRIBUTE = 1, 2, 5
_KEY, _VALUE = 1, 2
_TYPE, _TENSOR = 6, 8
_ELEMENT, _SHAPE, _CONTENT = 1, 2, 4
_PRODUCER = 21  # of the version of graphs that TensorFlow 1.0 wrote; its successors read it

Pieces = list[bytes | memoryview]


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a GraphDef of one Const node for each array.

    Raises StorageError, and ModelFileError for arrays of a type that TensorFlow does not have or that are too large
    for one file.
    """
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES - (1 << 20):
        raise ModelFileError(f"{path} would have {size:,} bytes, more than TensorFlow reads; write a .ckpt")
    versions = encode_bytes(_VERSIONS, encode_int(1, _PRODUCER))

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            for name, array in arrays.items():
                opened.writelines(_node(name, array))
            opened.write(versions)

    write_whole(path, fill)


def _node(name: str, array: np.ndarray) -> Pieces:
    """Encode a Const node in pieces. Raises ModelFileError for a type that TensorFlow does not have."""
    try:
        code = type_of(array).code
    except ValueError as error:
        raise ModelFileError(f"{name}: {error}; convert it to float32") from None
    tensor = _tensor(array, code)
    value = [encode_bytes(_KEY, b"value"), *_enclosed(_VALUE, _enclosed(_TENSOR, tensor))]
    kind = [encode_bytes(_KEY, b"dtype"), *_enclosed(_VALUE, [encode_int(_TYPE, code)])]
    node: Pieces = [encode_bytes(_NAME, name.encode()), encode_bytes(_OPERATION, b"Const")]
    node += _enclosed(_ATTRIBUTE, kind)
    node += _enclosed(_ATTRIBUTE, value)
    return _enclosed(_NODE, node)


def _tensor(array: np.ndarray, code: int) -> Pieces:
    """Encode a TensorProto in pieces. The numbers of the array are not copied."""
    content = little_endian(array)
    shape = shape_message(array.shape)
    return [
        encode_int(_ELEMENT, code),
        encode_bytes(_SHAPE, shape),
        encode_length(_CONTENT, len(content)),
        content,
    ]


def _enclosed(number: int, pieces: Pieces) -> Pieces:
    """A message in pieces as a field: its length stands before it, and its pieces are not copied."""
    length = sum(len(piece) for piece in pieces)
    return [encode_length(number, length), *pieces]
