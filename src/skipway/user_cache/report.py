"""What the cache holds, for its owner; and the emptying of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skipway.reporting import counted, escaped
from skipway.user_cache.manifest import BadManifestError, read_manifest
from skipway.user_cache.place import (
    BOUND_VARIABLE,
    PICTURES,
    PLACE_VARIABLE,
    cache_folder,
    remove,
    require_private,
    size_bound,
)
from skipway.user_cache.store import entry_folders, last_use, remove_entry, size_of


@dataclass(frozen=True)
class EntryFacts:
    """An entry: the key's first 12 digits, what it is for, how large it is, when it was used last (seconds since
    1970)."""

    key: str
    about: str
    size_bytes: int
    used: float


@dataclass(frozen=True)
class CacheReport:
    """Where the cache is, how large it may be, and its entries, the one used last first.

    `pictures_bytes` is the size of what is remembered about picture files. `cleared` counts entries that were deleted,
    `busy` those that were not, since a process works in them.
    """

    folder: Path
    bound_bytes: int
    entries: tuple[EntryFacts, ...]
    pictures_bytes: int = 0
    cleared: int = 0
    busy: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "folder": str(self.folder), "size_bytes": self.size_bytes}

    @property
    def size_bytes(self) -> int:
        """The size of all entries."""
        return sum(entry.size_bytes for entry in self.entries)

    def describe(self) -> str:
        """As text, a line an entry."""
        lines = [
            f"{escaped(str(self.folder))}: {counted(len(self.entries), 'entry')}, {_megabytes(self.size_bytes)} of "
            f"{_megabytes(self.bound_bytes)} at most ({PLACE_VARIABLE} and {BOUND_VARIABLE} set another place and size)"
        ]
        if self.pictures_bytes:
            lines.append(f"remembered about picture files: {_megabytes(self.pictures_bytes)}")
        if self.cleared or self.busy:
            lines.append(f"{self.cleared} deleted, {self.busy} in use by another process")
        for entry in self.entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            lines.append(f"{entry.key}  {_megabytes(entry.size_bytes):>12}  used {used}  {escaped(entry.about)}")
        return "\n".join(lines)


def inspect_cache(*, clear: bool = False) -> CacheReport:
    """What the cache holds; with `clear`, after deleting every entry that no process works in, and what is remembered
    about pictures.

    Deletes nothing but entries, and follows no link. Raises CacheError for a folder that is not this user's alone.
    """
    folder, bound = cache_folder(), size_bound()
    if not folder.is_symlink() and not folder.exists():
        return CacheReport(folder, bound, ())
    require_private(folder)
    cleared = busy = 0
    memory = folder / PICTURES
    if clear:
        remove(memory)
        for entry in entry_folders(folder):
            if remove_entry(folder, entry):
                cleared += 1
            else:
                busy += 1
    found = tuple(_facts(entry) for entry in reversed(entry_folders(folder)))
    pictures_bytes = memory.lstat().st_size if memory.is_file() and not memory.is_symlink() else 0
    return CacheReport(folder, bound, found, pictures_bytes, cleared, busy)


def _facts(folder: Path) -> EntryFacts:
    try:
        manifest = read_manifest(folder)
    except BadManifestError:
        manifest = None
    about = "not finished, or damaged" if manifest is None else manifest.about
    return EntryFacts(folder.name[:12], about, size_of(folder), last_use(folder))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
