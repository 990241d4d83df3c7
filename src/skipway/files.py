"""Reading and writing files safely: a new file appears whole or not at all, and reading has a limit."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from skipway.errors import ReadError, StorageError

# The names that mkstemp gives to the temporary files of write_whole.
_TEMPORARY = re.compile(
    r"\.(step-\d{8}\.pt|model\.safetensors|config\.toml|metrics\.csv|report\.html|pictures\.csv\.gz|\.holder\.json)"
    r"\.[a-z0-9_]{8}"
)

# The most bytes that each kind of text may have: far more than a real one has.
MAX_TEXT = 8 << 20

_TRIAL_SIZE = 2**20  # bytes
_LONGEST_REASON = 200  # characters of a library's error

# A full disk, a used-up quota, and the largest size of a file.
_DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
# What a user can do about an error in writing.
_WRITE_FIXES = {
    errno.EACCES: "make the folder writable, or choose another",
    errno.EPERM: "make the folder writable, or choose another",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EEXIST: "a file stands where a folder should be: choose another folder",
    errno.ENOTDIR: "a file stands where a folder should be: choose another folder",
    errno.ENAMETOOLONG: "give a shorter name",
}

# Why a file cannot be read, and what a user can do about it.
_READ_CAUSES = {
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
    """The ReadError for an error of the system: why a file could not be opened or read, and what to do about it."""
    reason = error.strerror or error
    default = (f"cannot be read ({reason})", "check the path and its permissions")
    code = error.errno or 0
    what, fix = _READ_CAUSES.get(code, default)
    return ReadError(str(file), what, fix)


def require_file(file: Path) -> os.stat_result:
    """The facts about a regular file, or about the file that a link leads to.

    Raises ReadError where there is no such file. A pipe or a device is refused, because it may have no end.
    """
    try:
        facts = file.stat()
    except OSError as error:
        raise read_error(file, error) from None
    except ValueError as error:
        # A name with a zero byte.
        cause = OSError(errno.ENOENT, str(error))
        raise read_error(file, cause) from None
    if stat.S_ISDIR(facts.st_mode):
        cause = OSError(errno.EISDIR, "")
        raise read_error(file, cause)
    if not stat.S_ISREG(facts.st_mode):
        raise ReadError(str(file), "is a pipe or a device, not a file", "copy its content into a file and give that")
    return facts


def read_bounded(file: Path, limit: int = MAX_TEXT) -> bytes:
    """The bytes of a regular file.

    Arguments:
        file: its path.
        limit: the most bytes that it may have. The size is checked again while reading, because files of /proc state
            a size of 0, and other files can grow.

    Raises ReadError for a file that is larger or cannot be read.
    """
    too_large = ReadError(str(file), f"has more than {limit:,} bytes", "give a smaller file")
    facts = require_file(file)
    if facts.st_size > limit:
        raise too_large
    # A pipe may have taken the place of the file since the check: opening it must not wait for its other end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(file, flags)
        with os.fdopen(descriptor, "rb") as opened:
            data = opened.read(limit + 1)
    except OSError as error:
        raise read_error(file, error) from None
    if len(data) > limit:
        raise too_large
    return data


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it appears whole or not at all.

    Arguments:
        file: the path of the file. Missing folders are made.
        write: fills the temporary file beside `file` whose path it is given. The temporary file then takes the name.

    After any failure the old file, if there was one, is unchanged. Raises StorageError where the disk is full or the
    folder cannot be written to.
    """
    temporary = _new_temporary(file)
    try:
        write(temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes files that only their owner can read; a model should have the user's usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(file)
    except Exception as error:
        is_storage_problem = isinstance(error, OSError) or _is_library_write_error(error)
        if not is_storage_problem:
            raise
        raise storage_error(file, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _new_temporary(file: Path) -> Path:
    """An empty file in the folder of `file`, which is made where it is missing. Raises StorageError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(descriptor)
    except OSError as error:
        raise storage_error(file, error) from None
    return Path(name)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a process that was killed while it wrote into this folder."""
    for file in folder.glob(".*.????????"):
        if _TEMPORARY.fullmatch(file.name):
            file.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all. Bytes of file names that are not text are written as escapes.

    Raises StorageError.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    write_whole(file, write)


def _is_library_write_error(error: Exception) -> bool:
    """Whether an exception of torch or safetensors, which have errors of their own, means that writing failed."""
    message = str(error)
    texts = ("PytorchStreamWriter", "unexpected pos", "I/O error", "IoError", "iostream error")
    return any(text in message for text in texts)


def storage_error(file: Path, error: Exception) -> StorageError:
    """The StorageError for a file that could not be written. The cause is looked for where `error` does not say it."""
    cause: OSError | None
    if isinstance(error, OSError):
        cause = error
    else:
        cause = _write_failure(file.parent)
    if cause is None:
        reason = " ".join(str(error).split())
        reason = reason[:_LONGEST_REASON]
        return StorageError(f"{file} could not be written ({reason}); check the disk, or choose another folder")
    if cause.errno in _DISK_FULL:
        return StorageError(
            f"{file} could not be written: the disk is full; free some space (the file before is whole)"
        )
    code = cause.errno or 0
    fix = _WRITE_FIXES.get(code, "choose another folder")
    reason = cause.strerror or str(cause)
    return StorageError(f"{file} could not be written ({reason}); {fix}")


def _write_failure(folder: Path) -> OSError | None:
    """The error of the system in writing to a folder, found by trying; None where it works."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(_TRIAL_SIZE))
    except OSError as error:
        return error
    return None
