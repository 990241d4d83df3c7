"""Zip archives whose members are weights: listed and loaded, never unpacked to disk.

Every size that the archive declares is checked against its bytes before memory is taken, and every member against its
CRC-32 when it is loaded.
"""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
import zlib
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import ALLOWANCE, MAX_RATIO, damaged, unread

SIGNATURE = b"PK\x03\x04"
MAX_MEMBERS = 100_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_PIECE = 1 << 20  # bytes that are read at once
# What zipfile raises on archives that it cannot list, or members that it cannot unpack.
_LIST_ERRORS = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError, struct.error)
_UNPACK_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


class ZipMember:
    """One file of an archive. Parts of a stored member can be read alone; a compressed one is read from its start."""

    def __init__(self, path: Path, info: zipfile.ZipInfo, start: int | None) -> None:
        self.path = path
        self.name = info.filename
        self.size = info.file_size
        self._info = info
        self._start = start
        # torch.save can leave the checksums out; it then writes 0.
        self._checked = info.CRC == 0

    @property
    def start(self) -> int | None:
        """Where its bytes begin in the archive; None for a compressed member."""
        return self._start

    def load(self, start: int, count: int) -> np.ndarray:
        """`count` bytes from `start` on. Raises ModelFileError where the member is damaged."""
        if self._start is None:
            return self._unpacked(start, count)
        self._check(self._start)
        loaded = np.fromfile(self.path, np.uint8, count, offset=self._start + start)
        if len(loaded) != count:
            raise damaged(self.path, "became shorter while it was read", "let whatever writes it finish first")
        return loaded

    def content(self) -> bytes:
        """All bytes of the member. Raises ModelFileError where it is damaged."""
        loaded = self.load(0, self.size)
        return loaded.tobytes()

    def _check(self, begin: int) -> None:
        """Compare the checksum of a stored member, whose bytes begin at `begin`, once. Raises ModelFileError."""
        if self._checked or not self.size:
            return
        end = begin + self.size
        checksum = 0
        with self.path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
            for start in range(begin, end, _PIECE):
                piece = data[start : min(start + _PIECE, end)]
                checksum = zlib.crc32(piece, checksum)
        if checksum != self._info.CRC:
            raise self._wrong("its bytes are not those that were written")
        self._checked = True

    def _unpacked(self, start: int, count: int) -> np.ndarray:
        """`count` bytes of a compressed member from `start` on. Raises ModelFileError."""
        loaded = np.empty(count, np.uint8)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._info) as opened:
                opened.seek(start)
                filled = _fill(loaded, opened)
                at_end = start + count == self.size
                if at_end and opened.read(1):  # reading on makes the library compare the checksum
                    raise self._wrong("it is longer than it says")
        except _UNPACK_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unread(self.path, error) from None
            raise self._wrong(str(error)) from None
        if filled != count:
            raise self._wrong("it is shorter than it says")
        return loaded

    def _wrong(self, why: str) -> ModelFileError:
        """The error for a damaged member."""
        reason = why[:200]
        return damaged(self.path, f"is damaged at its member {self.name!r} ({reason})")


def _fill(into: np.ndarray, opened: IO[bytes]) -> int:
    """Read bytes into an array until it is full or there are no more. Returns how many were read."""
    filled = 0
    while filled < into.size:
        wanted = min(_PIECE, into.size - filled)
        piece = opened.read(wanted)
        if not piece:
            break
        end = filled + len(piece)
        into[filled:end] = np.frombuffer(piece, np.uint8)
        filled = end
    return filled


def members(path: Path) -> dict[str, ZipMember]:
    """The files of the archive by name. Raises ModelFileError for an archive that is damaged or made to do harm."""
    try:
        size = path.stat().st_size
        found = _listed(path, size)
    except _LIST_ERRORS as error:
        # To seek before the start of the file is damage, not an error of the system.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise unread(path, error) from None
        reason = str(error)[:200]
        raise damaged(path, f"is a damaged or incomplete archive ({reason})") from None
    by_name = {member.name: member for member, _ in found}
    if len(by_name) != len(found) or len(found) > MAX_MEMBERS:
        raise damaged(path, "holds members of one name, or too many", "get it from its author")
    total = 0
    for member, info in found:
        _check_harmless(path, info)
        total += member.size
    if total > MAX_RATIO * size + ALLOWANCE:
        raise damaged(path, f"would unpack to {total} bytes, far more than it holds", "get it from its author")
    return by_name


def _listed(path: Path, size: int) -> list[tuple[ZipMember, zipfile.ZipInfo]]:
    """The files of an archive of `size` bytes, without its folders."""
    found = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as opened:
        for info in archive.infolist():
            if info.filename.endswith("/"):
                continue
            start = _start(info, opened, size)
            member = ZipMember(path, info, start)
            found.append((member, info))
    return found


def _check_harmless(path: Path, info: zipfile.ZipInfo) -> None:
    """Raises ModelFileError for a member that is unsafe to unpack, encrypted, or compressed in an unusual way."""
    name = info.filename
    shown = repr(name[:100])
    absolute = name.startswith("/") or "\\" in name or ":" in name
    if absolute or ".." in PurePosixPath(name).parts:
        raise damaged(path, f"holds a member that points out of it ({shown})", "do not unpack it")
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise damaged(path, f"holds a symbolic link ({shown})", "do not unpack it")
    if info.flag_bits & _ENCRYPTED:
        raise damaged(path, "is encrypted", "unpack it and pack it again without a password")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise damaged(path, "is compressed in an unusual way", "pack it again with deflate")


def _start(info: zipfile.ZipInfo, opened: BinaryIO, size: int) -> int | None:
    """Where the bytes of a stored member begin. None for a compressed one.

    Raises ValueError where the archive of `size` bytes does not hold the member.
    """
    opened.seek(info.header_offset)
    header = opened.read(_LOCAL_HEADER.size)
    signature, name_size, extra_size = _LOCAL_HEADER.unpack(header)
    start: int = info.header_offset + _LOCAL_HEADER.size + name_size + extra_size
    shown = repr(info.filename[:100])
    inside = info.header_offset >= 0 and start + info.compress_size <= size
    if signature != SIGNATURE or not inside:
        raise ValueError(f"no member {shown} where the list of members says")
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    if info.file_size != info.compress_size:
        raise ValueError(f"two sizes of {shown}")
    return start
