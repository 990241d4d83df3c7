"""Caffe's binary files: `.caffemodel`, a network with its weights, and `.binaryproto`, one blob such as a mean picture.

Arrays are named `<layer>/<index>`: `conv1/0` is the weight, `conv1/1` the bias. They come as they are stored: grouped
convolutions as (out, in / groups, h, w), vectors and matrices of files before 2015 as (1, 1, 1, N) and (1, 1, N, K).
The format has no checksum: a flipped bit in the numbers goes unseen.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.caffe.looks import describe_bytes, is_blob, is_net
from skipway.interchange.caffe.message import MAX_FIELDS, ByteSpan, Message, decode, last
from skipway.interchange.caffe.net import (
    check_names,
    checked_dimensions,
    dimensions,
    inputs_of,
    layers_of,
    shared_of,
)
from skipway.interchange.caffe.upgrade import form_of, upgraded
from skipway.interchange.containers.blobs import unread
from skipway.interchange.containers.protobuf import Budget, Buffer, WireError
from skipway.interchange.foreign import checked_head
from skipway.interchange.source import Array, Notes, WeightFile
from skipway.reporting import agreeing, counted

T = TypeVar("T")

MEAN = "mean"  # the name of a .binaryproto's one array
_MAX_BLOBS = 64  # of one layer; Caffe's own have twelve at most
_LEGACY = ("num", "channels", "height", "width")
_RAW = {0: "<f8", 1: "<f4", 2: "<f2"}  # raw_data_type
# The fields of a blob's numbers, the first of them that has any counts: data before diff, double before single.
_NUMBERS = {"double_data": "<f8", "data": "<f4", "double_diff": "<f8", "diff": "<f4"}
_CHUNK = 1 << 20  # numbers


def read(path: Path) -> WeightFile:
    """The arrays and layers of a `.caffemodel` of any of Caffe's three forms.

    Raises ModelFileError where the file is of another kind, damaged or unreadable.
    """
    head = checked_head(path)
    if not looks_like(head, path):
        raise ModelFileError(f"{path} is no caffemodel but {describe_bytes(head)}")
    return _mapped(path, lambda buffer: _source(path, buffer))


def read_mean(path: Path) -> WeightFile:
    """A `.binaryproto`: the one array `mean`, for pictures (1, C, H, W), channels in BGR.

    Raises ModelFileError where the file is of another kind, damaged or unreadable.
    """
    head = checked_head(path)
    if not looks_like_mean(head, path):
        raise ModelFileError(f"{path} is no binaryproto but {describe_bytes(head)}")

    def source(buffer: Buffer) -> WeightFile:
        size = len(buffer)
        blob = decode(buffer, 0, size, "BlobProto", Budget(MAX_FIELDS))
        array, field = _array(MEAN, blob, path, size)
        warnings = _gradient_warnings([field])
        return WeightFile("binaryproto", path, {MEAN: array}, warnings=warnings)

    return _mapped(path, source)


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001
    """Whether these are the first bytes of a `.caffemodel`, whatever its name."""
    return is_net(head)


def looks_like_mean(head: bytes, path: Path) -> bool:  # noqa: ARG001
    """Whether these are the first bytes of a `.binaryproto`, whatever its name."""
    return is_blob(head)


def _mapped(path: Path, made: Callable[[Buffer], T]) -> T:
    """What `made` gives for the file's bytes, which are mapped and not loaded.

    Raises ModelFileError where `made` raises WireError or the file cannot be read.
    """
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return made(buffer)
    except WireError as error:
        raise ModelFileError(f"{path} is damaged or no file of Caffe ({error}); download or copy it again") from None
    except OSError as error:
        raise unread(path, error) from None


def _source(path: Path, buffer: Buffer) -> WeightFile:
    size = len(buffer)
    net = decode(buffer, 0, size, "NetParameter", Budget(MAX_FIELDS))
    messages = upgraded(net)
    for message in messages:
        blobs = message.get("blobs", [])
        if len(blobs) > _MAX_BLOBS:
            raise WireError(f"a layer has {counted(len(blobs), 'blob')}, more than {_MAX_BLOBS}")
    layers = layers_of(messages)
    warnings = check_names(layers, set())
    arrays: dict[str, Array] = {}
    fields: list[str] = []
    for layer, message in zip(layers, messages, strict=True):
        blobs = message.get("blobs", [])
        for name, blob in zip(layer.arrays, blobs, strict=True):
            arrays[name], field = _array(name, blob, path, size)
            fields.append(field)
    if not arrays:
        hold = agreeing(len(layers), "holds", "hold")
        raise WireError(f"its {counted(len(layers), 'layer')} {hold} no weights")
    warnings += _gradient_warnings(fields)
    notes: Notes = {
        "name": str(last(net, "name", "")),
        "form": form_of(net),
        "inputs": inputs_of(net, layers),
        "shared": shared_of(layers),
    }
    return WeightFile("caffemodel", path, arrays, tuple(layers), warnings, notes)


def _gradient_warnings(fields: list[str]) -> tuple[str, ...]:
    """A warning about blobs whose numbers are in a field for gradients; `fields` are those that numbers come from."""
    odd = sum(field.endswith("diff") for field in fields)
    if not odd:
        return ()
    blobs = counted(len(fields), "blob")
    have_their = agreeing(odd, "has its", "have their")
    warning = f"{odd} of {blobs} {have_their} numbers where gradients belong (diff), not in data"
    return (warning,)


def _array(name: str, blob: Message, path: Path, size: int) -> tuple[Array, str]:
    """A blob of a file of `size` bytes, and the name of the field that its numbers are in.

    Raises WireError where there are not as many numbers as its shape asks for.
    """
    shape = _shape(blob)
    spans, stored_dtype, field = _stored(blob)
    found = sum(span.count for span in spans)
    count = math.prod(shape)
    if found != count:
        raise WireError(f"{name[:80]!r} has the shape {shape}, {count:,} numbers, but {found:,} are stored")
    load = _Load(path, size, spans, stored_dtype, shape)
    array = Array(name, shape, stored_dtype.newbyteorder("="), load)
    return array, field


def _shape(blob: Message) -> tuple[int, ...]:
    """The shape of a blob: `shape`, or the four numbers that stood for it before 2015. Absent ones of them are 0."""
    legacy = any(name in blob for name in _LEGACY)
    if legacy and "shape" not in blob:
        sides = [last(blob, name, 0) for name in _LEGACY]
        return checked_dimensions(sides)
    shape = last(blob, "shape", {})
    return dimensions(shape)


def _stored(blob: Message) -> tuple[list[ByteSpan], np.dtype[Any], str]:
    """Where a blob's numbers lie, their type, and the name of their field."""
    if "raw_data" in blob:
        return _stored_raw(blob)
    for name, code in _NUMBERS.items():
        spans = blob.get(name, [])
        if any(span.count for span in spans):
            return spans, np.dtype(code), name
    # A blob without numbers has a type nevertheless.
    name = "data"
    if "double_data" in blob and "data" not in blob:
        name = "double_data"
    return [], np.dtype(_NUMBERS[name]), name


def _stored_raw(blob: Message) -> tuple[list[ByteSpan], np.dtype[Any], str]:
    """As `_stored`, of a blob that has its numbers in `raw_data`, as bytes of the type `raw_data_type`."""
    kind = last(blob, "raw_data_type", 0)
    if kind not in _RAW:
        raise WireError(f"a blob's raw_data is of type {kind}, no floating point")
    dtype = np.dtype(_RAW[kind])
    raw = last(blob, "raw_data")
    width = dtype.itemsize
    if raw.count % width:
        raise WireError(f"a blob's raw_data are {raw.count:,} bytes, no multiple of {width}")
    numbers = ByteSpan(raw.start, raw.count // width, width, gap=0)
    return [numbers], dtype, "raw_data"


@dataclass(frozen=True)
class _Load:
    """Reads one array from the file, straight into its own memory where the numbers lie in one piece.

    `size` is the file's size in bytes, `spans` are the places of the numbers in it, and `dtype` is their stored type.
    """

    path: Path
    size: int
    spans: list[ByteSpan]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        try:
            with self.path.open("rb") as opened:
                if opened.seek(0, 2) != self.size:
                    raise ModelFileError(f"{self.path} has changed since it was opened; read it again")
                values = self._values(opened)
        except OSError as error:
            raise unread(self.path, error) from None
        except ValueError as error:  # it has become shorter just now
            raise ModelFileError(f"{self.path} cannot be read ({error}); make it readable again") from None
        native = values.astype(self.dtype.newbyteorder("="), copy=False)
        return native.reshape(self.shape)

    def _values(self, opened: IO[bytes]) -> np.ndarray:
        """All numbers of the array, in one row."""
        count = sum(span.count for span in self.spans)
        values = np.empty(count, self.dtype)
        at = 0
        for span in self.spans:
            opened.seek(span.start)
            part = values[at : at + span.count]
            self._fill(part, opened, span.gap)
            at += span.count
        return values

    def _fill(self, values: np.ndarray, opened: IO[bytes], gap: int) -> None:
        """Read the numbers from here on into `values`, a chunk at a time; `gap` bytes before each are skipped."""
        item = np.dtype([("gap", "u1", (gap,)), ("value", self.dtype)])
        for begin in range(0, values.size, _CHUNK):
            chunk = values[begin : begin + _CHUNK]
            if gap:
                items = np.fromfile(opened, item, chunk.size)
                chunk[:] = items["value"]
            else:
                chunk[:] = np.fromfile(opened, self.dtype, chunk.size)
