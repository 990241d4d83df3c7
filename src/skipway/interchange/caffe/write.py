"""Caffe's files, written: `.caffemodel` as Caffe of 2015 and later saves it, `.prototxt` as text.

Layers are those of the readers: kinds and fields have Caffe's names, so that what was read can be written again.
Numbers are stored as they are, in single or double precision. A caffemodel gets the settings that the schema knows:
Caffe and OpenCV take the weights alone from it. They take the settings from the prototxt, which gets all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_text, write_whole
from skipway.interchange.caffe.message import Symbol
from skipway.interchange.caffe.schema import ENUMERATIONS, MESSAGES, NUMBERS, SchemaField
from skipway.interchange.containers import protobuf
from skipway.interchange.source import Layer
from skipway.reporting import agreeing, counted

MAX_BYTES = (1 << 31) - 1  # the largest file that Caffe reads
# The numbers of fields in their messages.
_LAYER = 100  # of NetParameter
_BLOBS = 7  # of LayerParameter
_DATA = {np.dtype("f4"): 5, np.dtype("f8"): 8}  # of BlobProto: data and double_data
_SHAPE = 7  # of BlobProto
_DIM = 1  # of BlobShape
# Fields of a LayerParameter that Layer holds in attributes of its own.
_PLACES = {"name", "type", "bottom", "top", "blobs"}

Pieces = list[bytes | np.ndarray]  # the parts of a file, in order
Inputs = Mapping[str, Sequence[int]]


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    layers: Sequence[Layer] = (),
    *,
    name: str = "",
    inputs: Inputs | None = None,
) -> None:
    """Write a `.caffemodel` of these layers. The names, order and shapes of the arrays stay.

    Without `layers` the file has a layer for each name before `/<index>`: Caffe and OpenCV match them with the
    prototxt by name. `name` is the network's, and `inputs` are the blobs from outside with their shapes, (N, C, H, W).
    Raises ModelFileError where the file could not be read again as it is, and StorageError where it cannot be written.
    """
    layers = layers or _bare_layers(arrays)
    _check_use(path, arrays, layers)
    net_fields = _net_fields(name, inputs, layers)
    pieces: Pieces = [_message(path, net_fields, "NetParameter")]
    for layer in layers:
        layer_fields = _layer_fields(layer)
        body: Pieces = [_message(path, layer_fields, "LayerParameter")]
        for array in layer.arrays:
            values = np.asarray(arrays[array])
            blob = _blob(path, array, values)
            body += _enclosed(_BLOBS, blob)
        pieces += _enclosed(_LAYER, body)
    size = _size(pieces)
    if size > MAX_BYTES:
        raise ModelFileError(f"{path} would have {size:,} bytes, more than Caffe reads; choose another format")
    _write_pieces(path, pieces)


def write_prototxt(path: Path, layers: Sequence[Layer], *, name: str = "", inputs: Inputs | None = None) -> None:
    """Write a `.prototxt` of these layers.

    `name` is the network's, and `inputs` are the blobs from outside with their shapes, (N, C, H, W). Raises
    StorageError where the file cannot be written.
    """
    net_fields = _net_fields(name, inputs, layers)
    lines = _lines(net_fields, "NetParameter", "")
    for layer in layers:
        layer_fields = _layer_fields(layer)
        lines.append("layer {")
        lines += _lines(layer_fields, "LayerParameter", "  ")
        lines.append("}")
    write_text(path, "\n".join(lines) + "\n")


def _bare_layers(arrays: Mapping[str, np.ndarray]) -> list[Layer]:
    """A layer without a type for each name before `/<index>`, in the order of the arrays."""
    counts: dict[str, int] = {}
    for array in arrays:
        name, _, _ = array.rpartition("/")
        counts[name] = counts.get(name, 0) + 1
    layers = []
    for name, count in counts.items():
        names = _array_names(name, count)
        layers.append(Layer(name, "", arrays=names))
    return layers


def _array_names(layer: str, count: int) -> tuple[str, ...]:
    """The names of a layer's arrays as the reader gives them."""
    return tuple(f"{layer}/{index}" for index in range(count))


def _check_use(path: Path, arrays: Mapping[str, np.ndarray], layers: Sequence[Layer]) -> None:
    """Raises ModelFileError where an array is not exactly one layer's, is not there, or would be read under another
    name.
    """
    uses: Counter[str] = Counter()  # how many layers have an array
    for layer in layers:
        uses.update(layer.arrays)
    missing = sorted(uses.keys() - arrays.keys())
    left = sorted(arrays.keys() - uses.keys())
    repeated = sorted(array for array, count in uses.items() if count > 1)
    if missing or left or repeated:
        lacking = f"layers lack {counted(len(missing), 'array')} {missing[:3]}"
        left_belong = agreeing(len(left), "belongs", "belong")
        nowhere = f"{len(left)} {left_belong} to no layer {left[:3]}"
        repeated_belong = agreeing(len(repeated), "belongs", "belong")
        shared = f"{len(repeated)} {repeated_belong} to more than one {repeated[:3]}"
        raise ModelFileError(
            f"{path}: {lacking}, {nowhere}, {shared}; give each its layer, as <layer>/0, <layer>/1 and so on"
        )
    for layer in layers:
        wanted = _array_names(layer.name, len(layer.arrays))
        if layer.arrays != wanted:
            raise ModelFileError(
                f"{path}: arrays {layer.arrays[:3]} of {layer.name}; name them {layer.name}/0 and so on"
            )


def _net_fields(name: str, inputs: Inputs | None, layers: Sequence[Layer]) -> dict[str, Any]:
    """What stands before the layers. Inputs that have a layer of their own are left to it."""
    of_layers: set[str] = set()
    for layer in layers:
        if layer.kind == "Input":
            of_layers.update(layer.outputs)
    blobs = []
    shapes = []
    for blob, shape in (inputs or {}).items():
        if blob not in of_layers:
            blobs.append(blob)
            shapes.append({"dim": tuple(shape)})
    fields: dict[str, Any] = {}
    if name:
        fields["name"] = name
    if blobs:
        fields["input"] = tuple(blobs)
        # Without the shapes that are not known, the others would belong to the wrong blobs.
        if all(shape["dim"] for shape in shapes):
            fields["input_shape"] = tuple(shapes)
    return fields


def _layer_fields(layer: Layer) -> dict[str, Any]:
    """The fields of a LayerParameter but for its blobs."""
    attributes = {"name": layer.name, "type": layer.kind, "bottom": layer.inputs, "top": layer.outputs}
    fields: dict[str, Any] = {}
    for key, value in attributes.items():
        if value:
            fields[key] = value
    for key, value in layer.fields.items():
        if key not in _PLACES:
            fields[key] = value
    return fields


def _message(path: Path, fields: Mapping[str, Any], kind: str) -> bytes:
    """The fields that the schema has, in the order of their numbers, as protocol buffers write them."""
    entries = NUMBERS[kind]
    known = [entries[name] for name in fields if name in entries]
    encoded = b""
    for number, entry in sorted(known):
        value = fields[entry.name]
        if entry.name == "dim":  # packed
            packed = _varints(value)
            encoded += protobuf.encode_bytes(number, packed)
            continue
        values = value if entry.repeated else [value]
        for item in values:
            encoded += _encoded(path, number, entry, item)
    return encoded


def _encoded(path: Path, number: int, entry: SchemaField, value: Any) -> bytes:
    """A value as a field of that number. Raises ModelFileError for a word that an enumeration does not have."""
    kind = entry.kind
    if kind in MESSAGES:
        message = _message(path, value, kind)
        return protobuf.encode_bytes(number, message)
    if kind == "text":
        letters = str(value).encode("utf-8", "backslashreplace")
        return protobuf.encode_bytes(number, letters)
    if kind == "float":
        return protobuf.encode_float(number, float(value))
    if kind in ENUMERATIONS and isinstance(value, str):
        code = _code(path, entry, value)
        return protobuf.encode_int(number, code)
    return protobuf.encode_int(number, int(value))


def _code(path: Path, entry: SchemaField, word: str) -> int:
    """The number of a word of an enumeration. Raises ModelFileError for a word that it does not have."""
    codes = {known: code for code, known in ENUMERATIONS[entry.kind].items()}
    if word not in codes:
        choices = ", ".join(codes)
        raise ModelFileError(f"{path}: {entry.name} is {word}; it must be one of {choices}")
    return codes[word]


def _varints(values: Iterable[int]) -> bytes:
    encoded = b""
    for value in values:
        encoded += protobuf.encode_varint(int(value))
    return encoded


def _blob(path: Path, name: str, values: np.ndarray) -> Pieces:
    """An array as a BlobProto: its numbers, and then its shape.

    Raises ModelFileError for numbers of another type than single or double precision.
    """
    native = values.dtype.newbyteorder("=")
    number = _DATA.get(native)
    if number is None:
        raise ModelFileError(f"{path}: {name} is {values.dtype}, Caffe stores float32 or float64; convert it first")
    numbers = protobuf.encode_length(number, values.nbytes)
    dims = b""
    if values.ndim:
        packed = _varints(values.shape)
        dims = protobuf.encode_bytes(_DIM, packed)
    shape = protobuf.encode_bytes(_SHAPE, dims)
    return [numbers, values, shape]


def _enclosed(number: int, pieces: Pieces) -> Pieces:
    """The pieces of a message as a field of that number."""
    size = _size(pieces)
    start = protobuf.encode_length(number, size)
    return [start, *pieces]


def _size(pieces: Pieces) -> int:
    """The bytes of all pieces together."""
    size = 0
    for piece in pieces:
        if isinstance(piece, np.ndarray):
            size += piece.nbytes
        else:
            size += len(piece)
    return size


def _write_pieces(path: Path, pieces: Pieces) -> None:
    """Write one piece after another. Only the array that is being written may be copied, never all weights."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            for piece in pieces:
                if isinstance(piece, np.ndarray):
                    little_endian = np.ascontiguousarray(piece, piece.dtype.newbyteorder("<"))
                    numbers = little_endian.reshape(-1).view(np.uint8)
                    opened.write(numbers.data)
                else:
                    opened.write(piece)

    write_whole(path, fill)


def _lines(fields: Mapping[str, Any], kind: str, indent: str) -> list[str]:
    """A message in the text form, a field a line. Fields that the schema lacks are written as their values suggest."""
    lines = []
    entries = NUMBERS.get(kind, {})
    for name, value in fields.items():
        _, entry = entries.get(name, (0, None))
        values = value if isinstance(value, list | tuple) else (value,)
        for item in values:
            if not isinstance(item, Mapping):
                text = _text_value(item, entry)
                lines.append(f"{indent}{name}: {text}")
                continue
            inner = ""
            if entry is not None and entry.kind in MESSAGES:
                inner = entry.kind
            lines.append(f"{indent}{name} {{")
            lines += _lines(item, inner, indent + "  ")
            lines.append(f"{indent}}}")
    return lines


def _text_value(value: Any, entry: SchemaField | None) -> str:
    """A value in the text form: the words of enumerations stand bare, other texts in quotes."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if entry is None:
        bare = isinstance(value, Symbol)
    else:
        bare = entry.kind in ENUMERATIONS
    if bare:
        return value
    return _quoted(value)


def _quoted(text: str) -> str:
    """A text in quotes; letters that are not printable are the octal numbers of their bytes."""
    escaped = text.replace("\\", "\\\\")
    escaped = escaped.replace('"', '\\"')
    quoted = ""
    for letter in escaped:
        if letter.isprintable():
            quoted += letter
            continue
        for byte in letter.encode("utf-8", "backslashreplace"):
            quoted += f"\\{byte:03o}"
    return f'"{quoted}"'
