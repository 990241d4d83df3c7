"""Variables that TensorFlow saved in parts: the extents of a part, its key in the table, the whole out of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skipway.interchange.containers.protobuf import encode_bytes, encode_int
from skipway.interchange.tensorflow.tensor import MAX_DIMENSIONS
from skipway.interchange.tensorflow.wire import Message, number_field
from skipway.reporting import counted

_FULL = -1


@dataclass(frozen=True)
class Part:
    """A part of a variable: start and length along each dimension, a length of -1 for all of it."""

    extents: tuple[tuple[int, int], ...]

    def slices(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """The part as an index of the whole. Raises ValueError when it does not lie in it."""
        if len(self.extents) != len(shape):
            raise ValueError(f"a part has {counted(len(self.extents), 'dimension')}, its variable {len(shape)}")
        bounds = []
        for (start, length), size in zip(self.extents, shape, strict=True):
            first, last = (0, size) if length == _FULL else (start, start + length)
            if not 0 <= first <= last <= size:
                raise ValueError(f"a part lies outside its variable of shape {shape}")
            bounds.append(slice(first, last))
        return tuple(bounds)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the part of a variable of this shape."""
        return tuple(bounds.stop - bounds.start for bounds in self.slices(shape))


def whole(rank: int) -> Part:
    """The part that is all of a variable."""
    return Part(((0, _FULL),) * rank)


def part_of(message: Message) -> Part:
    """A TensorSliceProto. Raises ValueError."""
    extents = []
    for number, value in message:
        if number == 1:
            start, length = 0, _FULL
            for inner, bound in value.message():
                start = bound.integer() if inner == 1 else start
                length = bound.integer() if inner == 2 else length
            extents.append((start, length))
        if len(extents) > MAX_DIMENSIONS:
            raise ValueError(f"a part has more than {MAX_DIMENSIONS} dimensions")
    return Part(tuple(extents))


def part_message(part: Part) -> bytes:
    """The inverse of `part_of`."""
    extents = []
    for start, length in part.extents:
        # A length of 0 is written, unlike other zeros: without one the extent is all of the dimension.
        stated = b"" if length == _FULL else number_field(1, start) + encode_int(2, length)
        extents.append(encode_bytes(1, stated))
    return b"".join(extents)


def part_key(name: str, part: Part) -> bytes:
    """The key of a part's values in the table: zero, name and extents, encoded so that bytes sort as they do."""
    escaped = name.encode().replace(b"\0", b"\0\xff")  # the other byte to escape, 255, is not in UTF-8
    rank = len(part.extents)
    numbers = b"".join(_ordered(start) + _ordered(length) for start, length in part.extents)
    return b"\0" + escaped + b"\0\1" + (bytes([1, rank]) if rank else b"\0") + numbers


def _ordered(value: int) -> bytes:
    """Signed numbers as bytes in ascending order: as many leading bits equal to the sign as there are bytes."""
    width = 1
    while not -(1 << 7 * width - 1) <= value < 1 << 7 * width - 1:
        width += 1
    header = ((1 << width) - 1) << 7 * width
    return ((value & (1 << 8 * width) - 1) ^ header).to_bytes(width, "big")


def check_cover(parts: Sequence[Part], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the parts, cut along one dimension as TensorFlow's partitioners do, make up the whole."""
    boxes = [part.slices(shape) for part in parts]
    cut = [axis for axis, size in enumerate(shape) if any(box[axis] != slice(0, size) for box in boxes)]
    if len(cut) > 1:
        raise ValueError("a variable is cut along several dimensions")
    if not cut and len(boxes) == 1:
        return
    end = 0
    for start, stop in sorted((box[cut[0]].start, box[cut[0]].stop) for box in boxes) if cut else []:
        if start != end:
            raise ValueError("the parts of a variable leave a gap or overlap")
        end = stop
    if not cut or end != shape[cut[0]]:
        raise ValueError("the parts of a variable do not make it up")
