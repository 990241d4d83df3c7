"""All entries: one process at a time works in each, and the oldest go when they grow too large together."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from skipway.errors import CacheError
from skipway.user_cache.entry import Entry
from skipway.user_cache.place import closed_folder, private_cache_folder, private_folder, remove, size_bound

ENTRIES = "engines"
LOCKS = "locks"
KEY = re.compile("[0-9a-f]{64}")
WAIT_S = 600.0  # for another process that builds the same engine; a compiler takes minutes


@contextmanager
def claimed_entry(key: str, about: str, tell: Callable[[str], None], *, wait_s: float = WAIT_S) -> Iterator[Entry]:
    """The entry of a key (64 hexadecimal digits), for this process alone until the end of the block.

    `tell` gets a line when another process has to be waited for, and when the entry is too large to stay. Raises
    CacheError where the cache cannot be trusted or made, or where the other process takes longer than `wait_s`.
    """
    if KEY.fullmatch(key) is None:
        raise ValueError("a key is 64 hexadecimal digits")
    bound = size_bound()
    root = private_cache_folder()
    entries = closed_folder(root / ENTRIES)
    with _locked(root, key, tell, wait_s):
        entry = Entry(entries / key, about)
        os.utime(entry.folder)  # the order of use decides who goes first
        try:
            yield entry
        finally:
            if entry.is_empty:
                remove(entry.folder)
            if entry.changed:
                _apply_bound(root, bound, key, tell)


def entry_folders(root: Path) -> list[Path]:
    """The folders of all entries, the one used longest ago first."""
    entries = root / ENTRIES
    if entries.is_symlink() or not entries.is_dir():
        return []
    found = [folder for folder in sorted(entries.iterdir()) if KEY.fullmatch(folder.name)]
    return sorted(found, key=last_use)


def last_use(folder: Path) -> float:
    """Seconds since 1970 when an entry was opened last, 0 where it has gone meanwhile."""
    try:
        return folder.lstat().st_mtime
    except OSError:
        return 0.0


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder. Links count nothing; what goes meanwhile counts nothing."""
    total = 0
    for inner, _, names in os.walk(folder, followlinks=False):
        for name in names:
            try:
                facts = (Path(inner) / name).lstat()
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode):
                total += facts.st_size
    return total


def remove_entry(root: Path, folder: Path) -> bool:
    """Delete an entry, unless a process works in it. Raises CacheError."""
    try:
        with _lock(root, folder.name).acquire(timeout=0):
            remove(folder)
    except Timeout:
        return False
    return True


def _apply_bound(root: Path, bound: int, held: str, tell: Callable[[str], None]) -> None:
    sizes = {folder: size_of(folder) for folder in entry_folders(root)}
    total = sum(sizes.values())
    for folder, size in sizes.items():
        if total <= bound:
            return
        if folder.name == held:
            remove(folder)
            tell(f"what was built takes {size:,} bytes, too much for the cache's {bound:,}, and is not kept")
            total -= size
        elif remove_entry(root, folder):
            total -= size


@contextmanager
def _locked(root: Path, key: str, tell: Callable[[str], None], wait_s: float) -> Iterator[None]:
    lock = _lock(root, key)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell("another process builds engines for this model; waiting for it")
            lock.acquire(timeout=wait_s)
    except Timeout:
        raise CacheError(
            f"another process has worked in the cache {root} for {wait_s:.0f} s; end it, or wait until it is done"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise CacheError(f"no file in the cache {root} can be locked ({error}); keep the cache elsewhere") from None
    try:
        yield
    finally:
        lock.release()


def _lock(root: Path, key: str) -> FileLock:
    """One of 256 files, which stay: deleting a lock's file would let two processes hold it."""
    return FileLock(private_folder(root / LOCKS) / f"{key[:2]}.lock", mode=0o600)
