"""Snappy's raw format, decompressed: a length, then literals and copies of what came before. Bounded and checked.

Why an own reader: a library takes the memory that a block claims to need. Here a block that claims to grow more than
any compressor can make it is refused first, and each literal and copy must lie within what is there.
"""

from __future__ import annotations

# A copy of 3 bytes gives at most 64: nothing that a compressor wrote grows by more.
_MAX_GROWTH = 22
_LITERAL = 0  # the two lowest bits of a tag that literal bytes follow
_SHORT_COPY = 1  # those of a copy whose distance has one byte beside the bits in the tag
_MIDDLE_COPY = 2  # those of a copy whose distance has two bytes; the fourth kind has four


def decompress(data: memoryview) -> bytearray:
    """The bytes that were compressed. Raises ValueError when the block lies about them, before it takes the memory."""
    size, position = _length(data)
    if size > _MAX_GROWTH * len(data):
        raise ValueError(f"a snappy block of {len(data)} bytes claims to hold {size}")
    out = bytearray(size)
    filled = 0
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == _LITERAL:
            count, position = _literal_length(data, position, tag >> 2)
            if count > len(data) - position or count > size - filled:
                raise ValueError("a snappy literal runs past its block")
            out[filled : filled + count] = data[position : position + count]
            position += count
        else:
            count, distance, position = _copy(data, position, tag)
            if not 0 < distance <= filled or count > size - filled:
                raise ValueError("a snappy copy reaches outside its block")
            out[filled : filled + count] = _copied(out, filled - distance, distance, count)
        filled += count
    if filled != size:
        raise ValueError(f"a snappy block ends after {filled} of {size} bytes")
    return out


def _copied(out: bytearray, start: int, distance: int, count: int) -> bytearray:
    """The `count` bytes from `start` on. `distance` of them are there; where that is fewer, they repeat themselves."""
    pattern = out[start : start + min(count, distance)]
    if distance >= count:
        return pattern
    repeated = pattern * (count // distance + 1)
    return repeated[:count]


def _length(data: memoryview) -> tuple[int, int]:
    """The size in bytes of what was compressed, and where the first element begins."""
    size = 0
    for position, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * position)
        is_last = byte < 0x80
        if is_last:
            return size, position + 1
    raise ValueError("a snappy block without its length")


def _literal_length(data: memoryview, position: int, code: int) -> tuple[int, int]:
    """How many literal bytes follow, and where they begin. `code` is the upper part of the tag."""
    if code < 60:
        return code + 1, position
    width = code - 59
    length = _number(data, position, width) + 1
    return length, position + width


def _copy(data: memoryview, position: int, tag: int) -> tuple[int, int, int]:
    """How many bytes to copy, how far back they begin, and where the next element starts."""
    kind = tag & 3
    if kind == _SHORT_COPY:
        count = (tag >> 2 & 7) + 4
        upper_bits = tag >> 5 << 8
        distance = upper_bits | _number(data, position, 1)
        return count, distance, position + 1
    width = 4
    if kind == _MIDDLE_COPY:
        width = 2
    count = (tag >> 2) + 1
    distance = _number(data, position, width)
    return count, distance, position + width


def _number(data: memoryview, position: int, width: int) -> int:
    """A number of `width` bytes. Raises ValueError where the block ends before it does."""
    if width > len(data) - position:
        raise ValueError("a snappy block ends inside an element")
    content = data[position : position + width]
    return int.from_bytes(content, "little")
