"""Where the bytes of an HDF5 array lie, and how they are read and unpacked without the HDF5 library.

Why without it: chunks are unpacked no further than their declared size, by three known filters and no installed ones.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import read_error

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # filter codes of the format


@dataclass(frozen=True)
class Region:
    """`size` bytes of a file from `start` on, read by opening it anew each time. `keep` lives as long as the region."""

    path: Path
    start: int
    size: int
    keep: object = None

    def fill(self, offset: int, into: memoryview) -> None:
        """Read as many bytes as `into` takes. Raises ModelFileError where the file has become shorter."""
        try:
            with self.path.open("rb") as opened:
                opened.seek(self.start + offset)
                while len(into):
                    count = opened.readinto(into)
                    if not count:
                        raise ModelFileError(f"{self.path} ends before its data do; copy it again, whole")
                    into = into[count:]
        except OSError as error:
            raise ModelFileError(str(read_error(self.path, error))) from None


class RegionFile(io.RawIOBase):
    """A region as a file of its own, for the HDF5 library."""

    def __init__(self, region: Region) -> None:
        self._region, self._position = region, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._region.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        into = into[: max(0, min(len(into), self._region.size - self._position))]
        self._region.fill(self._position, into)
        self._position += len(into)
        return len(into)


@dataclass(frozen=True)
class Chunk:
    """One stored piece of an array: index of its first element, place in the region, stored size, filters skipped."""

    place: tuple[int, ...]
    offset: int
    size: int
    skipped: int


@dataclass(frozen=True)
class Packed:
    """An array in chunks: the sides of a chunk, the chunks, and the codes of their filters in the order of packing."""

    sides: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    filters: tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """An array of a region, not yet read. `data` is its offset, its chunks, or, where it lay in the header, its bytes.

    `brain` marks bfloat16, which NumPy has no name for: it is given as float32.
    """

    region: Region
    told: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: int | Packed | bytes
    brain: bool = False

    @property
    def native(self) -> np.dtype[Any]:
        """The type of what `__call__` gives."""
        return np.dtype(np.float32) if self.brain else self.dtype.newbyteorder("=")

    def __call__(self) -> np.ndarray:
        """Read the array, native byte order. Raises ModelFileError."""
        if isinstance(self.data, bytes):
            values = np.frombuffer(bytearray(self.data), self._plain).reshape(self.shape)
        elif isinstance(self.data, Packed):
            values = self._unpacked(self.data)
        else:
            values = np.empty(self.shape, self._plain)
            if values.size:
                self.region.fill(self.data, values.reshape(-1).view(np.uint8).data)
        if self.brain:
            return (values.astype(np.uint32) << 16).view(np.float32)
        if self.dtype.kind == "b":  # an HDF5 enumeration, of which any byte may be stored
            return values != 0
        if not values.dtype.isnative:
            values = values.byteswap(inplace=True).view(self.native)
        return values

    @property
    def _plain(self) -> np.dtype[Any]:
        if self.brain:
            return np.dtype("<u2")
        return np.dtype(np.uint8) if self.dtype.kind == "b" else self.dtype

    def _unpacked(self, packed: Packed) -> np.ndarray:
        values = np.empty(self.shape, self._plain)
        for chunk in packed.chunks:
            raw = bytearray(chunk.size)
            self.region.fill(chunk.offset, memoryview(raw))
            whole = self._unfiltered(raw, packed, chunk.skipped)
            piece = np.frombuffer(whole, self._plain).reshape(packed.sides)
            inside = tuple(
                slice(at, min(at + side, length))
                for at, side, length in zip(chunk.place, packed.sides, self.shape, strict=True)
            )
            values[inside] = piece[tuple(slice(0, part.stop - part.start) for part in inside)]
        return values

    def _unfiltered(self, raw: bytes | bytearray, packed: Packed, skipped: int) -> bytes | bytearray:
        size = math.prod(packed.sides) * self.dtype.itemsize
        for number in reversed(range(len(packed.filters))):
            if not skipped >> number & 1:
                raw = _UNDO[packed.filters[number]](self, raw, size)
        if len(raw) != size:
            raise ModelFileError(f"{self.told}: a chunk unpacks to {len(raw)} bytes instead of {size}; copy it again")
        return raw

    def _inflated(self, raw: bytes | bytearray, size: int) -> bytes:
        limit = size + 4  # with the checksum, where that was packed too
        unpacker = zlib.decompressobj()
        try:
            unpacked = unpacker.decompress(raw, limit + 1)
        except zlib.error as error:
            raise ModelFileError(f"{self.told}: a chunk is damaged ({error}); copy it again") from None
        if len(unpacked) > limit or not unpacker.eof:
            raise ModelFileError(
                f"{self.told}: a chunk unpacks to more than its {size} bytes or is cut short; copy it again"
            )
        return unpacked

    def _unshuffled(self, raw: bytes | bytearray, _size: int) -> bytes | bytearray:
        whole = len(raw) - len(raw) % self.dtype.itemsize
        planes = np.frombuffer(raw, np.uint8, whole).reshape(self.dtype.itemsize, -1)
        return planes.T.tobytes() + bytes(raw[whole:])

    def _verified(self, raw: bytes | bytearray, _size: int) -> bytes | bytearray:
        data, stored = raw[:-4], int.from_bytes(raw[-4:], "little")
        if len(raw) < 4 or not _same_sums(fletcher32(data), stored):
            raise ModelFileError(f"{self.told}: the checksum of a chunk does not match its data; copy it again")
        return data


_Undo = Callable[[Stored, "bytes | bytearray", int], "bytes | bytearray"]
_UNDO: dict[int, _Undo] = {
    DEFLATE: Stored._inflated,
    SHUFFLE: Stored._unshuffled,
    FLETCHER32: Stored._verified,
}


def fletcher32(data: bytes | bytearray) -> int:
    """Fletcher's checksum over big-endian 16-bit words, as HDF5 computes it, each half modulo 65535."""
    words = np.frombuffer(bytes(data) + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    low = int(words.sum() % 65535)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % 65535
    return int((weights * words % 65535).sum() % 65535) << 16 | low


def _same_sums(computed: int, stored: int) -> bool:
    # HDF5 keeps 65535 where the remainder is 0.
    return all((computed >> half & 0xFFFF) % 65535 == (stored >> half & 0xFFFF) % 65535 for half in (0, 16))
