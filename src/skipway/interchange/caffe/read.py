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
from skipway.interchange.caffe.message import MAX_FIELDS, Message, Span, decode, last
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
from skipway.interchange.source import Array, Source
from skipway.reporting import agreeing, counted

T = TypeVar("T")

MEAN = "mean"  # the name of a .binaryproto's one array
_MAX_BLOBS = 64  # of one layer; Caffe's own have twelve at most
_LEGACY = ("num", "channels", "height", "width")
_RAW = {0: "<f8", 1: "<f4", 2: "<f2"}  # raw_data_type
_CHUNK = 1 << 20  # numbers


def read(path: Path) -> Source:
    """The arrays and layers of a `.caffemodel` of any of Caffe's three forms. Raises ModelFileError."""
    head = checked_head(path)
    if not looks_like(head, path):
        raise ModelFileError(f"{path} is no caffemodel but {describe_bytes(head)}")
    return _mapped(path, lambda buffer: _source(path, buffer))


def read_mean(path: Path) -> Source:
    """A `.binaryproto`: the one array `mean`, for pictures (1, C, H, W), channels in BGR. Raises ModelFileError."""
    head = checked_head(path)
    if not looks_like_mean(head, path):
        raise ModelFileError(f"{path} is no binaryproto but {describe_bytes(head)}")

    def source(buffer: Buffer) -> Source:
        blob = decode(buffer, 0, len(buffer), "BlobProto", Budget(MAX_FIELDS))
        array, field = _array(MEAN, blob, path, len(buffer))
        return Source("binaryproto", path, {MEAN: array}, warnings=_told_fields([field]))

    return _mapped(path, source)


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001
    """Whether these are the first bytes of a `.caffemodel`, whatever its name."""
    return is_net(head)


def looks_like_mean(head: bytes, path: Path) -> bool:  # noqa: ARG001
    """Whether these are the first bytes of a `.binaryproto`, whatever its name."""
    return is_blob(head)


def _mapped(path: Path, made: Callable[[Buffer], T]) -> T:
    """What `made` gives for the file's bytes, which are mapped and not loaded."""
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return made(buffer)
    except WireError as error:
        raise ModelFileError(f"{path} is damaged or no file of Caffe ({error}); download or copy it again") from None
    except OSError as error:
        raise unread(path, error) from None


def _source(path: Path, buffer: Buffer) -> Source:
    net = decode(buffer, 0, len(buffer), "NetParameter", Budget(MAX_FIELDS))
    messages = upgraded(net)
    for message in messages:
        if len(message.get("blobs", [])) > _MAX_BLOBS:
            raise WireError(f"a layer has {counted(len(message['blobs']), 'blob')}, more than {_MAX_BLOBS}")
    layers = layers_of(messages)
    warnings = check_names(layers, set())
    arrays: dict[str, Array] = {}
    taken: list[str] = []
    for layer, message in zip(layers, messages, strict=True):
        for name, blob in zip(layer.arrays, message.get("blobs", []), strict=True):
            arrays[name], field = _array(name, blob, path, len(buffer))
            taken.append(field)
    if not arrays:
        raise WireError(f"its {counted(len(layers), 'layer')} {agreeing(len(layers), 'holds', 'hold')} no weights")
    notes = {
        "name": str(last(net, "name", "")),
        "form": form_of(net),
        "inputs": inputs_of(net, layers),
        "shared": shared_of(layers),
    }
    return Source("caffemodel", path, arrays, tuple(layers), warnings + _told_fields(taken), notes)


def _told_fields(taken: list[str]) -> tuple[str, ...]:
    odd = sum(field.endswith("diff") for field in taken)
    which = f"{odd} of {counted(len(taken), 'blob')} {agreeing(odd, 'has its', 'have their')} numbers"
    told = f"{which} where gradients belong (diff), not in data"
    return (told,) if odd else ()


def _array(name: str, blob: Message, path: Path, size: int) -> tuple[Array, str]:
    """A blob, and the field that its numbers are in; they must be as many as its shape asks for. Raises WireError."""
    shape = _shape(blob)
    spans, dtype, field = _stored(blob)
    found, count = sum(span.count for span in spans), math.prod(shape)
    if found != count:
        raise WireError(f"{name[:80]!r} has the shape {shape}, {count:,} numbers, but {found:,} are stored")
    return Array(name, shape, dtype.newbyteorder("="), _Load(path, size, spans, dtype, shape)), field


def _shape(blob: Message) -> tuple[int, ...]:
    """Of `shape`, or of the four numbers that stood for it before 2015; absent ones are 0 there."""
    if "shape" not in blob and any(name in blob for name in _LEGACY):
        return checked_dimensions([last(blob, name, 0) for name in _LEGACY])
    return dimensions(last(blob, "shape", {}))


def _stored(blob: Message) -> tuple[list[Span], np.dtype[Any], str]:
    """Where a blob's numbers lie, their type and their field: data before diff, of each double before single."""
    if "raw_data" in blob:
        kind = last(blob, "raw_data_type", 0)
        if kind not in _RAW:
            raise WireError(f"a blob's raw_data is of type {kind}, no floating point")
        dtype, raw = np.dtype(_RAW[kind]), blob["raw_data"][-1]
        if raw.count % dtype.itemsize:
            raise WireError(f"a blob's raw_data are {raw.count:,} bytes, no multiple of {dtype.itemsize}")
        return [Span(raw.start, raw.count // dtype.itemsize, dtype.itemsize, 0)], dtype, "raw_data"
    for name in ("double_data", "data", "double_diff", "diff"):
        if any(span.count for span in blob.get(name, [])):
            return blob[name], np.dtype("<f8" if name.startswith("double") else "<f4"), name
    name = "double_data" if "double_data" in blob and "data" not in blob else "data"
    return [], np.dtype("<f8" if name == "double_data" else "<f4"), name


@dataclass(frozen=True)
class _Load:
    """Reads one array from the file, straight into its own memory where the numbers lie in one piece."""

    path: Path
    size: int
    spans: list[Span]
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
        return values.astype(self.dtype.newbyteorder("="), copy=False).reshape(self.shape)

    def _values(self, opened: IO[bytes]) -> np.ndarray:
        values = np.empty(sum(span.count for span in self.spans), self.dtype)
        at = 0
        for span in self.spans:
            item = np.dtype([("gap", "u1", (span.gap,)), ("value", self.dtype)])
            opened.seek(span.start)
            for begin in range(0, span.count, _CHUNK):
                part = values[at : at + min(_CHUNK, span.count - begin)]
                if span.gap:
                    part[:] = np.fromfile(opened, item, part.size)["value"]
                else:
                    part[:] = np.fromfile(opened, self.dtype, part.size)
                at += part.size
        return values
