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

from skipway.files import write_text
from skipway.user_cache.place import is_ours, others_can_write

NAME = "manifest.json"
_FORMAT = 1
_LARGEST = 2**24  # bytes of the list itself
_CHUNK = 2**20


class BadManifestError(Exception):
    """A list that is damaged or was not written by this version. Its entry is made again."""


class ForeignFileError(Exception):
    """Something in an entry that we did not put there: a link, a device, a file of another user."""


@dataclass(frozen=True)
class Part:
    """One file as it was written: its size in bytes, and 64 hexadecimal digits."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 0:
            raise BadManifestError("a size is no count")
        if not isinstance(self.sha256, str) or re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise BadManifestError("a digest is not 64 hexadecimal digits")


@dataclass(frozen=True)
class Manifest:
    """`parts` by relative name with slashes; `about` says in words what the entry was made for."""

    about: str
    parts: dict[str, Part]

    def __post_init__(self) -> None:
        if not isinstance(self.about, str) or len(self.about) > 300:
            raise BadManifestError("no description")
        for name in self.parts:
            path = PurePosixPath(name)
            if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != name or name == NAME:
                raise BadManifestError("a name leads elsewhere")


def read_manifest(folder: Path) -> Manifest | None:
    """The list of an entry, None where there is none yet. Raises BadManifestError."""
    file = folder / NAME
    try:
        content = _regular_file_bytes(file)
    except FileNotFoundError:
        return None
    except (OSError, ForeignFileError) as error:
        raise BadManifestError(str(error)) from None
    try:
        found = json.loads(content)
        if found["format"] != _FORMAT:
            raise BadManifestError("of another version")
        parts = {name: Part(part["size"], part["sha256"]) for name, part in found["parts"].items()}
        return Manifest(found["about"], parts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadManifestError(str(error)) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Whole or not at all. Raises StorageError."""
    parts = {name: asdict(part) for name, part in sorted(manifest.parts.items())}
    write_text(folder / NAME, json.dumps({"format": _FORMAT, "about": manifest.about, "parts": parts}))


def measure(file: Path) -> Part:
    """Size and digest of a regular file of ours. Raises ForeignFileError and OSError."""
    digest = hashlib.sha256()
    size = 0
    with open(_open_regular(file), "rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Part(size, digest.hexdigest())


def walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below a folder, in order of names, with its facts. Raises ForeignFileError for links and the like,
    and for folders in which others can write; and OSError."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or not is_ours(facts) or others_can_write(facts):
        raise ForeignFileError(f"{folder} is no folder of ours alone")
    for path in sorted(folder.iterdir()):
        facts = path.lstat()
        if stat.S_ISDIR(facts.st_mode):
            yield from walk(path)
        elif stat.S_ISREG(facts.st_mode) and is_ours(facts):
            yield path, facts
        else:
            raise ForeignFileError(f"{path} is no file of ours")


def _open_regular(file: Path) -> int:
    # Neither followed where it is a link, nor waited for where it is a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(file, flags)
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or not is_ours(facts):
        os.close(handle)
        raise ForeignFileError(f"{file} is no file of ours")
    return handle


def _regular_file_bytes(file: Path) -> bytes:
    with open(_open_regular(file), "rb") as opened:
        content = opened.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ForeignFileError(f"{file} is too large")
    return content
