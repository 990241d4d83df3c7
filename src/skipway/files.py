"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from skipway.errors import StorageError

# How mkstemp names what write_whole writes to.
_TEMPORARY = re.compile(
    r"\.(step-\d{8}\.pt|model\.safetensors|config\.toml|metrics\.csv|report\.html|pictures\.csv\.gz|\.holder\.json)"
    r"\.[a-z0-9_]{8}"
)


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_LITTLE = 2**20  # bytes; less than any checkpoint or model takes
_FIXES = {
    errno.EACCES: "make the folder writable, or choose another",
    errno.EPERM: "make the folder writable, or choose another",
    errno.EROFS: "that disk takes no changes: choose another folder",
    errno.ENOTDIR: "a file stands where a folder should be: choose another folder",
    errno.ENAMETOOLONG: "give a shorter name",
}


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
        raise _storage_error(file, error) from None
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
            raise _storage_error(file, error) from None
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


def _storage_error(file: Path, error: Exception) -> StorageError:
    """What kept a file from being written, as far as it can be known."""
    full = error.errno in _FULL if isinstance(error, OSError) else _is_full(file.parent)
    if full:
        return StorageError(
            f"{file} could not be written: the disk is full; free some space (the file before is whole)"
        )
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        fix = _FIXES.get(error.errno or 0, "choose another folder")
    else:
        reason, fix = " ".join(str(error).split())[:200], "check the disk, or choose another folder"
    return StorageError(f"{file} could not be written ({reason}); {fix}")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _LITTLE
    except OSError:
        return False
