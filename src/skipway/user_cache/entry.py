"""One entry of the cache: artefacts made from one model, read back only while they are what was written."""

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
    ForeignFileError,
    Manifest,
    Part,
    measure,
    read_manifest,
    walk,
    write_manifest,
)
from skipway.user_cache.place import private_folder, remove


class Entry:
    """A folder with single files and whole folders in it, all of them in its list.

    Whoever works with an entry has claimed it: no other process of ours writes there. What is not in the list is
    deleted when the entry is opened, and what differs from it when it is asked for. Raises CacheError for a folder in
    which others can write.
    """

    def __init__(self, folder: Path, about: str) -> None:
        self.folder = private_folder(folder)
        self.changed = False
        self._about = about[:300]
        try:
            found = read_manifest(folder)
        except BadManifestError:
            found = None
        self._parts: dict[str, Part] = {} if found is None else dict(found.parts)
        self._remove_unlisted()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept in it."""
        return not self._parts

    def file(self, name: str) -> Path | None:
        """The file of that name as it was kept; None where there is none, or where it has changed since."""
        path = self.folder / name
        wanted = self._parts.get(name)
        if wanted is None:
            return None
        try:
            if measure(path) == wanted:
                return path
        except (OSError, ForeignFileError):
            pass
        self.drop(name)
        return None

    def content(self, name: str) -> bytes | None:
        """The bytes of the file of that name as it was kept, or None."""
        path = self.file(name)
        return None if path is None else path.read_bytes()

    def keep(self, name: str, write: Callable[[Path], object]) -> Path:
        """Let `write` make the file of that name, and note what it is. Raises StorageError."""
        from skipway.files import write_whole

        self.drop(name)
        path = self.folder / name
        write_whole(path, write)
        self._note({name: measure(path)})
        return path

    @contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        """A folder for a library that keeps files of its own, for as long as that works in it.

        It is empty unless every file in it is in the list, unchanged, and no other is there. What the library leaves is
        noted at the end; where the library fails, nothing is kept.
        """
        path = self.folder / name
        before = self._verified(name)
        if before is None:
            self.drop(name)
        private_folder(path)
        try:
            yield path
        except BaseException:
            self.drop(name)
            raise
        try:
            self._close_folders(path)
            if _facts(path) != before:
                parts = {f"{name}/{file.relative_to(path).as_posix()}": measure(file) for file, _ in walk(path)}
                self._forget(name)
                self._note(parts)
        except (OSError, ForeignFileError):
            self.drop(name)

    def drop(self, name: str) -> None:
        """Delete a file or folder of that name. Raises CacheError."""
        self._forget(name)
        remove(self.folder / name)

    def _verified(self, name: str) -> dict[str, tuple[int, ...]] | None:
        """The facts about every file of a folder that is as it was noted; None for any other."""
        path = self.folder / name
        wanted = {key: part for key, part in self._parts.items() if key.startswith(f"{name}/")}
        if not wanted:
            return None
        try:
            facts = _facts(path)
            if {f"{name}/{file}" for file in facts} != set(wanted):
                return None
            for key, part in wanted.items():
                if measure(self.folder / key) != part:
                    return None
        except (OSError, ForeignFileError):
            return None
        return facts

    def _note(self, parts: dict[str, Part]) -> None:
        self._parts |= parts
        self.changed = True
        self._write()

    def _forget(self, name: str) -> None:
        left = {key: part for key, part in self._parts.items() if key != name and not key.startswith(f"{name}/")}
        if left != self._parts:
            self._parts = left
            self._write()

    def _write(self) -> None:
        """What could not be noted for want of space serves this process and is made again by the next."""
        try:
            write_manifest(self.folder, Manifest(self._about, self._parts))
        except StorageError:
            remove(self.folder / NAME)

    def _remove_unlisted(self) -> None:
        known = {key.partition("/")[0] for key in self._parts}
        for child in list(self.folder.iterdir()):
            is_list = child.name == NAME and known
            if child.name not in known and not is_list:
                remove(child)

    def _close_folders(self, path: Path) -> None:
        """Libraries make folders as the umask says, which may let the group write."""
        for folder, names, _ in os.walk(path, followlinks=False):
            for name in names:
                inner = Path(folder) / name
                if not inner.is_symlink():
                    inner.chmod(0o700)


def scratch_entry() -> Entry:
    """An entry in a folder of its own that ends with the object, or with the process."""
    folder = Path(tempfile.mkdtemp(prefix="skipway-engines-"))
    entry = Entry(folder / "entry", "")
    weakref.finalize(entry, shutil.rmtree, folder, ignore_errors=True)
    return entry


def _facts(folder: Path) -> dict[str, tuple[int, ...]]:
    """What changes when a file is written to, for each file."""
    found: dict[str, tuple[int, ...]] = {}
    for file, facts in walk(folder):
        name = file.relative_to(folder).as_posix()
        found[name] = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    return found
