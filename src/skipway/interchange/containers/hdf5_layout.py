"""Where the arrays of an HDF5 file lie, asked of the HDF5 library and checked against the size of the file.

Nothing outside the file is read: external storage and virtual datasets are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import h5py
import numpy as np

from skipway.interchange.containers.hdf5_data import DEFLATE, FLETCHER32, SHUFFLE, Chunk, FilteredData, Region, Stored

_GROWTH = 8  # times the file's size that all arrays together may unpack to; trained weights hardly compress
_SLACK = 64 << 20  # bytes that they may unpack to in addition
_FILTERS = {DEFLATE, SHUFFLE, FLETCHER32}
_COMPACT_LIMIT = 1 << 16  # bytes of an array that lies within an object's header

Fail = Callable[..., NoReturn]


class Layouts:
    """Finds the arrays of one file. `fail(reason, fix)` raises the error for a file that is refused."""

    def __init__(self, region: Region, subject: str, fail: Fail) -> None:
        """`region` is where the file lies, `subject` what messages call it."""
        self._region = region
        self._subject = subject
        self._fail = fail
        self._allowed = _GROWTH * region.size + _SLACK
        self._declared = 0

    def stored(self, dataset: Any, name: str, *, brain: bool) -> Stored:
        """The array in a dataset, not yet read. `brain` says whether its items are of the type bfloat16."""
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        self._declared += size
        if self._declared > self._allowed:
            self._fail(f"its arrays declare {self._declared} bytes or more in a file of {self._region.size}")
        data = self._data(dataset, name, size)
        shape = tuple(int(side) for side in dataset.shape)
        subject = f"{self._subject}: {name!r}"
        return Stored(self._region, subject, shape, dataset.dtype, data, brain=brain)

    def _data(self, dataset: Any, name: str, size: int) -> int | FilteredData | bytes:
        """The place, the chunks or the bytes of an array of `size` bytes."""
        plist = dataset.id.get_create_plist()
        layout = plist.get_layout()
        if dataset.external or layout == h5py.h5d.VIRTUAL:
            self._fail(f"{name!r} keeps its data in another file", "save the weights as one file")
        if layout == h5py.h5d.CHUNKED:
            return self._packed(dataset, name, plist)
        if layout == h5py.h5d.COMPACT:
            return self._compact(dataset, name, size)
        return self._offset(dataset, name, size)

    def _compact(self, dataset: Any, name: str, size: int) -> bytes:
        """The bytes of an array that lies within the header of its dataset."""
        limit = min(_COMPACT_LIMIT, self._region.size)
        if size > limit:
            self._fail(f"{name!r} declares {size} bytes within the header")
        values = np.asarray(dataset[()])
        return values.tobytes()

    def _offset(self, dataset: Any, name: str, size: int) -> int:
        """Where an array lies that is stored in one piece."""
        if size == 0:
            return 0
        offset = dataset.id.get_offset()
        stored = dataset.id.get_storage_size()
        last = self._region.size - size
        missing = stored != size or offset is None
        if missing or not 0 < offset <= last:
            self._fail(f"{name!r} declares {size} bytes, but the file does not hold them")
        return int(offset)

    def _packed(self, dataset: Any, name: str, plist: Any) -> FilteredData:
        """The chunks of an array and their filters. `plist` is how the library keeps its layout."""
        sides = tuple(plist.get_chunk())
        chunk_size = math.prod(sides) * dataset.dtype.itemsize
        if chunk_size > self._allowed:
            self._fail(f"{name!r} declares chunks larger than the whole file")
        grid = [range(0, length, side) for length, side in zip(dataset.shape, sides, strict=True)]
        expected = math.prod(len(steps) for steps in grid)
        if expected > self._region.size or dataset.id.get_num_chunks() != expected:
            self._fail(f"{name!r} declares {expected} chunks, but the file does not hold them")
        filters = self._filters(name, plist)
        chunks = _chunks(dataset) if expected else []
        places = {chunk.place for chunk in chunks if self._is_within(chunk, grid)}
        if len(chunks) != expected or len(places) != expected:
            self._fail(f"{name!r} has chunks that lie outside of it or of the file")
        return FilteredData(sides, tuple(chunks), filters)

    def _filters(self, name: str, plist: Any) -> tuple[int, ...]:
        """The codes of an array's filters, each of which may be applied once."""
        count = plist.get_nfilters()
        codes = tuple(plist.get_filter(number)[0] for number in range(count))
        distinct = set(codes)
        if not distinct <= _FILTERS or len(distinct) != len(codes):
            self._fail(f"{name!r} is packed with filters {codes}", "save it without compression or with gzip")
        return codes

    def _is_within(self, chunk: Chunk, grid: list[range]) -> bool:
        """Whether a chunk lies within the file, and at a place of its array where a chunk may begin."""
        last = self._region.size - chunk.size
        if not 0 < chunk.offset <= last:
            return False
        return all(start in steps for start, steps in zip(chunk.place, grid, strict=True))


def _chunks(dataset: Any) -> list[Chunk]:
    """The chunks of a dataset, in the order of the library."""
    found: list[Chunk] = []

    def note(info: Any) -> None:
        place = tuple(info.chunk_offset)
        offset = int(info.byte_offset or 0)
        found.append(Chunk(place, offset, int(info.size), info.filter_mask))

    dataset.id.chunk_iter(note)
    return found
