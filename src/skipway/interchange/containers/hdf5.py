"""The part of HDF5 that weight files need, read without trust in the file.

The HDF5 library reads the structure only: groups, and where the bytes of each array lie. The bytes themselves and the
attributes are read and unpacked here, after every size was compared with the size of the file. Nothing outside the file
is opened: external and soft links, external storage and virtual datasets are refused.

Why an own reader of bytes and attributes: the library takes the memory that a damaged file claims, runs any filter that
is installed, follows links to other files, and does not return from some damaged heaps of texts.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from skipway.errors import ModelFileError
from skipway.files import read_error
from skipway.interchange.containers.hdf5_data import Region, RegionFile
from skipway.interchange.containers.hdf5_layout import Layouts
from skipway.interchange.containers.hdf5_texts import Texts
from skipway.interchange.source import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIGNATURE_OFFSETS = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768)
# What the library raises on damaged files; a defect of this package must not hide among them.
_LIBRARY_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, OverflowError, MemoryError, SystemError)
# Of these errors the system is the cause, not the file.
_SYSTEM_ERRORS = {errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE}


def has_signature(head: bytes, path: Path) -> bool:
    """Whether an HDF5 file begins here, at once or after a user block. `head` is its first bytes."""
    if head.startswith(SIGNATURE):
        return True
    try:
        with path.open("rb") as opened:
            for offset in _SIGNATURE_OFFSETS[1:]:
                opened.seek(offset)
                found = opened.read(len(SIGNATURE))
                if found == SIGNATURE:
                    return True
    except (OSError, ValueError):
        return False
    return False


def _raise_cause(path: Path, error: Exception) -> None:
    """Raises ModelFileError where the system, not the file, is the cause; the library has errors for both alike."""
    if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS:
        message = str(read_error(path, error))
        raise ModelFileError(message) from None


def _reason(error: Exception) -> str:
    """The message of an error in one line of at most 200 characters."""
    words = str(error).split()
    return " ".join(words)[:200]


class Tree:
    """An open HDF5 file: its groups, its arrays and its text attributes. The methods raise ModelFileError."""

    def __init__(self, root: Any, region: Region, shown: Path, attributes: Texts) -> None:
        """`root` is the file of the HDF5 library, `region` where it lies, `shown` the path that messages name."""
        self.root = root
        self.shown = shown
        self._texts_reader = attributes
        self._layouts = Layouts(region, str(shown), self.fail)
        self._attributes: dict[int, dict[str, list[bytes] | None]] = {}  # by the address of their object
        self._addresses: set[int] = set()  # of the arrays so far

    def fail(self, reason: str, fix: str = "copy or save it again") -> NoReturn:
        """Raise ModelFileError: `reason` says what is wrong with the file, `fix` what the user can do."""
        raise ModelFileError(f"{self.shown}: {reason}; {fix}")

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Turn errors of the HDF5 library into ModelFileError. `what` is the part of the file that is read."""
        try:
            yield
        except _LIBRARY_ERRORS as error:
            _raise_cause(self.shown, error)
            kind = type(error).__name__
            self.fail(f"{what} is damaged ({kind}: {_reason(error)})")

    def names(self, group: Any) -> list[str]:
        """Names of a group's members in the order of the file."""
        with self.guarded(f"the group {group.name}"):
            names = [name for name in group if isinstance(name, str)]
        for name in names:
            self._check_text(name)
        return names

    def has(self, group: Any, name: str) -> bool:
        """Whether a group has a member of that name, whatever its kind."""
        with self.guarded("a group"):
            return bool(group.id.links.exists(name.encode()))

    def member(self, group: Any, name: str) -> Any:
        """The group or dataset at a path of hard links below a group."""
        found = group
        for part in name.split("/"):
            if not isinstance(found, h5py.Group):
                self.fail(f"{name!r} leads through something that is no group")
            with self.guarded(f"the member {name!r}"):
                found = self._linked(found, part, name)
        if not isinstance(found, h5py.Group | h5py.Dataset):
            self.fail(f"{name!r} is neither a group nor an array")
        return found

    def _linked(self, group: Any, part: str, name: str) -> Any:
        """The member `part` of a group, where it is there and lies in the group itself. `name` is the whole path."""
        links = group.id.links
        impossible = part in {"", ".", ".."} or "\0" in part
        if impossible or not links.exists(part.encode()):
            self.fail(f"{name!r} is named but not there")
        kind = links.get_info(part.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            self.fail(f"{name!r} is a link that may lead elsewhere", "replace it by the data themselves")
        return group[part]

    def group(self, group: Any, name: str) -> Any:
        """The group at a path of hard links below a group."""
        found = self.member(group, name)
        if not isinstance(found, h5py.Group):
            self.fail(f"{name!r} is no group")
        return found

    def address(self, entry: Any) -> int:
        """Where an entry lies, equal for two names of the same entry."""
        with self.guarded("an entry"):
            info = h5py.h5o.get_info(entry.id)
            return int(info.addr)

    def has_attribute(self, owner: Any, key: str) -> bool:
        """Whether an object has an attribute of that name, text or not."""
        return key in self._attributes_of(owner)

    def text(self, owner: Any, key: str) -> str | None:
        """A text attribute, or None where there is none."""
        texts = self._texts(owner, key)
        if texts is None:
            return None
        if not texts:
            return ""
        return texts[0]

    def texts(self, owner: Any, key: str) -> list[str] | None:
        """A list of texts, also one split into `key0`, `key1`, ... for its length. None where there is none."""
        whole = self._texts(owner, key)
        if whole is not None:
            return whole
        number = 0
        part = self._texts(owner, f"{key}{number}")
        if part is None:
            return None
        texts: list[str] = []
        while part is not None:
            texts.extend(part)
            number += 1
            part = self._texts(owner, f"{key}{number}")
        return texts

    def _texts(self, owner: Any, key: str) -> list[str] | None:
        """The texts of one attribute, or None where there is none of that name."""
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
        """All attributes of an object: their texts, or None where they are no texts."""
        address = self.address(owner)
        if address not in self._attributes:
            try:
                self._attributes[address] = self._texts_reader.attributes(address)
            except ValueError as error:
                self.fail(f"the attributes of {owner.name!r} cannot be read ({error})")
        return self._attributes[address]

    def _check_text(self, name: str) -> None:
        """Refuse a name that cannot be written as UTF-8."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self.fail("a group holds text that is not UTF-8")

    def array(self, dataset: Any, name: str) -> Array:
        """A dataset as an array called `name`, checked against the size of the file and not yet read."""
        if not isinstance(dataset, h5py.Dataset):
            self.fail(f"{name!r} is no array")
        address = self.address(dataset)
        if address in self._addresses:
            self.fail(f"{name!r} is an array that has another name already")
        self._addresses.add(address)
        with self.guarded(f"the array {name!r}"):
            brain = self._is_brain(dataset, name)
            stored = self._layouts.stored(dataset, name, brain=brain)
        return Array(name, stored.shape, stored.native, stored)

    def _is_brain(self, dataset: Any, name: str) -> bool:
        """Whether the items of a dataset are of the type bfloat16. Refuses items that are no numbers."""
        dtype = dataset.dtype
        supported = dataset.shape is not None and h5py.h5t.py_create(dtype).equal(dataset.id.get_type())
        if not supported:
            self.fail(f"{name!r} is stored in a number format that is not supported", "save it as float32")
        if dtype == np.dtype("V2") and self.text(dataset, "dtype") == "bfloat16":
            return True
        number = dtype.kind in "fiub" and not dtype.hasobject
        if not number or dtype.itemsize > 8:
            self.fail(f"{name!r} holds {dtype}, not numbers", "save it as float32")
        return False


@contextmanager
def opened_tree(region: Region, shown: Path) -> Iterator[Tree]:
    """The HDF5 file in a region. `shown` is the path that messages name. Raises ModelFileError."""
    file_size = region.path.stat().st_size
    whole = (region.start, region.size) == (0, file_size)
    source = region.path if whole else RegionFile(region)
    try:
        file = h5py.File(source, "r", locking=False)
    except _LIBRARY_ERRORS as error:
        _raise_cause(shown, error)
        raise ModelFileError(f"{shown} is damaged or cut short ({_reason(error)}); copy or download it again") from None
    with file:
        plist = file.id.get_create_plist()
        texts = Texts(region, plist.get_userblock(), plist.get_sizes())
        yield Tree(file, region, shown, texts)
