"""A report on what the cache holds, for its owner; and the deletion of its entries."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skipway.reporting import counted, escaped, table
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
    """What is known of an entry."""

    key: str  # its first 12 digits
    about: str  # what the entry was made for
    size_bytes: int
    used: float  # when it was used last, in seconds since 1970


@dataclass(frozen=True)
class CacheReport:
    """What the cache holds."""

    folder: Path
    bound_bytes: int  # how large the entries may be together
    entries: tuple[EntryFacts, ...]  # the one used last first
    pictures_bytes: int = 0  # the size of what is remembered about picture files
    cleared: int = 0  # entries that were deleted
    busy: int = 0  # entries that were to be deleted, but a process works in them

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        plain["folder"] = str(self.folder)
        plain["size_bytes"] = self.size_bytes
        return plain

    @property
    def size_bytes(self) -> int:
        """The size of all entries."""
        return sum(entry.size_bytes for entry in self.entries)

    def describe(self) -> str:
        """The report as text, with a line for each entry."""
        entries = counted(len(self.entries), "entry")
        sizes = f"{_megabytes(self.size_bytes)} of {_megabytes(self.bound_bytes)} at most"
        hint = f"{PLACE_VARIABLE} and {BOUND_VARIABLE} set another place and size"
        lines = [f"{escaped(str(self.folder))}: {entries}, {sizes} ({hint})"]
        if self.pictures_bytes:
            lines.append(f"remembered about picture files: {_megabytes(self.pictures_bytes)}")
        if self.cleared or self.busy:
            lines.append(f"{self.cleared} deleted, {self.busy} in use by another process")
        rows = []
        for entry in self.entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            rows.append((entry.key, _megabytes(entry.size_bytes), f"used {used}", entry.about))
        if rows:
            lines.append(table((), rows))
        return "\n".join(lines)


def inspect_cache(*, clear: bool = False) -> CacheReport:
    """What the cache holds; with `clear`, after a deletion.

    The deletion takes every entry that no process works in, and what is remembered about pictures. It takes nothing
    else, and follows no link. Raises CacheError for a folder that is not this user's alone.
    """
    folder = cache_folder()
    bound = size_bound()
    is_there = folder.is_symlink() or folder.exists()  # a link whose target is gone does not exist
    if not is_there:
        return CacheReport(folder, bound, ())
    require_private(folder)
    pictures = folder / PICTURES
    cleared = busy = 0
    if clear:
        remove(pictures)
        for entry in entry_folders(folder):
            if remove_entry(folder, entry):
                cleared += 1
            else:
                busy += 1
    newest_first = reversed(entry_folders(folder))
    entries = tuple(_facts(entry) for entry in newest_first)
    pictures_bytes = 0
    is_real_file = pictures.is_file() and not pictures.is_symlink()
    if is_real_file:
        pictures_bytes = pictures.lstat().st_size
    return CacheReport(folder, bound, entries, pictures_bytes, cleared, busy)


def _facts(folder: Path) -> EntryFacts:
    """The facts about the entry in a folder."""
    about = "not finished, or damaged"
    try:
        manifest = read_manifest(folder)
    except BadManifestError:
        manifest = None
    if manifest is not None:
        about = manifest.about
    return EntryFacts(folder.name[:12], about, size_of(folder), last_use(folder))


def _megabytes(count: int) -> str:
    """A number of bytes as text."""
    megabytes = count / 1e6
    return f"{megabytes:,.1f} MB"
