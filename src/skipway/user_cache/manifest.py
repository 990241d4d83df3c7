"""What an entry of the cache holds: the size and SHA-256 of every file, in a list beside them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from skipway.files import write_text
from skipway.user_cache.place import is_ours, is_ours_alone

NAME = "manifest.json"
_FORMAT = 1
_LARGEST = 2**24  # bytes of the list itself
_CHUNK = 2**20
_DIGEST = re.compile("[0-9a-f]{64}")


class BadManifestError(Exception):
    """A list that is damaged or was not written by this version. Its entry is made again."""


class ForeignFileError(Exception):
    """Something in an entry that we did not put there: a link, a device, a file of another user."""


@dataclass(frozen=True)
class FileRecord:
    """One file as it was written."""

    size: int  # in bytes
    sha256: str  # 64 hexadecimal digits

    def __post_init__(self) -> None:
        """Raises BadManifestError for another type, and for a size or a digest that cannot be."""
        is_count = type(self.size) is int and self.size >= 0
        if not is_count:
            raise BadManifestError("a size is no count")
        is_digest = isinstance(self.sha256, str) and _DIGEST.fullmatch(self.sha256)
        if not is_digest:
            raise BadManifestError("a digest is not 64 hexadecimal digits")


@dataclass(frozen=True)
class Manifest:
    """The list of an entry's files."""

    about: str  # what the entry was made for, in words
    files: dict[str, FileRecord]  # by relative name with slashes

    def __post_init__(self) -> None:
        """Raises BadManifestError for a description that is none, and for names that lead out of the entry."""
        is_description = isinstance(self.about, str) and len(self.about) <= 300
        if not is_description:
            raise BadManifestError("no description")
        for name in self.files:
            if not _is_inside(name):
                raise BadManifestError("a name leads elsewhere")


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file below the entry's folder, other than the list itself."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return False
    is_plain = str(path) == name  # without doubled slashes and the like
    if not is_plain:
        return False
    return name not in {".", NAME}


def read_manifest(folder: Path) -> Manifest | None:
    """The list of an entry, None where there is none yet. Raises BadManifestError."""
    try:
        content = _regular_file_bytes(folder / NAME)
    except FileNotFoundError:
        return None
    except (OSError, ForeignFileError) as error:
        raise BadManifestError(str(error)) from None
    try:
        return _manifest_of(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadManifestError(str(error)) from None


def _manifest_of(plain: Any) -> Manifest:
    """The list that some JSON means. Raises BadManifestError, KeyError, TypeError and AttributeError."""
    if plain["format"] != _FORMAT:
        raise BadManifestError("of another version")
    files: dict[str, FileRecord] = {}
    for name, record in plain["parts"].items():
        size = record["size"]
        digest = record["sha256"]
        files[name] = FileRecord(size, digest)
    return Manifest(plain["about"], files)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the list of an entry, whole or not at all. Raises StorageError."""
    parts = {name: asdict(record) for name, record in sorted(manifest.files.items())}
    plain = {"format": _FORMAT, "about": manifest.about, "parts": parts}
    write_text(folder / NAME, json.dumps(plain))


def measure(file: Path) -> FileRecord:
    """Size and digest of a regular file of this user. Raises ForeignFileError and OSError."""
    digest = hashlib.sha256()
    size = 0
    with open(_open_regular(file), "rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(size, digest.hexdigest())


def walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below a folder, in order of names, with its facts.

    Raises ForeignFileError for links and the like and for folders in which others can write, and OSError.
    """
    facts = folder.lstat()
    is_folder = stat.S_ISDIR(facts.st_mode)
    if not is_folder or not is_ours_alone(facts):
        raise ForeignFileError(f"{folder} is no folder of ours alone")
    for path in sorted(folder.iterdir()):
        facts = path.lstat()
        if stat.S_ISDIR(facts.st_mode):
            yield from walk(path)
            continue
        is_file = stat.S_ISREG(facts.st_mode)
        if not is_file or not is_ours(facts):
            raise ForeignFileError(f"{path} is no file of ours")
        yield path, facts


def _open_regular(file: Path) -> int:
    """A handle on a regular file of this user, for reading. Raises ForeignFileError and OSError."""
    flags = os.O_RDONLY
    # A link is not followed, and a pipe not waited for. Not every system has these flags.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    handle = os.open(file, flags)
    facts = os.fstat(handle)
    is_file = stat.S_ISREG(facts.st_mode)
    if not is_file or not is_ours(facts):
        os.close(handle)
        raise ForeignFileError(f"{file} is no file of ours")
    return handle


def _regular_file_bytes(file: Path) -> bytes:
    """The content of a small regular file of this user. Raises ForeignFileError and OSError."""
    with open(_open_regular(file), "rb") as opened:
        content = opened.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ForeignFileError(f"{file} is too large")
    return content
