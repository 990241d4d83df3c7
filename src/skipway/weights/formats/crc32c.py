"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, fast without a compiled extension.

A message is a polynomial over GF(2), its checksum the remainder by another. Remainders add up: a long message is cut
into rows of 32-bit words, and rows are folded into one another, each time multiplied by a power of x for the distance
that they move. Multiplication by a constant is linear, hence two look-ups a word, for a whole row at once.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # bits reversed: the lowest bit is the highest power, as in the message's bytes
_ROW_LEVEL = 14  # rows of 2**14 words, 64 KiB, stay in the processor's cache
_CHUNK = 1 << 20
_MASK_DELTA = 0xA282EAD8

Words = NDArray[np.uint32]
Bytes = bytes | bytearray | memoryview


def crc32c(data: Bytes, value: int = 0) -> int:
    """CRC-32C of the bytes; `value` is that of the bytes before them, so that a file can be checked in pieces."""
    view = memoryview(data).cast("B")
    state = ~value & 0xFFFFFFFF
    for start in range(0, len(view), _CHUNK):
        piece = view[start : start + _CHUNK]
        state = _short(piece, state) if len(piece) < 64 else _long(piece, state)
    return ~state & 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form in which files keep it: a checksum of bytes that hold their own checksum says little."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _short(data: memoryview, state: int) -> int:
    table = _byte_table()
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state


def _long(data: memoryview, state: int) -> int:
    row = 1 << min(_ROW_LEVEL, (len(data) // 4).bit_length() - 1)
    padding = -len(data) % (4 * row)  # zeros in front change no remainder
    padded = np.zeros(padding + len(data), np.uint8)
    padded[padding:] = np.frombuffer(data, np.uint8)
    padded[padding : padding + 4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    rows: Words = padded.view("<u4").astype(np.uint32, copy=False).reshape(-1, row)
    folded = rows[0]
    for following in rows[1:]:
        folded = _moved(folded, row.bit_length() - 1) ^ following
    while len(folded) > 1:
        half = len(folded) // 2
        folded = _moved(folded[:half], half.bit_length() - 1) ^ folded[half:]
    return int(_moved(folded, 0)[0])


def _moved(words: Words, level: int) -> Words:
    """Remainders of the words times x**(32 * 2**level)."""
    low, high = _tables(level)
    moved: Words = low[words & 0xFFFF]
    moved ^= high[words >> 16]
    return moved


@cache
def _tables(level: int) -> tuple[Words, Words]:
    """For each low and each high half of a word: its remainder when moved by 2**level words."""
    if level:
        low, high = _tables(level - 1)
        basis = [int(_moved(low[[1 << bit]], level - 1)[0]) for bit in range(16)]
        basis += [int(_moved(high[[1 << bit]], level - 1)[0]) for bit in range(16)]
    else:
        basis = [_short(memoryview(bytes(4)), 1 << bit) for bit in range(32)]
    return _spanned(basis[:16]), _spanned(basis[16:])


def _spanned(basis: list[int]) -> Words:
    table = np.zeros(1 << len(basis), np.uint32)
    for bit, value in enumerate(basis):
        table[1 << bit : 2 << bit] = table[: 1 << bit] ^ np.uint32(value)
    return table


@cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        state = byte
        for _ in range(8):
            state = (state >> 1) ^ (_POLYNOMIAL if state & 1 else 0)
        table.append(state)
    return tuple(table)
