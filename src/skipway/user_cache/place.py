"""Where the cache lies, and who may write there: this user alone, or it is not used.

The programs in it are run. A folder is refused where others can write to it, where it belongs to somebody else, where
it is a link to another place, and where others could replace it, as they can write to a folder above.
"""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
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

    Nothing is made or checked. Raises CacheError where the path is not absolute, as without a home folder.
    """
    named = os.environ.get(PLACE_VARIABLE, "")
    if named:
        folder = Path(named)
    else:
        folder = platformdirs.user_cache_path("skipway", appauthor=False)
    if not folder.is_absolute():
        raise CacheError(f"the cache folder {folder} is no absolute path; {_FIX}, such as /home/me/cache")
    return Path(os.path.abspath(folder))  # noqa: PTH100  # resolve() would follow the last link


def size_bound() -> int:
    """Bytes that the cache may hold: SKIPWAY_CACHE_GIB, else 4 GiB. Raises CacheError for an impossible size."""
    text = os.environ.get(BOUND_VARIABLE, "") or str(DEFAULT_BOUND_GIB)
    try:
        gibibytes = float(text)
    except ValueError:
        gibibytes = math.nan
    is_possible = 0 <= gibibytes <= 2**20  # false for NaN, too
    if not is_possible:
        raise CacheError(f"{BOUND_VARIABLE} is {text}; give the cache's largest size in GiB, such as 4")
    return int(gibibytes * 2**30)


def private_cache_folder() -> Path:
    """The cache's folder, made where it is absent, once nobody else can write there. Raises CacheError."""
    folder = cache_folder()
    above = folder.parent.resolve()  # links above the cache are allowed; the folders that they lead to are checked
    _make_ancestors(above)
    for ancestor in (above, *above.parents):
        _require_safe_ancestor(ancestor)
    resolved = above / folder.name
    return private_folder(resolved)


def private_folder(folder: Path) -> Path:
    """A folder inside one that was checked: made with mode 0700, or found to be private. Raises CacheError."""
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
    if os.name != "posix":
        return folder
    mode_of_others = folder.lstat().st_mode & 0o077
    if mode_of_others:
        folder.chmod(0o700)
    return folder


def picture_memory() -> Path:
    """The file, of this user alone, in which facts about picture files are remembered. Raises CacheError."""
    file = private_cache_folder() / PICTURES
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(file, flags, 0o600)
    except OSError as error:
        raise CacheError(f"{file} cannot be used ({error.strerror}); delete it, or {_FIX}") from None
    facts = os.fstat(handle)
    os.close(handle)
    is_file = stat.S_ISREG(facts.st_mode)
    if not is_file or not is_ours_alone(facts):
        raise CacheError(f"{file} is no file of this user alone; delete it, or {_FIX}")
    return file


def require_private(folder: Path) -> None:
    """Raises CacheError unless it is a real folder, of this user, in which nobody else can write."""
    name = f"the cache folder {folder}"
    try:
        facts = folder.lstat()
    except OSError as error:
        raise CacheError(f"{name} cannot be read ({error.strerror}); {_FIX}") from None
    if stat.S_ISLNK(facts.st_mode):
        raise CacheError(f"{name} is a symbolic link, which is not followed; remove it, or {_FIX}")
    if not stat.S_ISDIR(facts.st_mode):
        raise CacheError(f"{name} is no folder; remove it, or {_FIX}")
    if not is_ours(facts):
        raise CacheError(f"{name} belongs to another user (number {facts.st_uid}); {_FIX}")
    if others_can_write(facts):
        mode = stat.S_IMODE(facts.st_mode)
        raise CacheError(f"others can write to {name} (mode {mode:04o}); delete it, or {_FIX}")


def is_ours(facts: os.stat_result) -> bool:
    """Whether a file belongs to this user. Where the system has no owners, all files do."""
    if not hasattr(os, "geteuid"):
        return True
    return facts.st_uid == os.geteuid()


def is_ours_alone(facts: os.stat_result) -> bool:
    """Whether a file belongs to this user, and nobody else can write to it."""
    if others_can_write(facts):
        return False
    return is_ours(facts)


def others_can_write(facts: os.stat_result) -> bool:
    """Whether the group or everybody may write, by the mode (which also shows grants of access control lists)."""
    if os.name != "posix":
        return False
    writable = facts.st_mode & _WRITABLE_BY_OTHERS
    return writable != 0


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it; what a link points to stays. Raises CacheError."""
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
        if not is_folder:
            path.unlink()
        elif shutil.rmtree.avoids_symlink_attacks:
            shutil.rmtree(path)
        else:
            raise CacheError(f"{path} cannot be deleted safely on this system; delete it by hand")
    except FileNotFoundError:
        return
    except OSError as error:
        cause = error.strerror or error
        raise CacheError(f"{path} cannot be deleted ({cause}); check its permissions") from None


def prepare_font_folder() -> None:
    """Let matplotlib keep its list of fonts in the cache, not in the home folder, unless MPLCONFIGDIR is set.

    This is meant for the command line: call it before matplotlib is imported. It holds for the whole process. Where the
    cache is refused, matplotlib makes its list anew in a folder that is deleted with the process's end.
    """
    if os.environ.get("MPLCONFIGDIR"):
        return
    try:
        folder = private_folder(private_cache_folder() / "fonts")
    except (CacheError, OSError):
        folder = _scratch_folder()
    os.environ["MPLCONFIGDIR"] = str(folder)


def _scratch_folder() -> Path:
    """A folder that is deleted when the process ends."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="skipway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _make_ancestors(folder: Path) -> None:
    """Make a folder and those above it, as far as they are missing, with mode 0700. Raises CacheError."""
    missing: list[Path] = []
    for part in (folder, *folder.parents):
        if part.exists():
            break
        missing.append(part)
    for part in reversed(missing):
        try:
            part.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_be_made(part, error) from None


def _require_safe_ancestor(folder: Path) -> None:
    """Raises CacheError for a folder above the cache in which others could replace the cache.

    They can in a folder that everybody can write to, except in a sticky one such as /tmp: there nobody can rename the
    files of another user.
    """
    if os.name != "posix":
        return
    facts = folder.stat()
    is_trusted = is_ours(facts) or facts.st_uid == 0
    if not is_trusted:
        raise CacheError(f"{folder}, above the cache, belongs to another user (number {facts.st_uid}); {_FIX}")
    everybody_can_write = facts.st_mode & stat.S_IWOTH
    is_sticky = facts.st_mode & stat.S_ISVTX
    if everybody_can_write and not is_sticky:
        raise CacheError(f"everybody can write to {folder}, above the cache; {_FIX} elsewhere")


def _cannot_be_made(folder: Path, error: OSError) -> CacheError:
    """The error for a folder that the system does not let us make."""
    cause = error.strerror or error
    return CacheError(f"the cache folder {folder} cannot be made ({cause}); {_FIX}")
