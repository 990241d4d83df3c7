"""`.safetensors` files of others: a length, a JSON header that places every tensor, then the tensors.

Why not `safetensors.safe_open` (tried with 0.8.0 on every hostile file of the tests, docs/log.md): it refuses what is
refused here but takes a name that occurs twice, headers up to 100 MB (7 s), and maps the file, so that one cut short
while it is read ends the process by SIGBUS; its NumPy form has no bfloat16. Files are written by the library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from skipway.errors import ModelFileError
from skipway.files import write_whole
from skipway.interchange.containers.blobs import (
    BFLOAT16,
    FileBlob,
    checked_shape,
    damaged,
    item_dtype,
    named,
    stored_array,
    unread,
)
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.source import Array, WeightFile

DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
    "C64": "<c8",
}
_MOST_ALLOWED = 100_000_000  # bytes of a header, by the format
# The format allows 100 MB; a network of a thousand layers needs a hundredth of this, and JSON unpacks to many times it.
MAX_HEADER = 8 << 20


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001 (all formats are asked alike)
    """Whether a file that begins with `head` is a `.safetensors`."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= _MOST_ALLOWED


def read(path: Path) -> WeightFile:
    """Read the tensors of a `.safetensors` file; bfloat16 is given as float32. Raises ModelFileError."""
    head = checked_head(path)
    if not looks_like(head, path):
        raise ModelFileError(f"{path} is no safetensors file but {describe_foreign(head)}")
    size = path.stat().st_size
    length = int.from_bytes(head[:8], "little")
    longest = min(MAX_HEADER, size - 8)
    if length > longest:
        raise damaged(path, f"is cut short or damaged (a header of {length} bytes in a file of {size})")
    header = _header(path, length)
    metadata = header.pop("__metadata__", {})
    _check_metadata(path, metadata)
    blob = FileBlob(path, 8 + length, size - 8 - length)
    places = _places(path, header, blob.size)
    if not places:
        raise damaged(path, "holds no tensors", "name the file that holds the weights")
    arrays: list[Array] = []
    for name, begin in places.items():
        array = _array(name, header[name], begin, blob)
        arrays.append(array)
    return WeightFile("safetensors", path, named(path, arrays), notes={"metadata": metadata})


def _array(name: str, entry: Mapping[str, Any], begin: int, blob: FileBlob) -> Array:
    """The array of an entry of the header whose first byte is `begin`."""
    shape = tuple(entry["shape"])
    dtype = DTYPES[entry["dtype"]]
    return stored_array(name, blob, begin, shape, dtype)


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, whole or not at all. Raises StorageError; ModelFileError for types without a code."""
    known = {np.dtype(code) for code in DTYPES.values() if code != BFLOAT16}
    native: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in known:
            raise ModelFileError(f"{name} is {array.dtype}, which safetensors does not hold; convert it to float32")
        native[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    texts = dict(metadata or {})
    write_whole(path, lambda temporary: save_file(native, temporary, texts))


def _header(path: Path, length: int) -> dict[str, Any]:
    """The JSON header of `length` bytes. Raises ModelFileError where it is damaged."""
    try:
        with path.open("rb") as opened:
            opened.seek(8)
            text = opened.read(length).decode("utf-8")
            header = json.loads(text, object_pairs_hook=_unique)
    except OSError as error:
        raise unread(path, error) from None
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise damaged(path, f"is damaged (its header: {reason})") from None
    if not isinstance(header, dict):
        raise damaged(path, "is damaged (its header names no tensors)")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dictionary. Raises ValueError for a name that occurs twice and for texts that are none."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name twice")
    for name, value in pairs:
        name.encode()  # JSON can spell half a letter, which is no text
        if isinstance(value, str):
            value.encode()
    return made


def _check_metadata(path: Path, metadata: Any) -> None:
    """Raise ModelFileError unless the metadata are texts by name."""
    problem = "is damaged (metadata that are no texts)"
    if not isinstance(metadata, dict):
        raise damaged(path, problem)
    for value in metadata.values():
        if not isinstance(value, str):
            raise damaged(path, problem)


def _places(path: Path, header: Mapping[str, Any], size: int) -> dict[str, int]:
    """The first byte of each tensor, by name, in the order of the file.

    Raises ModelFileError unless the tensors take all `size` bytes behind the header, without a gap or an overlap.
    """
    spans: list[tuple[tuple[int, int], str]] = []
    for name, entry in header.items():
        span = _span(path, name, entry)
        spans.append((span, name))
    spans.sort()
    places: dict[str, int] = {}
    end = 0
    for (begin, stop), name in spans:
        if begin != end or stop < begin:
            raise damaged(path, f"is damaged ({name[:100]!r} overlaps what lies before it, or leaves a gap)")
        places[name] = begin
        end = stop
    if end != size:
        raise damaged(path, f"is cut short or damaged ({end} bytes of tensors declared, {size} there)")
    return places


def _span(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """First byte and end of a tensor. Raises ModelFileError where its description is damaged."""
    try:
        begin, stop = entry["data_offsets"]
        shape = entry["shape"]
        code = entry["dtype"]
    except (TypeError, KeyError, ValueError):
        raise damaged(path, f"is damaged ({name[:100]!r} has no type, shape or place)") from None
    if type(begin) is not int or type(stop) is not int or not isinstance(shape, list):
        raise damaged(path, f"is damaged ({name[:100]!r} has no place)")
    if not isinstance(code, str) or code not in DTYPES:
        raise damaged(path, f"holds {name[:100]!r} as {str(code)[:20]!r}", "convert it to F32 where it was written")
    itemsize = item_dtype(DTYPES[code]).itemsize
    try:
        sizes = checked_shape(shape, itemsize)
    except ValueError as error:
        raise damaged(path, f"is damaged ({name[:100]!r} {error})") from None
    if stop - begin != math.prod(sizes) * itemsize:
        raise damaged(path, f"is damaged ({name[:100]!r} of shape {shape} lies in {stop - begin} bytes)")
    return begin, stop
