"""A folder that one process at a time writes to."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
    """Keep every other process out of a folder, which is made if need be.

    The main rank of `world` holds it for all ranks; without a world this process holds it for itself. When a process
    ends, the system frees its lock. Raises RunError, which names the process, where another one holds the folder, and
    StorageError where the folder cannot be written.
    """
    lock = FileLock(folder / _LOCK)
    if world is None:
        _acquire(lock, folder)
    else:
        on_main(world, lambda: _acquire(lock, folder))
    try:
        yield
    finally:
        is_holder = world is None or world.main
        if is_holder:
            (folder / _HOLDER).unlink(missing_ok=True)
            lock.release()


@dataclass(frozen=True)
class _Holder:
    """The process that holds a folder, as it wrote itself down."""

    process: int
    machine: str
    since: str  # ISO 8601


def _acquire(lock: FileLock, folder: Path) -> None:
    """Take the lock and write down who has it. Raises RunError and StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        _wait(lock, folder)
    except OSError as error:
        raise storage_error(folder, error) from None
    now = datetime.datetime.now().astimezone()
    holder = _Holder(os.getpid(), socket.gethostname(), now.isoformat(timespec="seconds"))
    write_text(folder / _HOLDER, json.dumps(asdict(holder)))


def _wait(lock: FileLock, folder: Path) -> None:
    """Take a lock that another process has, once it is free.

    The holder may have died and left workers behind, or may not have written down its name yet. Raises RunError where
    the holder lives.
    """
    began = time.monotonic()
    while True:
        holder = _read_holder(folder)
        if holder is not None and _lives(holder):
            raise _in_use(folder, holder)
        try:
            lock.acquire(timeout=_LOOK_S)
            return
        except Timeout:
            patience = _NAMELESS_S if holder is None else _PATIENCE_S
            waited = time.monotonic() - began
            if waited > patience:
                raise _in_use(folder, holder) from None


def _read_holder(folder: Path) -> _Holder | None:
    """The process that wrote itself down; None where none has, or where that is unreadable."""
    try:
        content = (folder / _HOLDER).read_bytes()
        plain = json.loads(content[:1000])
        return _Holder(int(plain["process"]), str(plain["machine"]), str(plain["since"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _lives(holder: _Holder) -> bool:
    """Whether a process still runs, as far as can be seen from here."""
    if holder.machine != socket.gethostname():
        return True  # another machine's processes cannot be seen from here
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _in_use(folder: Path, holder: _Holder | None) -> RunError:
    who = "another process"
    if holder is not None:
        who = f"process {holder.process} on {holder.machine}, since {holder.since}"
    return RunError(f"{folder} is in use by {who}; wait for it or stop it, or give another --out")
