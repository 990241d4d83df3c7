"""Where the cache lies, and who may write there: this user alone, or it is not used.

The programs that lie in it are run. A folder that others can write to, that belongs to somebody else, or that is a
link to some other place is refused, and so is one below a folder in which others could exchange it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from skipway.errors import CacheError

PLACE_VARIABLE = "SKIPWAY_CACHE_DIR"
BOUND_VARIABLE = "SKIPWAY_CACHE_GIB"
DEFAULT_BOUND_GIB = 4.0
PICTURES = "pictures.sqlite"

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_FIX = f"set {PLACE_VARIABLE} to a folder of your own"


def cache_folder() -> Path:
    """The cache's folder: SKIPWAY_CACHE_DIR, else the platform's place for caches (XDG_CACHE_HOME moves it).

    Nothing is made or checked. Raises CacheError where the name is no absolute path, as where there is no home folder.
    """
    named = os.environ.get(PLACE_VARIABLE, "")
    folder = Path(named) if named else platformdirs.user_cache_path("skipway", appauthor=False)
    if not folder.is_absolute():
        raise CacheError(f"the cache folder {folder} is no absolute path; {_FIX}, such as /home/me/cache")
    return Path(os.path.abspath(folder))  # noqa: PTH100  # resolve() would follow the last link


def size_bound() -> int:
    """Bytes that the cache may hold: SKIPWAY_CACHE_GIB, else 4 GiB. Raises CacheError for what is no number."""
    text = os.environ.get(BOUND_VARIABLE, "") or str(DEFAULT_BOUND_GIB)
    try:
        gibibytes = float(text)
    except ValueError:
        gibibytes = -1.0
    if not 0 <= gibibytes <= 2**20:  # nor NaN
        raise CacheError(f"{BOUND_VARIABLE} is {text}; give the cache's largest size in GiB, such as 4")
    return int(gibibytes * 2**30)


def private_cache_folder() -> Path:
    """The cache's folder, made where it is absent, once nobody else can write there. Raises CacheError."""
    folder = cache_folder()
    above = folder.parent.resolve()  # links above are the user's own affair; where they end is checked
    _make_ancestors(above)
    for ancestor in (above, *above.parents):
        _require_safe_ancestor(ancestor)
    return private_folder(above / folder.name)


def private_folder(folder: Path) -> Path:
    """A folder inside one that was checked: made with mode 0700, or found to be ours alone. Raises CacheError."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise _cannot_be_made(folder, error) from None
    require_private(folder)
    return folder


def closed_folder(folder: Path) -> Path:
    """As `private_folder`, and others cannot even look inside: what libraries write below needs no modes of its own."""
    private_folder(folder)
    if os.name == "posix" and folder.lstat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def picture_memory() -> Path:
    """The file, of this user alone, in which facts about picture files are remembered. Raises CacheError."""
    file = private_cache_folder() / PICTURES
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise CacheError(f"{file} cannot be used ({error.strerror}); delete it, or {_FIX}") from None
    found = os.fstat(handle)
    os.close(handle)
    if not stat.S_ISREG(found.st_mode) or not is_ours(found) or others_can_write(found):
        raise CacheError(f"{file} is no file of this user alone; delete it, or {_FIX}")
    return file


def require_private(folder: Path) -> None:
    """Raises CacheError unless it is a real folder, of this user, in which nobody else can write."""
    try:
        found = folder.lstat()
    except OSError as error:
        raise CacheError(f"the cache folder {folder} cannot be read ({error.strerror}); {_FIX}") from None
    if stat.S_ISLNK(found.st_mode):
        raise CacheError(f"the cache folder {folder} is a symbolic link, which is not followed; remove it, or {_FIX}")
    if not stat.S_ISDIR(found.st_mode):
        raise CacheError(f"the cache folder {folder} is no folder; remove it, or {_FIX}")
    if not is_ours(found):
        raise CacheError(f"the cache folder {folder} belongs to another user (number {found.st_uid}); {_FIX}")
    if others_can_write(found):
        mode = stat.S_IMODE(found.st_mode)
        raise CacheError(f"others can write to the cache folder {folder} (mode {mode:04o}); delete it, or {_FIX}")


def is_ours(found: os.stat_result) -> bool:
    """Whether it belongs to this user. Where the system has no owners, all is ours."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def others_can_write(found: os.stat_result) -> bool:
    """Whether the group or everybody may write, by the mode (which also shows grants of access control lists)."""
    return os.name == "posix" and bool(found.st_mode & _WRITABLE_BY_OTHERS)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it; what a link points to stays. Raises CacheError."""
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            path.unlink()
        elif shutil.rmtree.avoids_symlink_attacks:
            shutil.rmtree(path)
        else:
            raise CacheError(f"{path} cannot be deleted safely on this system; delete it by hand")
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"{path} cannot be deleted ({error.strerror or error}); check its permissions") from None


def prepare_font_folder() -> None:
    """Let matplotlib keep its list of fonts in the cache, not in the home folder, unless MPLCONFIGDIR is set.

    Before matplotlib is imported, and for a whole process: it is meant for the command line. Where the cache is
    refused, matplotlib makes its list anew in a folder that ends with the process.
    """
    if os.environ.get("MPLCONFIGDIR"):
        return
    try:
        folder = private_folder(private_cache_folder() / "fonts")
    except (CacheError, OSError):
        folder = _scratch_folder()
    os.environ["MPLCONFIGDIR"] = str(folder)


def _scratch_folder() -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="skipway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _make_ancestors(folder: Path) -> None:
    for missing in reversed(list(_missing(folder))):
        try:
            missing.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_be_made(missing, error) from None


def _missing(folder: Path) -> Iterator[Path]:
    for part in (folder, *folder.parents):
        if part.exists():
            return
        yield part


def _require_safe_ancestor(folder: Path) -> None:
    """In a sticky folder such as /tmp nobody can rename what is ours; in another that all can write to, they can."""
    if os.name != "posix":
        return
    found = folder.stat()
    if not is_ours(found) and found.st_uid != 0:
        raise CacheError(f"{folder}, above the cache, belongs to another user (number {found.st_uid}); {_FIX}")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise CacheError(f"everybody can write to {folder}, above the cache; {_FIX} elsewhere")


def _cannot_be_made(folder: Path, error: OSError) -> CacheError:
    return CacheError(f"the cache folder {folder} cannot be made ({error.strerror or error}); {_FIX}")
