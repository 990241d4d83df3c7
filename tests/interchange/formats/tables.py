"""Tables of LevelDB and Snappy blocks built from their descriptions, apart from the code that they test."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from skipway.interchange.tensorflow.crc32c import crc32c, masked

MAGIC = bytes.fromhex("57fb808b247547db")


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def block(body: bytes, compression: int = 0, restarts: bytes | None = None) -> bytes:
    """A block with its trailer; its one restart point is its start."""
    content = body + (bytes(4) + b"\1\0\0\0" if restarts is None else restarts)
    stored = snappy(content) if compression == 1 else content
    stored += bytes([compression])
    return stored + masked(crc32c(stored)).to_bytes(4, "little")


def table(
    rows: Mapping[bytes, bytes],
    *,
    compression: int = 0,
    handle: Callable[[int, int], tuple[int, int]] = lambda offset, length: (offset, length),
) -> bytes:
    """A table with a block for each row; `handle` may lie about where a block is."""
    content, index = b"", b""
    for key, value in sorted(rows.items()):
        stored = block(entry(key, value), compression)
        index += entry(key, b"".join(map(varint, handle(len(content), len(stored) - 5))))
        content += stored
    return content + ending(len(content), block(index, compression))


def ending(offset: int, index: bytes) -> bytes:
    """The index block, for a table whose data blocks end at `offset`, and the footer."""
    footer = varint(0) + varint(0) + varint(offset) + varint(len(index) - 5)
    return index + footer.ljust(40, b"\0") + MAGIC


def snappy(content: bytes) -> bytes:
    """Compressed with a copy wherever the next four bytes have been seen, with each kind of copy in turn."""
    out, seen, at, literal = varint(len(content)), {}, 0, b""
    kinds = 0
    while at < len(content):
        start, four = seen.get(content[at : at + 4]), content[at : at + 4]
        seen[four] = at
        if start is None or len(four) < 4:
            literal, at = literal + content[at : at + 1], at + 1
            continue
        out, literal = out + snappy_literal(literal), b""
        kind = kinds % 3 + 1
        most = 11 if kind == 1 and at - start < 2048 else 64
        length = 4
        while length < most and at + length < len(content) and content[start + length] == content[at + length]:
            length += 1
        out += snappy_copy(length, at - start, kind if kind > 1 or at - start < 2048 else 2)
        at, kinds = at + length, kinds + 1
    return out + snappy_literal(literal)


def snappy_literal(content: bytes) -> bytes:
    if not content:
        return b""
    count = len(content) - 1
    if count < 60:
        return bytes([count << 2]) + content
    width = (count.bit_length() + 7) // 8
    return bytes([59 + width << 2]) + count.to_bytes(width, "little") + content


def snappy_copy(length: int, distance: int, kind: int) -> bytes:
    if kind == 1:
        return bytes([distance >> 8 << 5 | length - 4 << 2 | 1, distance & 0xFF])
    return bytes([length - 1 << 2 | kind]) + distance.to_bytes(2 if kind == 2 else 4, "little")


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer of numbers and texts."""
    content = b""
    for number, value in fields:
        if isinstance(value, int):
            content += varint(number << 3) + varint(value)
        else:
            content += varint(number << 3 | 2) + varint(len(value)) + value
    return content
