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
from typing import Any, NoReturn

import numpy as np

from skipway.errors import ModelFileError
from skipway.files import read_error

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # filter codes of the format
_CHECKSUM_SIZE = 4  # bytes


@dataclass(frozen=True)
class Region:
    """`size` bytes of the file `path` from `start` on, read by opening it anew each time.

    `keep` is an object that must live as long as the region, such as a temporary file.
    """

    path: Path
    start: int
    size: int
    keep: object = None

    def fill(self, offset: int, into: memoryview) -> None:
        """Read as many bytes as `into` takes, from `offset` on. Raises ModelFileError where the file has fewer."""
        try:
            with self.path.open("rb") as opened:
                opened.seek(self.start + offset)
                while len(into):
                    count = opened.readinto(into)
                    if not count:
                        raise ModelFileError(f"{self.path} ends before its data do; copy it again, whole")
                    into = into[count:]
        except OSError as error:
            message = str(read_error(self.path, error))
            raise ModelFileError(message) from None


class RegionFile(io.RawIOBase):
    """A region as a file of its own, for the HDF5 library. The methods are those of a Python file."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether its position can be set: always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position to `offset` bytes from the start, the position or the end. Returns the new position."""
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._region.size}
        position = bases[whence] + offset
        self._position = max(0, position)
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read bytes into `buffer`, as many as it takes or as there are. Returns how many were read."""
        into = memoryview(buffer).cast("B")
        left = self._region.size - self._position
        count = min(len(into), left)
        into = into[: max(0, count)]
        self._region.fill(self._position, into)
        self._position += len(into)
        return len(into)


@dataclass(frozen=True)
class Chunk:
    """One stored piece of an array.

    - `place`: the index of its first element.
    - `offset`, `size`: where it lies in the region, in bytes.
    - `skipped`: a bit for each filter that was not applied to it.
    """

    place: tuple[int, ...]
    offset: int
    size: int
    skipped: int


@dataclass(frozen=True)
class FilteredData:
    """An array in chunks.

    - `sides`: the sides of a chunk, in elements.
    - `chunks`: the chunks.
    - `filters`: the codes of the filters, in the order in which they were applied.
    """

    sides: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    filters: tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """An array of a region, not yet read.

    - `region`: where it lies.
    - `subject`: file and array in words, for messages.
    - `shape`, `dtype`: its shape and its type in the file.
    - `data`: its offset, its chunks, or, where it lay in the header, its bytes.
    - `brain`: whether it is bfloat16, which NumPy has no name for. It is given as float32.
    """

    region: Region
    subject: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: int | FilteredData | bytes
    brain: bool = False

    @property
    def native(self) -> np.dtype[Any]:
        """The type of what `__call__` gives."""
        if self.brain:
            return np.dtype(np.float32)
        return self.dtype.newbyteorder("=")

    def __call__(self) -> np.ndarray:
        """Read the array, native byte order. Raises ModelFileError."""
        values = self._stored_values()
        if self.brain:
            bits = values.astype(np.uint32) << 16
            return bits.view(np.float32)
        if self.dtype.kind == "b":  # an HDF5 enumeration, of which any byte may be stored
            return values != 0
        if not values.dtype.isnative:
            swapped = values.byteswap(inplace=True)
            return swapped.view(self.native)
        return values

    @property
    def _plain(self) -> np.dtype[Any]:
        """The type in which the items are read."""
        if self.brain:
            return np.dtype("<u2")
        if self.dtype.kind == "b":
            return np.dtype(np.uint8)
        return self.dtype

    def _stored_values(self) -> np.ndarray:
        """The values as they lie in the file."""
        if isinstance(self.data, FilteredData):
            return self._unpacked(self.data)
        if isinstance(self.data, bytes):
            writable = bytearray(self.data)
            return np.frombuffer(writable, self._plain).reshape(self.shape)
        values = np.empty(self.shape, self._plain)
        if values.size:
            flat = values.reshape(-1).view(np.uint8)
            self.region.fill(self.data, flat.data)
        return values

    def _unpacked(self, packed: FilteredData) -> np.ndarray:
        """The values of an array in chunks. Chunks at its end are larger than what is left of it."""
        values = np.empty(self.shape, self._plain)
        for chunk in packed.chunks:
            raw = bytearray(chunk.size)
            self.region.fill(chunk.offset, memoryview(raw))
            whole = self._unfiltered(raw, packed, chunk.skipped)
            piece = np.frombuffer(whole, self._plain).reshape(packed.sides)
            inside: list[slice] = []
            used: list[slice] = []
            for start, side, length in zip(chunk.place, packed.sides, self.shape, strict=True):
                end = min(start + side, length)
                inside.append(slice(start, end))
                used.append(slice(0, end - start))
            values[tuple(inside)] = piece[tuple(used)]
        return values

    def _unfiltered(self, raw: bytes | bytearray, packed: FilteredData, skipped: int) -> bytes | bytearray:
        """A chunk without its filters, the last one undone first. Raises ModelFileError."""
        size = math.prod(packed.sides) * self.dtype.itemsize
        for number in reversed(range(len(packed.filters))):
            if skipped >> number & 1:
                continue
            undo = _UNDO[packed.filters[number]]
            raw = undo(self, raw, size)
        if len(raw) != size:
            self._refuse(f"a chunk unpacks to {len(raw)} bytes instead of {size}")
        return raw

    def _inflated(self, raw: bytes | bytearray, size: int) -> bytes:
        """A chunk of `size` bytes without its compression."""
        limit = size + _CHECKSUM_SIZE  # where a checksum was packed, too
        unpacker = zlib.decompressobj()
        try:
            unpacked = unpacker.decompress(raw, limit + 1)
        except zlib.error as error:
            self._refuse(f"a chunk is damaged ({error})")
        if len(unpacked) > limit or not unpacker.eof:
            self._refuse(f"a chunk unpacks to more than its {size} bytes or is cut short")
        return unpacked

    def _unshuffled(self, raw: bytes | bytearray, _size: int) -> bytes | bytearray:
        """A chunk whose first bytes of all items lay together, then all second bytes, and so on."""
        itemsize = self.dtype.itemsize
        whole = len(raw) - len(raw) % itemsize
        planes = np.frombuffer(raw, np.uint8, whole).reshape(itemsize, -1)
        items = planes.T.tobytes()
        rest = bytes(raw[whole:])
        return items + rest

    def _verified(self, raw: bytes | bytearray, _size: int) -> bytes | bytearray:
        """A chunk without the checksum at its end."""
        data = raw[:-_CHECKSUM_SIZE]
        stored = int.from_bytes(raw[-_CHECKSUM_SIZE:], "little")
        if len(raw) < _CHECKSUM_SIZE or not _are_same_sums(fletcher32(data), stored):
            self._refuse("the checksum of a chunk does not match its data")
        return data

    def _refuse(self, reason: str) -> NoReturn:
        """Raise ModelFileError for a damaged chunk."""
        raise ModelFileError(f"{self.subject}: {reason}; copy it again")


_Undo = Callable[[Stored, "bytes | bytearray", int], "bytes | bytearray"]
_UNDO: dict[int, _Undo] = {
    DEFLATE: Stored._inflated,
    SHUFFLE: Stored._unshuffled,
    FLETCHER32: Stored._verified,
}


def fletcher32(data: bytes | bytearray) -> int:
    """Fletcher's checksum over big-endian 16-bit words, as HDF5 computes it, each half modulo 65535."""
    padding = b"\0" * (len(data) % 2)
    words = np.frombuffer(bytes(data) + padding, ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % 65535
    low = int(words.sum() % 65535)
    high = int((weights * words % 65535).sum() % 65535)
    return high << 16 | low


def _are_same_sums(computed: int, stored: int) -> bool:
    """Whether two checksums are equal. HDF5 keeps 65535 where the remainder of a half is 0."""
    for shift in (0, 16):
        computed_half = (computed >> shift & 0xFFFF) % 65535
        stored_half = (stored >> shift & 0xFFFF) % 65535
        if computed_half != stored_half:
            return False
    return True
