"""Worker processes that decode pictures: how many there may be, and what is said when one of them is lost."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skipway.data.dataset import EncodedPictures, Split
from skipway.data.preprocessing import Preprocessing
from skipway.errors import SkipwayError
from skipway.machine import usable_cores
from skipway.reporting import agreeing, counted

MAX_WORKERS = 256  # more processes only fill the memory
SHARED_MEMORY = Path("/dev/shm")

# torch's `prefetch_factor`: batches that each worker has ready or in hand.
_AHEAD = 2
# The batch that was just taken, and the one before it, until its name is given to the next.
_HELD = 2
# Locks and counters of the queues to a worker: a page each, some ten of them.
_QUEUES = 64 * 1024
_PAGE = 4096
_DEATH = re.compile(r"DataLoader worker \(pid")


def require_workers(count: int) -> None:
    """Raises SkipwayError for a number of workers that makes no sense: each is a process of some 200 MB."""
    if not -1 <= count <= MAX_WORKERS:
        raise SkipwayError(f"{count:,} workers were asked for; give 0 to {MAX_WORKERS}, or -1 to have it chosen")


def default_workers(split: Split, cores: int, *, cuda: bool) -> int:
    """Worker processes for a split: none for arrays, where a copy costs more than it hides."""
    if not isinstance(split.pictures, EncodedPictures):
        return 0
    # On a CPU the network needs the cores; decoding for it takes a fraction of one.
    return min(cores, 16) if cuda else max(cores // 2, 1)


def pick_workers(
    asked: int, split: Split, batch: int, say: Callable[[str], None], *, cuda: bool, processes: int = 1
) -> int:
    """Worker processes: as asked, or (-1) as fits the split and the device, but no more than `fitting_workers` has
    room for. Raises SkipwayError."""
    require_workers(asked)
    count = asked if asked >= 0 else default_workers(split, usable_cores(), cuda=cuda)
    return fitting_workers(count, batch, say, processes=processes)


def batch_bytes(preprocessing: Preprocessing, batch_size: int) -> int:
    """What a batch takes in the memory that a worker shares with the main process."""
    item = 4 if preprocessing.floating else 1
    pixels = batch_size * preprocessing.depth * preprocessing.size**2 * item
    numbers = 8 * batch_size  # targets, and as many indices: int64
    return _whole_pages(pixels) + 2 * _whole_pages(numbers)


def shared_bytes(count: int, batch: int) -> int:
    """What `count` workers need of the shared memory when each batch takes `batch` bytes."""
    return (_AHEAD * count + _HELD) * batch + count * _QUEUES


def fitting_workers(
    count: int, batch: int, say: Callable[[str], None], *, processes: int = 1, folder: Path = SHARED_MEMORY
) -> int:
    """At most `count` workers: as many as the shared memory of this machine has room for, which `say` is told.

    `batch` is the bytes of the batches that a worker makes, one of each kind; `processes` of this task share the room.
    """
    room = _room(folder)
    if count <= 0 or room is None:
        return count
    fitting = count
    while fitting and processes * shared_bytes(fitting, batch) > room:
        fitting -= 1
    if fitting < count:
        has = f"has room for {_mebibytes(room)}" if room else "is absent or cannot be written"
        decode = (
            f"{fitting} of them {agreeing(fitting, 'decodes', 'decode')} pictures"
            if fitting
            else "the main process decodes pictures itself"
        )
        needed = _mebibytes(processes * shared_bytes(count, batch))
        say(
            f"{folder} {has}, and {counted(count, 'worker process')} {agreeing(count, 'needs', 'need')} {needed}: "
            f"{decode} (`docker run --shm-size 1g` makes it larger)"
        )
    return fitting


def _room(folder: Path) -> int | None:
    """Bytes that may be shared between processes; None where that is no matter of a folder."""
    if not folder.parent.is_dir() or not hasattr(os, "statvfs"):
        return None
    if not folder.is_dir():
        return 0 if os.uname().sysname == "Linux" else None
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    if not os.access(folder, os.W_OK | os.X_OK):  # also where it is mounted read-only
        return 0
    return found.f_bavail * found.f_frsize


def _whole_pages(count: int) -> int:
    return -(-count // _PAGE) * _PAGE


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.2f} MiB"


@contextmanager
def starting_workers() -> Iterator[None]:
    """Around whatever starts worker processes: refuses where that would never end, and says in one line when a worker
    is lost. Raises SkipwayError."""
    require_main_guard()
    try:
        yield
    except RuntimeError as error:
        line = _lost(f"{error}; {error.__cause__}")  # which of the two names the signal depends on who saw it first
        if line is None:
            raise
        raise SkipwayError(line) from None


def require_main_guard() -> None:
    """Raises SkipwayError in a process that is still importing the script that began the work.

    Where workers are started afresh (spawn, forkserver), each first runs the script from its top. Without a guard it
    would begin the same work again, in the same folder.
    """
    # Set while a new process imports the main module; Python's own check before a start of a process reads it, too.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SkipwayError(
            "a worker process runs the script again and would begin the same work; put what the script does under "
            "`if __name__ == '__main__':`, or give workers=0"
        )


def _lost(text: str) -> str | None:
    """What to say about an error of torch's loader; None where it is about something else."""
    if "DataLoader worker" not in text:
        return None
    if "shared memory" in text or "Bus error" in text:
        return (
            f"a worker process found no room in the shared memory {SHARED_MEMORY}; give --workers 0, or make it larger"
        )
    if not _DEATH.search(text):
        return None
    if "signal: Killed" in text:
        return (
            "a worker process was killed, most likely for lack of memory; give --workers 0, or fewer of them, or a "
            "smaller --batch-size"
        )
    told = " ".join(text.splitlines()[0].removesuffix("; None").split())
    return (
        f"a worker process ended ({told}); give --workers 0, and, in a script, put what it does under "
        "`if __name__ == '__main__':`"
    )
