"""Snappy's raw format, decompressed: a length, then literals and copies of what came before. Bounded and checked.

Why an own reader: a library takes the memory that a block claims to need. Here a block that claims to grow more than
any compressor can make it is refused first, and each literal and copy must lie within what is there.
"""

from __future__ import annotations

# A copy of 3 bytes gives at most 64: nothing that a compressor wrote grows by more.
_MAX_GROWTH = 22


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
        if tag & 3 == 0:
            count, position = _literal_length(data, position, tag >> 2)
            if count > len(data) - position or count > size - filled:
                raise ValueError("a snappy literal runs past its block")
            out[filled : filled + count] = data[position : position + count]
            position += count
        else:
            count, distance, position = _copy(data, position, tag)
            if not 0 < distance <= filled or count > size - filled:
                raise ValueError("a snappy copy reaches outside its block")
            start = filled - distance
            pattern = out[start : start + min(count, distance)]
            if distance < count:  # it overlaps what it writes: a run
                pattern = (pattern * (count // distance + 1))[:count]
            out[filled : filled + count] = pattern
        filled += count
    if filled != size:
        raise ValueError(f"a snappy block ends after {filled} of {size} bytes")
    return out


def _length(data: memoryview) -> tuple[int, int]:
    size = 0
    for position, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return size, position + 1
    raise ValueError("a snappy block without its length")


def _literal_length(data: memoryview, position: int, code: int) -> tuple[int, int]:
    if code < 60:
        return code + 1, position
    width = code - 59
    return _number(data, position, width) + 1, position + width


def _copy(data: memoryview, position: int, tag: int) -> tuple[int, int, int]:
    """Count, distance back, and where the next element starts."""
    if tag & 3 == 1:
        return (tag >> 2 & 7) + 4, (tag >> 5 << 8) | _number(data, position, 1), position + 1
    width = 2 if tag & 3 == 2 else 4
    return (tag >> 2) + 1, _number(data, position, width), position + width


def _number(data: memoryview, position: int, width: int) -> int:
    if width > len(data) - position:
        raise ValueError("a snappy block ends inside an element")
    return int.from_bytes(data[position : position + width], "little")
