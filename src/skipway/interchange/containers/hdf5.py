"""HDF5 as far as weight files need it, and no further than they are to be trusted.

The HDF5 library reads the structure only: groups, and where the bytes of each array lie. The bytes themselves and the
attributes are read and unpacked here, after every size was held against the size of the file. Nothing outside the file
is opened: external and soft links, external storage and virtual datasets are refused.

Why an own reader of bytes and attributes: the library takes the memory that a damaged file claims, runs any filter that
is installed, follows links to other files, and does not return from some damaged heaps of texts.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from skipway.errors import ModelFileError
from skipway.files import read_error
from skipway.interchange.containers.hdf5_data import (
    DEFLATE,
    FLETCHER32,
    SHUFFLE,
    Chunk,
    Packed,
    Region,
    RegionFile,
    Stored,
)
from skipway.interchange.containers.hdf5_texts import Texts
from skipway.interchange.source import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_GROWTH = 8  # times the file's size that all arrays together may unpack to; trained weights hardly compress
_SLACK = 64 << 20
_SIGNATURE_OFFSETS = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)
# What the library raises on damaged files; a defect of this package must not hide among them.
_LIBRARY_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, OverflowError, MemoryError, SystemError)


def has_signature(head: bytes, path: Path) -> bool:
    """Whether an HDF5 file begins here, at once or after a user block."""
    if head.startswith(SIGNATURE):
        return True
    try:
        with path.open("rb") as opened:
            for offset in _SIGNATURE_OFFSETS[1:]:
                opened.seek(offset)
                if opened.read(len(SIGNATURE)) == SIGNATURE:
                    return True
    except (OSError, ValueError):
        pass
    return False


_OF_THE_SYSTEM = {errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE}


def _raise_cause(path: Path, error: Exception) -> None:
    """Raises ModelFileError where the system, not the file, is the cause; the library has errors for both alike."""
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        raise ModelFileError(str(read_error(path, error))) from None


@dataclass
class Tree:
    """An open HDF5 file. `shown` is the path that messages name; the methods raise ModelFileError."""

    root: Any
    region: Region
    shown: Path
    attributes: Texts
    _attributes: dict[int, dict[str, list[bytes] | None]] = field(default_factory=dict)
    _declared: int = 0
    _addresses: set[int] = field(default_factory=set)

    def fail(self, told: str, fix: str = "copy or save it again") -> NoReturn:
        raise ModelFileError(f"{self.shown}: {told}; {fix}")

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Errors of the HDF5 library as ModelFileError."""
        try:
            yield
        except _LIBRARY_ERRORS as error:
            _raise_cause(self.shown, error)
            reason = " ".join(str(error).split())[:200]
            self.fail(f"{what} is damaged ({type(error).__name__}: {reason})")

    def names(self, group: Any) -> list[str]:
        """Names of a group's members in the order of the file."""
        with self.guarded(f"the group {group.name}"):
            names = [name for name in group if isinstance(name, str)]
        for name in names:
            self._check_text(name, "a group")
        return names

    def has(self, group: Any, name: str) -> bool:
        """Whether a group has a member of that name, one of another kind included."""
        with self.guarded("a group"):
            return bool(group.id.links.exists(name.encode()))

    def member(self, group: Any, name: str) -> Any:
        """The group or dataset at a path of hard links below a group."""
        for part in name.split("/"):
            if not isinstance(group, h5py.Group):
                self.fail(f"{name!r} leads through something that is no group")
            with self.guarded(f"the member {name!r}"):
                if part in {"", ".", ".."} or "\0" in part or not group.id.links.exists(part.encode()):
                    self.fail(f"{name!r} is named but not there")
                if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
                    self.fail(f"{name!r} is a link that may lead elsewhere", "replace it by the data themselves")
                group = group[part]
        if not isinstance(group, h5py.Group | h5py.Dataset):
            self.fail(f"{name!r} is neither a group nor an array")
        return group

    def group(self, group: Any, name: str) -> Any:
        found = self.member(group, name)
        if not isinstance(found, h5py.Group):
            self.fail(f"{name!r} is no group")
        return found

    def address(self, entry: Any) -> int:
        """Where an entry lies, equal for two names of the same entry."""
        with self.guarded("an entry"):
            return int(h5py.h5o.get_info(entry.id).addr)

    def has_attribute(self, owner: Any, key: str) -> bool:
        """Whether an object has an attribute of that name, text or not."""
        return key in self._attributes_of(owner)

    def text(self, owner: Any, key: str) -> str | None:
        """A text attribute, or None where there is none."""
        texts = self._texts(owner, key)
        return None if texts is None else "".join(texts[:1])

    def texts(self, owner: Any, key: str) -> list[str] | None:
        """A list of texts, also one split into `key0`, `key1`, ... for its length. None where there is none."""
        whole = self._texts(owner, key)
        if whole is not None:
            return whole
        parts: list[str] | None = None
        number = 0
        while (part := self._texts(owner, f"{key}{number}")) is not None:
            parts = [*(parts or []), *part]
            number += 1
        return parts

    def _texts(self, owner: Any, key: str) -> list[str] | None:
        found = self._attributes_of(owner)
        if key not in found:
            return None
        values = found[key]
        if values is None:
            self.fail(f"the attribute {key!r} is no text")
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError:
            self.fail(f"the attribute {key!r} is no UTF-8 text")

    def _attributes_of(self, owner: Any) -> dict[str, list[bytes] | None]:
        address = self.address(owner)
        if address not in self._attributes:
            try:
                self._attributes[address] = self.attributes.attributes(address)
            except ValueError as error:
                self.fail(f"the attributes of {owner.name!r} cannot be read ({error})")
        return self._attributes[address]

    def _check_text(self, text: str, where: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{where} holds text that is not UTF-8")

    def array(self, dataset: Any, name: str) -> Array:
        """A dataset as an array called `name`, checked against the size of the file and not yet read."""
        if not isinstance(dataset, h5py.Dataset):
            self.fail(f"{name!r} is no array")
        address = self.address(dataset)
        if address in self._addresses:
            self.fail(f"{name!r} is an array that has another name already")
        self._addresses.add(address)
        with self.guarded(f"the array {name!r}"):
            return self._array(dataset, name)

    def _array(self, dataset: Any, name: str) -> Array:
        shape, dtype = dataset.shape, dataset.dtype
        if shape is None or not h5py.h5t.py_create(dtype).equal(dataset.id.get_type()):
            self.fail(f"{name!r} is stored in a number format that is not supported", "save it as float32")
        brain = dtype == np.dtype("V2") and self.text(dataset, "dtype") == "bfloat16"
        if not brain and (dtype.kind not in "fiub" or dtype.itemsize > 8 or dtype.hasobject):
            self.fail(f"{name!r} holds {dtype}, not numbers", "save it as float32")
        size = math.prod(shape) * dtype.itemsize
        self._declared += size
        if self._declared > _GROWTH * self.region.size + _SLACK:
            self.fail(f"its arrays declare {self._declared} bytes or more in a file of {self.region.size}")
        plist = dataset.id.get_create_plist()
        if dataset.external or plist.get_layout() == h5py.h5d.VIRTUAL:
            self.fail(f"{name!r} keeps its data in another file", "save the weights as one file")
        data: int | Packed | bytes
        if plist.get_layout() == h5py.h5d.CHUNKED:
            data = self._packed(dataset, name, plist)
        elif plist.get_layout() == h5py.h5d.COMPACT:  # at most 64 KiB that lie within the header
            if size > min(1 << 16, self.region.size):
                self.fail(f"{name!r} declares {size} bytes within the header")
            data = np.asarray(dataset[()]).tobytes()
        else:
            data = self._offset(dataset, name, size)
        shape = tuple(int(side) for side in shape)
        stored = Stored(self.region, f"{self.shown}: {name!r}", shape, dtype, data, brain=brain)
        return Array(name, shape, stored.native, stored)

    def _offset(self, dataset: Any, name: str, size: int) -> int:
        offset, stored = dataset.id.get_offset(), dataset.id.get_storage_size()
        if size == 0:
            return 0
        if stored != size or offset is None or not 0 < offset <= self.region.size - size:
            self.fail(f"{name!r} declares {size} bytes, but the file does not hold them")
        return int(offset)

    def _packed(self, dataset: Any, name: str, plist: Any) -> Packed:
        sides = tuple(plist.get_chunk())
        grid = [range(0, length, side) for length, side in zip(dataset.shape, sides, strict=True)]
        expected = math.prod(map(len, grid))
        if math.prod(sides) * dataset.dtype.itemsize > _GROWTH * self.region.size + _SLACK:
            self.fail(f"{name!r} declares chunks larger than the whole file")
        if expected > self.region.size or dataset.id.get_num_chunks() != expected:
            self.fail(f"{name!r} declares {expected} chunks, but the file does not hold them")
        codes = tuple(plist.get_filter(number)[0] for number in range(plist.get_nfilters()))
        if not set(codes) <= {DEFLATE, SHUFFLE, FLETCHER32} or len(set(codes)) != len(codes):
            self.fail(f"{name!r} is packed with filters {codes}", "save it without compression or with gzip")
        found: list[Chunk] = []

        def note(info: Any) -> None:
            found.append(Chunk(tuple(info.chunk_offset), int(info.byte_offset or 0), int(info.size), info.filter_mask))

        if expected:
            dataset.id.chunk_iter(note)
        within = all(
            0 < chunk.offset <= self.region.size - chunk.size
            and all(at in steps for at, steps in zip(chunk.place, grid, strict=True))
            for chunk in found
        )
        if not within or len(found) != expected or len({chunk.place for chunk in found}) != expected:
            self.fail(f"{name!r} has chunks that lie outside of it or of the file")
        return Packed(sides, tuple(found), codes)


@contextmanager
def opened_tree(region: Region, shown: Path) -> Iterator[Tree]:
    """The HDF5 file in a region. Raises ModelFileError."""
    whole = region.start == 0 and region.size == region.path.stat().st_size
    try:
        file = h5py.File(region.path if whole else RegionFile(region), "r", locking=False)
    except _LIBRARY_ERRORS as error:
        _raise_cause(shown, error)
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{shown} is damaged or cut short ({reason}); copy or download it again") from None
    with file:
        plist = file.id.get_create_plist()
        yield Tree(file, region, shown, Texts(region, plist.get_userblock(), plist.get_sizes()))
