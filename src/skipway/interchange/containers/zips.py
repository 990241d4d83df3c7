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
from typing import BinaryIO

import numpy as np

from skipway.interchange.containers.blobs import ALLOWANCE, MAX_RATIO, damaged, unread

SIGNATURE = b"PK\x03\x04"
MAX_MEMBERS = 100_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_PIECE = 1 << 20


class Member:
    """One file of an archive. One that is stored as it is can be read in parts; a compressed one up to its end."""

    def __init__(self, path: Path, info: zipfile.ZipInfo, start: int | None) -> None:
        self.path = path
        self.name = info.filename
        self.size = info.file_size
        self._info = info
        self._start = start
        # torch.save can be told to leave the checksums out; it then writes 0.
        self._checked = info.CRC == 0

    @property
    def start(self) -> int | None:
        """Where its bytes begin in the archive; None for a compressed member."""
        return self._start

    def load(self, start: int, count: int) -> np.ndarray:
        """`count` bytes from `start` on. Raises ModelFileError where the member is damaged."""
        if self._start is None:
            return self._unpacked(start, count)
        self._check()
        loaded = np.fromfile(self.path, np.uint8, count, offset=self._start + start)
        if len(loaded) != count:
            raise damaged(self.path, "became shorter while it was read", "let whatever writes it finish first")
        return loaded

    def content(self) -> bytes:
        """All of it."""
        return self.load(0, self.size).tobytes()

    def _check(self) -> None:
        if self._checked or self._start is None or not self.size:
            return
        checksum = 0
        with self.path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
            for start in range(self._start, self._start + self.size, _PIECE):
                checksum = zlib.crc32(data[start : min(start + _PIECE, self._start + self.size)], checksum)
        if checksum != self._info.CRC:
            raise self._wrong("its bytes are not those that were written")
        self._checked = True

    def _unpacked(self, start: int, count: int) -> np.ndarray:
        loaded = np.empty(count, np.uint8)
        filled = 0
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._info) as opened:
                opened.seek(start)
                while filled < count and (piece := opened.read(min(_PIECE, count - filled))):
                    loaded[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                    filled += len(piece)
                if start + count == self.size and opened.read(1):  # the checksum is compared at the end
                    raise self._wrong("it is longer than it says")
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise unread(self.path, error) from None
            raise self._wrong(str(error)) from None
        if filled != count:
            raise self._wrong("it is shorter than it says")
        return loaded

    def _wrong(self, why: str) -> Exception:
        return damaged(self.path, f"is damaged at its member {self.name!r} ({why[:200]})")


def members(path: Path) -> dict[str, Member]:
    """The files of the archive by name. Raises ModelFileError for an archive that is damaged or made to do harm."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive, path.open("rb") as opened:
            listed = [info for info in archive.infolist() if not info.filename.endswith("/")]
            found = {info.filename: Member(path, info, _start(info, opened, size)) for info in listed}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError, struct.error) as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:  # to seek before the start is damage
            raise unread(path, error) from None
        raise damaged(path, f"is a damaged or incomplete archive ({str(error)[:200]})") from None
    if len(found) != len(listed) or len(listed) > MAX_MEMBERS:
        raise damaged(path, "holds members of one name, or too many", "get it from its author")
    for info in listed:
        _check_harmless(path, info)
    total = sum(info.file_size for info in listed)
    if total > MAX_RATIO * size + ALLOWANCE:
        raise damaged(path, f"would unpack to {total} bytes, far more than it holds", "get it from its author")
    return found


def _check_harmless(path: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename
    if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
        raise damaged(path, f"holds a member that points out of it ({name[:100]!r})", "do not unpack it")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise damaged(path, f"holds a symbolic link ({name[:100]!r})", "do not unpack it")
    if info.flag_bits & _ENCRYPTED:
        raise damaged(path, "is encrypted", "unpack it and pack it again without a password")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise damaged(path, "is compressed in an unusual way", "pack it again with deflate")


def _start(info: zipfile.ZipInfo, opened: BinaryIO, size: int) -> int | None:
    """Where the bytes of a stored member begin. None for a compressed one."""
    opened.seek(info.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(opened.read(_LOCAL_HEADER.size))
    start: int = info.header_offset + _LOCAL_HEADER.size + name + extra
    if signature != SIGNATURE or info.header_offset < 0 or start + info.compress_size > size:
        raise ValueError(f"no member {info.filename[:100]!r} where the list of members says")
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    if info.file_size != info.compress_size:
        raise ValueError(f"two sizes of {info.filename[:100]!r}")
    return start
