"""All entries: one process at a time works in each, and the oldest are deleted when all of them grow too large."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from skipway.errors import CacheError
from skipway.user_cache.entry import CacheEntry
from skipway.user_cache.place import closed_folder, private_cache_folder, private_folder, remove, size_bound

ENTRIES = "engines"
LOCKS = "locks"
KEY = re.compile("[0-9a-f]{64}")
WAIT_S = 600.0  # for another process that builds the same engine; a compiler takes minutes


@contextmanager
def claimed_entry(key: str, about: str, say: Callable[[str], None], *, wait_s: float = WAIT_S) -> Iterator[CacheEntry]:
    """The entry of a key (64 hexadecimal digits), for this process alone until the end of the block.

    `say` gets a line when another process has to be waited for, and when the entry is too large to stay. Raises
    CacheError where the cache cannot be trusted or made, or where the other process takes longer than `wait_s`
    seconds.
    """
    if KEY.fullmatch(key) is None:
        raise ValueError("a key is 64 hexadecimal digits")
    bound = size_bound()
    root = private_cache_folder()
    entries = closed_folder(root / ENTRIES)
    with _locked(root, key, say, wait_s):
        entry = CacheEntry(entries / key, about)
        os.utime(entry.folder)  # the order of use decides which entry is deleted first
        try:
            yield entry
        finally:
            if entry.is_empty:
                remove(entry.folder)
            if entry.changed:
                _apply_bound(root, bound, key, say)


def entry_folders(root: Path) -> list[Path]:
    """The folders of all entries, the one used longest ago first."""
    entries = root / ENTRIES
    if entries.is_symlink() or not entries.is_dir():
        return []
    found: list[Path] = []
    for folder in sorted(entries.iterdir()):
        if KEY.fullmatch(folder.name):
            found.append(folder)
    return sorted(found, key=last_use)


def last_use(folder: Path) -> float:
    """Seconds since 1970 when an entry was opened last; 0 where another process has deleted it meanwhile."""
    try:
        return folder.lstat().st_mtime
    except OSError:
        return 0.0


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder. Links do not count, nor do files that are deleted meanwhile."""
    total = 0
    for inner, _, names in os.walk(folder, followlinks=False):
        for name in names:
            file = Path(inner) / name
            try:
                facts = file.lstat()
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode):
                total += facts.st_size
    return total


def remove_entry(root: Path, folder: Path) -> bool:
    """Delete an entry, unless a process works in it; True where it was deleted. Raises CacheError."""
    lock = _lock(root, folder.name)
    try:
        with lock.acquire(timeout=0):
            remove(folder)
    except Timeout:
        return False
    return True


def _apply_bound(root: Path, bound: int, held: str, say: Callable[[str], None]) -> None:
    """Delete the entries used longest ago until all of them take `bound` bytes or less.

    This process holds the entry of the key `held`, which is the last to be deleted.
    """
    sizes = {folder: size_of(folder) for folder in entry_folders(root)}
    total = sum(sizes.values())
    for folder, size in sizes.items():
        if total <= bound:
            return
        if folder.name == held:
            remove(folder)
            say(f"what was built takes {size:,} bytes, too much for the cache's {bound:,}, and is not kept")
            total -= size
        elif remove_entry(root, folder):
            total -= size


@contextmanager
def _locked(root: Path, key: str, say: Callable[[str], None], wait_s: float) -> Iterator[None]:
    """Hold the lock of a key during the block. Raises CacheError."""
    lock = _lock(root, key)
    try:
        _acquire(lock, say, wait_s)
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


def _acquire(lock: FileLock, say: Callable[[str], None], wait_s: float) -> None:
    """Take a lock, with a line where that has to be waited for. Raises Timeout after `wait_s` seconds."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another process builds engines for this model; waiting for it")
        lock.acquire(timeout=wait_s)


def _lock(root: Path, key: str) -> FileLock:
    """One of 256 files, which stay: deleting a lock's file would let two processes hold it."""
    folder = private_folder(root / LOCKS)
    return FileLock(folder / f"{key[:2]}.lock", mode=0o600)
