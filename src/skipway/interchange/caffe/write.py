"""Caffe's files, written: `.caffemodel` as Caffe of 2015 and later saves it, `.prototxt` as text.

Layers are those of the readers: kinds and fields in Caffe's words, so that what was read can be written again. Numbers
are stored as they are, in single or double precision. A caffemodel gets the settings that caffe_schema knows: Caffe and
OpenCV take from it the weights alone, and the settings from the prototxt, which gets all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import write_text, write_whole
from skipway.interchange.caffe.message import Symbol
from skipway.interchange.caffe.schema import ENUMERATIONS, MESSAGES, NUMBERS, Entry
from skipway.interchange.containers import protobuf
from skipway.interchange.source import Layer
from skipway.reporting import agreeing, counted

MAX_BYTES = (1 << 31) - 1  # what Caffe itself can read of one file
_FIELD = {np.dtype("f4"): 5, np.dtype("f8"): 8}  # data, double_data
_BLOBS, _LAYER, _SHAPE, _DIM = 7, 100, 7, 1
_PLACES = {"name", "type", "bottom", "top", "blobs"}  # of a LayerParameter, given by Layer's own attributes

Pieces = list[bytes | np.ndarray]


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    layers: Sequence[Layer] = (),
    *,
    name: str = "",
    inputs: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """A `.caffemodel` of these layers; without layers, of one for each name before `/<index>`, which Caffe and OpenCV
    match with the prototxt by name. Array names, order and shapes stay. Raises ModelFileError and StorageError."""
    layers = layers or _bare_layers(arrays)
    _check_use(path, arrays, layers)
    pieces: Pieces = [_message(path, _net_fields(name, inputs, layers), "NetParameter")]
    for layer in layers:
        body: Pieces = [_message(path, _layer_fields(layer), "LayerParameter")]
        for array in layer.arrays:
            body += _enclosed(_BLOBS, _blob(path, array, np.asarray(arrays[array])))
        pieces += _enclosed(_LAYER, body)
    if (size := _size(pieces)) > MAX_BYTES:
        raise ModelFileError(f"{path} would have {size:,} bytes, more than Caffe reads; choose another format")
    _write_pieces(path, pieces)


def write_prototxt(
    path: Path, layers: Sequence[Layer], *, name: str = "", inputs: Mapping[str, Sequence[int]] | None = None
) -> None:
    """A `.prototxt` of these layers; `inputs` are the blobs from outside, (N, C, H, W). Raises StorageError."""
    blocks = [_lines(_net_fields(name, inputs, layers), "NetParameter", "")]
    blocks += [["layer {", *_lines(_layer_fields(layer), "LayerParameter", "  "), "}"] for layer in layers]
    write_text(path, "\n".join(line for block in blocks for line in block) + "\n")


def _bare_layers(arrays: Mapping[str, np.ndarray]) -> list[Layer]:
    names: dict[str, list[str]] = {}
    for array in arrays:
        names.setdefault(array.rpartition("/")[0], []).append(array)
    return [
        Layer(layer, "", arrays=tuple(f"{layer}/{index}" for index in range(len(own)))) for layer, own in names.items()
    ]


def _check_use(path: Path, arrays: Mapping[str, np.ndarray], layers: Sequence[Layer]) -> None:
    """Every array is one layer's, every layer's array is there, and names are such as are read again."""
    used = [array for layer in layers for array in layer.arrays]
    missing, left = sorted(set(used) - set(arrays)), sorted(set(arrays) - set(used))
    twice = sorted({array for array in used if used.count(array) > 1})
    if missing or left or twice:
        nowhere = f"{len(left)} {agreeing(len(left), 'belongs', 'belong')} to no layer {left[:3]}"
        shared = f"{len(twice)} {agreeing(len(twice), 'belongs', 'belong')} to more than one {twice[:3]}"
        raise ModelFileError(
            f"{path}: layers lack {counted(len(missing), 'array')} {missing[:3]}, {nowhere}, {shared}; give each its "
            "layer, as <layer>/0, <layer>/1 and so on"
        )
    for layer in layers:
        if layer.arrays != tuple(f"{layer.name}/{index}" for index in range(len(layer.arrays))):
            raise ModelFileError(
                f"{path}: arrays {layer.arrays[:3]} of {layer.name}; name them {layer.name}/0 and so on"
            )


def _net_fields(name: str, inputs: Mapping[str, Sequence[int]] | None, layers: Sequence[Layer]) -> dict[str, Any]:
    """What stands before the layers. Inputs that have a layer of their own are left to it."""
    given = {top for layer in layers if layer.kind == "Input" for top in layer.outputs}
    outside = {blob: shape for blob, shape in (inputs or {}).items() if blob not in given}
    fields: dict[str, Any] = {"name": name} if name else {}
    if outside:
        fields["input"] = tuple(outside)
        if all(outside.values()):
            fields["input_shape"] = tuple({"dim": tuple(shape)} for shape in outside.values())
    return fields


def _layer_fields(layer: Layer) -> dict[str, Any]:
    own = {"name": layer.name, "type": layer.kind, "bottom": layer.inputs, "top": layer.outputs}
    return {key: value for key, value in own.items() if value} | {
        key: value for key, value in layer.fields.items() if key not in _PLACES
    }


def _message(path: Path, fields: Mapping[str, Any], kind: str) -> bytes:
    """The fields that the schema has, in the order of their numbers, as protocol buffers write them."""
    known = NUMBERS[kind]
    found = sorted((known[name][0], name) for name in fields if name in known)
    return b"".join(_field(path, number, known[name][1], fields[name]) for number, name in found)


def _field(path: Path, number: int, entry: Entry, value: Any) -> bytes:
    if entry.name == "dim":
        return protobuf.encode_bytes(number, _varints(value))
    values = value if entry.repeated else [value]
    return b"".join(_encoded(path, number, entry, one) for one in values)


def _encoded(path: Path, number: int, entry: Entry, value: Any) -> bytes:
    kind = entry.kind
    if kind in MESSAGES:
        return protobuf.encode_bytes(number, _message(path, value, kind))
    if kind == "text":
        return protobuf.encode_bytes(number, str(value).encode("utf-8", "backslashreplace"))
    if kind == "float":
        return protobuf.encode_float(number, float(value))
    if kind in ENUMERATIONS and isinstance(value, str):
        codes = {word: code for code, word in ENUMERATIONS[kind].items()}
        if value not in codes:
            raise ModelFileError(f"{path}: {entry.name} is {value}; it must be one of {', '.join(codes)}")
        return protobuf.encode_int(number, codes[value])
    return protobuf.encode_int(number, int(value))


def _varints(values: Iterable[int]) -> bytes:
    return b"".join(protobuf.encode_varint(int(value)) for value in values)


def _blob(path: Path, name: str, values: np.ndarray) -> Pieces:
    shape = protobuf.encode_bytes(_SHAPE, protobuf.encode_bytes(_DIM, _varints(values.shape)) if values.ndim else b"")
    return [*_numbers(path, name, values), shape]


def _numbers(path: Path, name: str, values: np.ndarray) -> Pieces:
    field = _FIELD.get(values.dtype.newbyteorder("="))
    if field is None:
        raise ModelFileError(f"{path}: {name} is {values.dtype}, Caffe stores float32 or float64; convert it first")
    return [protobuf.encode_length(field, values.nbytes), values]


def _enclosed(number: int, pieces: Pieces) -> Pieces:
    return [protobuf.encode_length(number, _size(pieces)), *pieces]


def _size(pieces: Pieces) -> int:
    return sum(piece.nbytes if isinstance(piece, np.ndarray) else len(piece) for piece in pieces)


def _write_pieces(path: Path, pieces: Pieces) -> None:
    """One piece after another: no second copy of the weights is made, but of the array that is being written."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            for piece in pieces:
                if isinstance(piece, np.ndarray):
                    little = np.ascontiguousarray(piece, piece.dtype.newbyteorder("<"))
                    opened.write(little.reshape(-1).view(np.uint8).data)
                else:
                    opened.write(piece)

    write_whole(path, fill)


def _lines(fields: Mapping[str, Any], kind: str, indent: str) -> list[str]:
    """A message in the text form, a field a line; fields that the schema lacks as their values suggest."""
    lines = []
    for name, value in fields.items():
        _, entry = NUMBERS.get(kind, {}).get(name, (0, None))
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, Mapping):
                inner = entry.kind if entry is not None and entry.kind in MESSAGES else ""
                lines += [f"{indent}{name} {{", *_lines(one, inner, indent + "  "), f"{indent}}}"]
            else:
                lines.append(f"{indent}{name}: {_shown(one, entry)}")
    return lines


def _shown(value: Any, entry: Entry | None) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        bare = isinstance(value, Symbol) if entry is None else entry.kind in ENUMERATIONS
        return value if bare else _quoted(value)
    return repr(value)


def _quoted(text: str) -> str:
    shown = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(letter if letter.isprintable() else _octal(letter) for letter in shown) + '"'


def _octal(letter: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", "backslashreplace"))
