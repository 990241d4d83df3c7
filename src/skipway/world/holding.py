"""A folder that one process at a time writes to."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from skipway.errors import RunError
from skipway.files import storage_error, write_text
from skipway.world.ranks import World, on_main

_LOCK = ".lock"
_HOLDER = ".holder.json"
# Longer than it takes the workers of a killed process to see that they are alone; they may still hold its lock.
_PATIENCE_S = 10.0
_NAMELESS_S = 2.0  # longer than a holder takes to write down its name
_LOOK_S = 0.2


@contextmanager
def held(folder: Path, world: World | None = None) -> Iterator[None]:
    """Keep every other process out of a folder, which is made if need be. One rank of `world` holds it for all; without
    a world this process holds it for itself.

    The system opens the lock of a process that ends. Raises RunError where another process has it, naming that process,
    and StorageError where it cannot be written.
    """
    lock = FileLock(folder / _LOCK)
    if world is None:
        _acquire(lock, folder)
    else:
        on_main(world, lambda: _acquire(lock, folder))
    try:
        yield
    finally:
        if world is None or world.main:
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
