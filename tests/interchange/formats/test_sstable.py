"""CRC-32C, Snappy and LevelDB's table: known values, what a writer of the format may do, what none does."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from tests.interchange.formats.hostile import truncations
from tests.interchange.formats.tables import block, ending, entry, snappy, snappy_copy, snappy_literal, table, varint

from skipway.interchange.tensorflow.crc32c import crc32c, masked
from skipway.interchange.tensorflow.snappy import decompress
from skipway.interchange.tensorflow.sstable import Table, is_table, write_table

ROWS = {f"net/conv{number}/weights".encode(): bytes([number]) * 40 * number for number in range(50)}


def slow_crc(content: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("content", "crc"),
    [  # from RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc_of_published_examples(content: bytes, crc: int) -> None:
    assert crc32c(content) == crc


@pytest.mark.parametrize("length", [1, 3, 63, 64, 65, 127, 1000, 65535, 65536, 65540, 262147])
def test_crc_of_any_length_and_in_pieces(length: int) -> None:
    content = np.random.default_rng(length).bytes(length)
    expected = slow_crc(content)
    assert crc32c(content) == expected
    for cut in (0, 1, length // 3, length):
        assert crc32c(memoryview(content)[cut:], crc32c(content[:cut])) == expected


def test_crc_beyond_one_chunk() -> None:
    """Longer than what is taken at once: equal to the pieces, which are short enough to be checked above."""
    content = np.random.default_rng(0).bytes(3_000_001)
    crc = 0
    for start in range(0, len(content), 65536):
        crc = crc32c(content[start : start + 65536], crc)
    assert crc32c(content) == crc


def test_crc_is_counted_by_the_compiled_extension() -> None:
    assert google_crc32c.implementation == "c"
    content = bytes(20_000_000)
    started = time.perf_counter()
    crc32c(content)
    assert time.perf_counter() - started < 0.5  # 2 ms alone; pure Python takes 7 s


def test_without_the_extension_the_crc_is_the_same_and_a_warning_says_why_it_is_slow() -> None:
    code = """
import sys, warnings
sys.modules["google_crc32c._crc32c"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from skipway.interchange.tensorflow.crc32c import crc32c
print(*(warning.category.__name__ for warning in caught))
print(crc32c(memoryview(bytearray(b"456789")), crc32c(b"123")) == 0xE3069283)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["RuntimeWarning", "True"], done.stderr


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_crc_of_any_buffer(kind: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    assert crc32c(kind(b"123456789")) == 0xE3069283
    assert crc32c(memoryview(np.arange(4.0))) == crc32c(np.arange(4.0).tobytes())


def test_masked_crc() -> None:
    assert masked(0) == 0xA282EAD8
    assert masked(0xFFFFFFFF) == 0xA282EAD7


def test_snappy_of_repetitive_and_random_content() -> None:
    random = np.random.default_rng(0).bytes(70_000)
    for content in (b"", b"abc", b"ab" * 5000, bytes(100_000), random, random[:3000] * 3, b"x" * 61 + random[:300]):
        packed = snappy(content)
        assert decompress(memoryview(packed)) == content


def test_snappy_of_every_kind_of_element() -> None:
    for length in (60, 61, 256, 257, 65536, 65537):
        content = np.random.default_rng(length).bytes(length)
        assert decompress(memoryview(varint(length) + snappy_literal(content))) == content
    for kind in (1, 2, 3):
        packed = varint(13) + snappy_literal(b"abc") + snappy_copy(10, 3, kind)
        assert decompress(memoryview(packed)) == b"abcabcabcabca"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xff\xff\xff\xff\xff\x01",
        varint(1 << 30) + snappy_literal(b"abc"),
        varint(4) + snappy_literal(b"abc"),
        varint(2) + snappy_literal(b"abc"),
        varint(3) + snappy_literal(b"abc")[:-1],
        varint(8) + snappy_literal(b"abc") + snappy_copy(5, 4, 2),
        varint(8) + snappy_literal(b"abc") + snappy_copy(5, 0, 2),
        varint(7) + snappy_literal(b"abc") + snappy_copy(5, 3, 2),
        varint(8) + snappy_literal(b"abc") + snappy_copy(5, 3, 3)[:-1],
        varint(8) + b"\xfc\xff",
    ],
)
def test_snappy_that_lies(packed: bytes) -> None:
    with pytest.raises(ValueError, match="snappy"):
        decompress(memoryview(packed))


@pytest.mark.parametrize("compression", [0, 1])
def test_a_table_built_from_the_description(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "table"
    path.write_bytes(table(ROWS, compression=compression))
    assert is_table(path)
    opened = Table(path)
    assert {key: bytes(value) for key, value in opened.items()} == ROWS
    for key, value in ROWS.items():
        assert opened.get(key) == value
    for absent in (b"", b"net/conv10/weightsX", b"zzz"):
        assert opened.get(absent) is None


def test_keys_that_share_their_beginnings(tmp_path: Path) -> None:
    path = tmp_path / "table"
    body = entry(b"net/a", b"1") + entry(b"b", b"2", shared=4) + entry(b"/c", b"3", shared=5)
    stored = block(body)
    index = block(entry(b"net/z", varint(0) + varint(len(stored) - 5)))
    path.write_bytes(stored + ending(len(stored), index))
    assert [(key, bytes(value)) for key, value in Table(path).items()] == [
        (b"net/a", b"1"), (b"net/b", b"2"), (b"net/b/c", b"3"),
    ]  # fmt: skip
    assert Table(path).get(b"net/b/c") == b"3"


@pytest.mark.parametrize("size", [0, 10, 400_000])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    rows = {key: value + bytes(size) for key, value in list(ROWS.items())[:20]}
    file = io.BytesIO()
    write_table(file, sorted(rows.items()))
    path = tmp_path / "table"
    path.write_bytes(file.getvalue())
    assert {key: bytes(value) for key, value in Table(path).items()} == rows
    assert all(Table(path).get(key) == value for key, value in rows.items())


def _broken() -> dict[str, bytes]:
    stored = block(entry(b"key", b"value"))
    here = varint(0) + varint(len(stored) - 5)

    def indexed(*index: bytes) -> bytes:
        return stored + ending(len(stored), block(b"".join(index)))

    def body(content: bytes, restarts: bytes | None = None) -> bytes:
        data = block(content, 0, restarts)
        return data + ending(len(data), block(entry(b"z", varint(0) + varint(len(data) - 5))))

    rows = {b"a": b"1", b"b": b"2"}
    return {
        "index elsewhere": stored + ending(1 << 40, block(entry(b"key", here))),
        "block elsewhere": table(rows, handle=lambda offset, length: (offset + (1 << 40), length)),
        "block too long": table(rows, handle=lambda offset, length: (offset, length + (1 << 40))),
        "negative": table(rows, handle=lambda offset, length: (-5, length)),
        "one block for two": table(rows, handle=lambda offset, length: (0, length)),
        "index points to itself": indexed(entry(b"key", varint(len(stored)) + varint(20))),
        "handle cut off": indexed(entry(b"key", b"\x80")),
        "shares more than there is": body(entry(b"key", b"value", shared=1)),
        "value past the end": body(varint(0) + varint(1) + varint(1 << 30) + b"k"),
        "key past the end": body(varint(0) + varint(1 << 62) + varint(1) + b"k"),
        "endless number": body(b"\x80" * 12),
        "restarts past the start": body(entry(b"key", b"value"), b"\xff\xff\xff\xff"),
        "no restarts": body(b"", b""),
        "out of order": body(entry(b"b", b"1") + entry(b"a", b"2")),
        "twice the same": body(entry(b"a", b"1") + entry(b"a", b"2")),
        "unknown compression": table(rows, compression=2),
        "keys without end": body(
            entry(b"k" * 60_000, b"") + b"".join(entry(bytes([0]), b"", shared=60_000 + at) for at in range(4000))
        ),
    }


BROKEN = _broken()


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_tables_that_lie(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\w"):
        list(Table(path).items())


def test_truncated_and_flipped_tables(tmp_path: Path) -> None:
    content = table(ROWS)
    path = tmp_path / "table"
    for part in truncations(content):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"\w"):
            list(Table(path).items())
    content = table({b"a": b"12345", b"b": b"67890"})
    unused = range(len(content) - 38, len(content) - 8)  # the footer's padding, which no checksum covers
    for at in set(range(len(content))) - set(unused):
        for bit in range(8):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            try:
                list(Table(path).items())
            except ValueError:
                continue
            assert at in range(len(content) - 48, len(content) - 8), at  # the metaindex, which is not needed
