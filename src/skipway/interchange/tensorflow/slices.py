"""Variables that TensorFlow saved in parts: the extents of a part, its key in the table, the whole out of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skipway.interchange.containers.protobuf import encode_bytes, encode_int
from skipway.interchange.tensorflow.tensor import MAX_DIMENSIONS
from skipway.interchange.tensorflow.wire import Message, number_field
from skipway.reporting import counted

_FULL = -1
# Numbers of the fields of a TensorSliceProto and of one of its extents.
_EXTENT = 1
_START, _LENGTH = 1, 2


@dataclass(frozen=True)
class SavedPart:
    """A part of a variable: start and length along each dimension, a length of -1 for all of it."""

    extents: tuple[tuple[int, int], ...]

    def slices(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Give the part as an index of a variable of this shape. Raises ValueError where it does not lie in it."""
        if len(self.extents) != len(shape):
            raise ValueError(f"a part has {counted(len(self.extents), 'dimension')}, its variable {len(shape)}")
        bounds: list[slice] = []
        for (start, length), size in zip(self.extents, shape, strict=True):
            if length == _FULL:
                first, last = 0, size
            else:
                first, last = start, start + length
            if not 0 <= first <= last <= size:
                raise ValueError(f"a part lies outside its variable of shape {shape}")
            bounds.append(slice(first, last))
        return tuple(bounds)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Give the shape of this part of a variable of shape `shape`. Raises ValueError as `slices` does."""
        return tuple(bounds.stop - bounds.start for bounds in self.slices(shape))


def whole(rank: int) -> SavedPart:
    """The part that is all of a variable."""
    return SavedPart(((0, _FULL),) * rank)


def part_of(message: Message) -> SavedPart:
    """Read a TensorSliceProto. Raises ValueError."""
    extents: list[tuple[int, int]] = []
    for number, value in message:
        if number == _EXTENT:
            extent = _extent(value.message())
            extents.append(extent)
        if len(extents) > MAX_DIMENSIONS:
            raise ValueError(f"a part has more than {MAX_DIMENSIONS} dimensions")
    return SavedPart(tuple(extents))


def _extent(message: Message) -> tuple[int, int]:
    """Read start and length along one dimension. Without a length the extent is all of the dimension."""
    start = 0
    length = _FULL
    for number, bound in message:
        if number == _START:
            start = bound.integer()
        elif number == _LENGTH:
            length = bound.integer()
    return start, length


def part_message(part: SavedPart) -> bytes:
    """Encode a TensorSliceProto, the inverse of `part_of`."""
    extents: list[bytes] = []
    for start, length in part.extents:
        if length == _FULL:
            extent = b""
        else:
            # A length of 0 is written, unlike other zeros: without one the extent is all of the dimension.
            extent = number_field(_START, start) + encode_int(_LENGTH, length)
        extents.append(encode_bytes(_EXTENT, extent))
    return b"".join(extents)


def part_key(name: str, part: SavedPart) -> bytes:
    """The key of a part's values in the table: zero, name and extents, encoded so that bytes sort as they do."""
    escaped = name.encode().replace(b"\0", b"\0\xff")  # the other byte to escape, 255, is not in UTF-8
    rank = len(part.extents)
    encoded_rank = bytes([1, rank]) if rank else b"\0"
    pieces = [b"\0", escaped, b"\0\1", encoded_rank]
    for start, length in part.extents:
        pieces.append(_ordered(start))
        pieces.append(_ordered(length))
    return b"".join(pieces)


def _ordered(value: int) -> bytes:
    """Encode a signed number so that the bytes sort as the numbers do.

    The code begins with as many bits equal to the sign as it has bytes. Seven bits of each byte are left for the value.
    """
    width = 1
    limit = 1 << 6
    while not -limit <= value < limit:
        width += 1
        limit <<= 7
    header = ((1 << width) - 1) << 7 * width
    mask = (1 << 8 * width) - 1
    code = (value & mask) ^ header
    return code.to_bytes(width, "big")


def check_cover(parts: Sequence[SavedPart], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the parts, cut along one dimension as TensorFlow's partitioners do, make up the whole."""
    boxes = [part.slices(shape) for part in parts]
    cut = _cut_dimensions(boxes, shape)
    if len(cut) > 1:
        raise ValueError("a variable is cut along several dimensions")
    if not cut and len(boxes) == 1:
        return
    if not cut:
        raise ValueError("the parts of a variable do not make it up")
    axis = cut[0]
    spans = sorted((box[axis].start, box[axis].stop) for box in boxes)
    end = 0
    for start, stop in spans:
        if start != end:
            raise ValueError("the parts of a variable leave a gap or overlap")
        end = stop
    if end != shape[axis]:
        raise ValueError("the parts of a variable do not make it up")


def _cut_dimensions(boxes: Sequence[tuple[slice, ...]], shape: tuple[int, ...]) -> list[int]:
    """The dimensions along which some part is shorter than the variable."""
    cut: list[int] = []
    for axis, size in enumerate(shape):
        full = slice(0, size)
        is_full = all(box[axis] == full for box in boxes)
        if not is_full:
            cut.append(axis)
    return cut
