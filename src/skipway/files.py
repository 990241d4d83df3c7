"""Files appear whole or not at all; what a user names is read up to a limit, and only where it is a file."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from skipway.errors import ReadError, StorageError

# How mkstemp names what write_whole writes to.
_TEMPORARY = re.compile(
    r"\.(step-\d{8}\.pt|model\.safetensors|config\.toml|metrics\.csv|report\.html|pictures\.csv\.gz|\.holder\.json)"
    r"\.[a-z0-9_]{8}"
)


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_TRIAL = 2**20  # bytes
_FIXES = {
    errno.EACCES: "make the folder writable, or choose another",
    errno.EPERM: "make the folder writable, or choose another",
    errno.EROFS: "that disk takes no changes: choose another folder",
    errno.EEXIST: "a file stands where a folder should be: choose another folder",
    errno.ENOTDIR: "a file stands where a folder should be: choose another folder",
    errno.ENAMETOOLONG: "give a shorter name",
}

# What each kind of text may hold at most, in bytes: far more than any honest one does.
MAX_TEXT = 8 << 20

_CAUSES = {
    errno.ENOENT: ("does not exist", "check the path"),
    errno.ENOTDIR: ("does not exist", "check the path"),
    errno.EISDIR: ("is a folder", "give a file inside it"),
    errno.EACCES: ("cannot be read (permission denied)", "change its permissions"),
    errno.EPERM: ("cannot be read (permission denied)", "change its permissions"),
    errno.ELOOP: ("is a link that leads back to itself", "mend the link"),
    errno.ENAMETOOLONG: ("has a name that is too long", "check the path"),
    errno.ENOMEM: ("cannot be read (the memory is too small)", "free some memory"),
    errno.EMFILE: ("cannot be opened (too many open files)", "raise `ulimit -n`"),
    errno.ENFILE: ("cannot be opened (too many open files)", "close other programs"),
    errno.EIO: ("cannot be read (the disk reports an error)", "check the disk, or copy the file from elsewhere"),
    errno.ESTALE: ("cannot be read (the network folder is gone)", "mount it again"),
}


def read_error(file: Path | str, error: OSError) -> ReadError:
    """Why a file could not be opened or read, and what to do about it: the true cause, not damage."""
    default = (f"cannot be read ({error.strerror or error})", "check the path and its permissions")
    what, fix = _CAUSES.get(error.errno or 0, default)
    return ReadError(str(file), what, fix)


def require_file(file: Path) -> os.stat_result:
    """Raises ReadError unless `file` is a regular file (or a link to one); a pipe or a device may have no end."""
    try:
        found = file.stat()
    except (OSError, ValueError) as error:
        cause = error if isinstance(error, OSError) else OSError(errno.ENOENT, str(error))
        raise read_error(file, cause) from None
    if stat.S_ISDIR(found.st_mode):
        raise read_error(file, OSError(errno.EISDIR, ""))
    if not stat.S_ISREG(found.st_mode):
        raise ReadError(str(file), "is a pipe or a device, not a file", "copy its content into a file and give that")
    return found


def read_bounded(file: Path, limit: int = MAX_TEXT) -> bytes:
    """The bytes of a regular file of `limit` bytes or fewer. Raises ReadError.

    The size is checked again while reading: files of /proc tell 0, and others may grow.
    """
    size = require_file(file).st_size
    if size <= limit:
        try:
            # Without waiting, should a pipe have taken the file's place since it was looked at.
            with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
                data = opened.read(limit + 1)
        except OSError as error:
            raise read_error(file, error) from None
        if len(data) <= limit:
            return data
    raise ReadError(str(file), f"has more than {limit:,} bytes", "give a smaller file")


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `file`, then rename it into place.

    On any failure the old file, if there was one, is untouched. Raises StorageError when the disk is full or the
    folder cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(handle)
    except OSError as error:
        raise storage_error(file, error) from None
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would keep a group from reading the model
        temporary.replace(file)
    except Exception as error:
        if isinstance(error, OSError) or _is_torch_write_error(error):
            raise storage_error(file, error) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a process that was killed while it wrote into this folder."""
    for file in folder.glob(".*.????????"):
        if _TEMPORARY.fullmatch(file.name):
            file.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """UTF-8 text, whole or not at all; odd bytes of file names are spelt out. Raises StorageError."""
    write_whole(file, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def _is_torch_write_error(error: Exception) -> bool:
    # torch.save and safetensors report a full disk as errors of their own.
    text = str(error)
    return "PytorchStreamWriter" in text or "unexpected pos" in text or "I/O error" in text or "IoError" in text


def storage_error(file: Path, error: Exception) -> StorageError:
    """What kept a file from being written, as far as it can be known."""
    cause = error if isinstance(error, OSError) else _cause(file.parent)
    if cause is None:
        reason = " ".join(str(error).split())[:200]
        return StorageError(f"{file} could not be written ({reason}); check the disk, or choose another folder")
    if cause.errno in _FULL:
        return StorageError(
            f"{file} could not be written: the disk is full; free some space (the file before is whole)"
        )
    fix = _FIXES.get(cause.errno or 0, "choose another folder")
    return StorageError(f"{file} could not be written ({cause.strerror or cause}); {fix}")


def _cause(folder: Path) -> OSError | None:
    """Why nothing can be written into a folder, by trying: torch and safetensors do not say."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(_TRIAL))
    except OSError as error:
        return error
    return None
