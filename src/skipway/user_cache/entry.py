"""One entry of the cache: files made from one model, read back only while they are what was written."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skipway.errors import StorageError
from skipway.user_cache.manifest import (
    NAME,
    BadManifestError,
    FileRecord,
    ForeignFileError,
    Manifest,
    measure,
    read_manifest,
    walk,
    write_manifest,
)
from skipway.user_cache.place import private_folder, remove

FileFacts = tuple[int, ...]  # what changes when a file is written to


class CacheEntry:
    """A folder with single files and whole folders in it, all of them in its list.

    Whoever works with an entry has claimed it: no other process of skipway writes there. What is not in the list is
    deleted when the entry is opened, and what differs from it when it is asked for. Raises CacheError for a folder in
    which others can write.
    """

    def __init__(self, folder: Path, about: str) -> None:
        self.folder = private_folder(folder)
        self.changed = False
        self._about = about[:300]
        self._files: dict[str, FileRecord] = {}
        try:
            manifest = read_manifest(folder)
        except BadManifestError:
            manifest = None
        if manifest is not None:
            self._files = dict(manifest.files)
        self._remove_unlisted()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept in it."""
        return not self._files

    def file(self, name: str) -> Path | None:
        """The file of that name as it was kept; None where there is none, or where it has changed since."""
        record = self._files.get(name)
        if record is None:
            return None
        path = self.folder / name
        try:
            is_unchanged = measure(path) == record
        except (OSError, ForeignFileError):
            is_unchanged = False
        if is_unchanged:
            return path
        self.drop(name)
        return None

    def content(self, name: str) -> bytes | None:
        """The bytes of the file of that name as it was kept, or None."""
        path = self.file(name)
        if path is None:
            return None
        return path.read_bytes()

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Let `write` make the file of that name, and add it to the list. Raises StorageError."""
        from skipway.files import write_whole

        self.drop(name)
        path = self.folder / name
        write_whole(path, write)
        record = measure(path)
        self._note({name: record})
        return path

    @contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        """A folder for a library that keeps files of its own, for as long as that works in it.

        It is empty unless every file in it is in the list, unchanged, and no other is there. What the library leaves is
        added to the list at the end; where the library fails, nothing is kept.
        """
        path = self.folder / name
        before = self._unchanged_facts(name)
        if before is None:
            self.drop(name)
        private_folder(path)
        try:
            yield path
        except BaseException:
            self.drop(name)
            raise
        try:
            _close_folders(path)
            if _facts(path) != before:
                records = _records(path, name)
                self._forget(name)
                self._note(records)
        except (OSError, ForeignFileError):
            self.drop(name)

    def drop(self, name: str) -> None:
        """Delete a file or folder of that name. Raises CacheError."""
        self._forget(name)
        remove(self.folder / name)

    def _unchanged_facts(self, name: str) -> dict[str, FileFacts] | None:
        """The facts about every file of a folder in which nothing has changed; None for any other."""
        records = {key: record for key, record in self._files.items() if key.startswith(f"{name}/")}
        if not records:
            return None
        try:
            facts = _facts(self.folder / name)
            keys = {f"{name}/{file}" for file in facts}
            if keys != set(records):
                return None
            for key, record in records.items():
                if measure(self.folder / key) != record:
                    return None
        except (OSError, ForeignFileError):
            return None
        return facts

    def _note(self, records: dict[str, FileRecord]) -> None:
        """Add files to the list."""
        self._files |= records
        self.changed = True
        self._write()

    def _forget(self, name: str) -> None:
        """Take a file, or all files of a folder, out of the list."""
        left: dict[str, FileRecord] = {}
        for key, record in self._files.items():
            if key != name and not key.startswith(f"{name}/"):
                left[key] = record
        if left != self._files:
            self._files = left
            self._write()

    def _write(self) -> None:
        """Write the list. Where there is no space for it, this process uses the files and the next makes them again."""
        manifest = Manifest(self._about, self._files)
        try:
            write_manifest(self.folder, manifest)
        except StorageError:
            remove(self.folder / NAME)

    def _remove_unlisted(self) -> None:
        """Delete what the list does not have, and the list itself where it is empty or unreadable."""
        known = {key.partition("/")[0] for key in self._files}
        if known:
            known.add(NAME)
        for child in list(self.folder.iterdir()):
            if child.name not in known:
                remove(child)


def scratch_entry() -> CacheEntry:
    """An entry in a folder of its own that ends with the object, or with the process."""
    folder = Path(tempfile.mkdtemp(prefix="skipway-engines-"))
    entry = CacheEntry(folder / "entry", "")
    weakref.finalize(entry, shutil.rmtree, folder, ignore_errors=True)
    return entry


def _facts(folder: Path) -> dict[str, FileFacts]:
    """For each file of a folder, what changes when it is written to."""
    found: dict[str, FileFacts] = {}
    for file, facts in walk(folder):
        name = file.relative_to(folder).as_posix()
        found[name] = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    return found


def _records(folder: Path, name: str) -> dict[str, FileRecord]:
    """Size and digest of each file of a folder that the entry has under `name`."""
    found: dict[str, FileRecord] = {}
    for file, _ in walk(folder):
        key = f"{name}/{file.relative_to(folder).as_posix()}"
        found[key] = measure(file)
    return found


def _close_folders(path: Path) -> None:
    """Make all folders below `path` private. Libraries make them as the umask says, which may let the group write."""
    for folder, names, _ in os.walk(path, followlinks=False):
        for name in names:
            inner = Path(folder) / name
            if not inner.is_symlink():
                inner.chmod(0o700)
