"""A run folder: held by one process at a time, and an older run in it kept until the new one can be resumed."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from skipway.errors import RunError
from skipway.files import storage_error, write_text
from skipway.training.state import checkpoints
from skipway.world.ranks import World, on_main

CONFIG = "config.toml"
PICTURES = "pictures.csv.gz"
BAD_FILES = "bad_files.csv"
NEW_BAD_FILES = "bad_files_new.csv"  # of a run that could not begin in the place of an older one
_LOCK = ".lock"
_HOLDER = ".holder.json"
_ASIDE = ".replaced"
_MOVED = "moved"  # a mark in it: all files of the old run are here
_DISCARDED = ".discarded"
_NAMES = (CONFIG, PICTURES, BAD_FILES, NEW_BAD_FILES, "metrics.csv", "model.safetensors", "report.html")
# Longer than it takes the workers of a killed process to see that they are alone; they may still hold its lock.
_PATIENCE_S = 10.0
_NAMELESS_S = 2.0  # longer than a holder takes to write down its name
_LOOK_S = 0.2


@contextmanager
def held(folder: Path, world: World) -> Iterator[None]:
    """Keep every other process out of a run folder, which is made if need be. One rank holds it for all.

    Raises RunError where another process has it, naming that process, and StorageError where it cannot be written.
    """
    lock = FileLock(folder / _LOCK)
    on_main(world, lambda: _acquire(lock, folder))
    try:
        yield
    finally:
        if world.main:
            (folder / _HOLDER).unlink(missing_ok=True)
            lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        _wait(lock, folder)
    except OSError as error:
        raise storage_error(folder, error) from None
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    holder = {"process": os.getpid(), "machine": socket.gethostname(), "since": now}
    write_text(folder / _HOLDER, json.dumps(holder))


def _wait(lock: FileLock, folder: Path) -> None:
    """Take a lock that another process has, once that is free: its holder may have died and left workers behind, or has
    not written down its name yet. Raises RunError where the holder lives."""
    began = time.monotonic()
    while True:
        holder = _holder(folder)
        if holder is not None and _lives(*holder):
            raise _in_use(folder, holder)
        try:
            lock.acquire(timeout=_LOOK_S)
            return
        except Timeout:
            patience = _NAMELESS_S if holder is None else _PATIENCE_S
            if time.monotonic() - began > patience:
                raise _in_use(folder, holder) from None


def _holder(folder: Path) -> tuple[int, str, str] | None:
    """Process, machine and time that the holder wrote down; None where it has not, or where that is unreadable."""
    try:
        plain = json.loads((folder / _HOLDER).read_bytes()[:1000])
        return int(plain["process"]), str(plain["machine"]), str(plain["since"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _lives(process: int, machine: str, since: str) -> bool:  # noqa: ARG001 (all that a holder wrote)
    if machine != socket.gethostname():
        return True  # another machine's processes cannot be seen from here
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _in_use(folder: Path, holder: tuple[int, str, str] | None) -> RunError:
    who = "another process" if holder is None else f"process {holder[0]} on {holder[1]}, since {holder[2]}"
    return RunError(f"{folder} is in use by {who}; wait for it or stop it, or give another --out")


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """RunError where a run lives in the folder and may not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; give another --out")
    if overwrite:
        return
    if (folder / CONFIG).exists() or (folder / _ASIDE).exists():
        raise RunError(f"{folder} holds a run already; `skipway resume {folder}`, another --out, or --overwrite")
    there = [file.name for file in written_by_a_run(folder) if file.name not in {BAD_FILES, NEW_BAD_FILES}]
    if there:
        raise RunError(f"{folder} holds {there[0]}, which a run would replace; give another --out, or --overwrite")


def written_by_a_run(folder: Path) -> list[Path]:
    """What a run writes, as far as it is there. Nothing else in the folder is ever touched."""
    found = [folder / name for name in _NAMES if (folder / name).is_file()]
    return [*found, *folder.glob("events.out.tfevents.*"), *checkpoints(folder)]


def set_aside(folder: Path) -> Path:
    """Where an older run lies while a new one begins; the folder itself where there is none."""
    aside = folder / _ASIDE
    return aside if (aside / CONFIG).is_file() and not aside.is_symlink() else folder


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Set the run in `folder` aside while a new one begins there; the block ends with its first checkpoint.

    An error inside puts the old run back as it was. So does `put_back`, later, where the process was killed inside.
    """
    put_back(folder)
    old = written_by_a_run(folder)
    if not old:
        yield
        return
    aside = folder / _ASIDE
    _move(old, folder, aside)
    write_text(aside / _MOVED, "")
    try:
        yield
    except BaseException:
        _restore(folder)
        raise
    aside.rename(folder / _DISCARDED)  # from here on the new run is the run
    shutil.rmtree(folder / _DISCARDED, ignore_errors=True)


def put_back(folder: Path) -> bool:
    """Bring back a run that was set aside for one that did not begin; True where there was one. Call it with the folder
    held."""
    discarded, aside = folder / _DISCARDED, folder / _ASIDE
    if discarded.is_dir() and not discarded.is_symlink():
        shutil.rmtree(discarded, ignore_errors=True)
    if not aside.is_dir() or aside.is_symlink():
        return False
    _restore(folder)
    return True


def _restore(folder: Path) -> None:
    """Bring the files of the old run back, from wherever a kill has left them.

    Only when all of them were aside can a file in the folder be the new run's. The mark of that goes before the first
    of them comes back.
    """
    aside = folder / _ASIDE
    if (aside / _MOVED).exists():
        for file in written_by_a_run(folder):
            file.unlink()
        (aside / _MOVED).unlink()
    _move(written_by_a_run(aside), aside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _move(files: list[Path], source: Path, to: Path) -> None:
    """Rename files of one folder into another, on the same disk. Raises RunError, with all of them where they were."""
    moved: list[tuple[Path, Path]] = []
    try:
        for file in files:
            place = to / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
            moved.append((file, place))
    except OSError as error:
        for file, place in reversed(moved):
            place.rename(file)
        raise RunError(f"{source} cannot be changed ({error.strerror}); nothing was overwritten") from None
