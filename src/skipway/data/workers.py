"""Worker processes that decode pictures: how many there may be, and the message when one of them ends too early."""

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
_MOST_FOR_GPU = 16  # worker processes by default

# torch's `prefetch_factor`: batches that each worker has made or is making.
_BATCHES_AHEAD = 2
# Batches that the main process holds: the last one that it took, and the one before, until the next replaces it.
_BATCHES_HELD = 2
# Locks and counters of the queues to a worker: some ten of them, one page each.
_QUEUES_SIZE = 64 * 1024
_PAGE = 4096
_WORKER_ENDED = re.compile(r"DataLoader worker \(pid")


def require_workers(count: int) -> None:
    """Raises SkipwayError for a number of workers that cannot be meant: each is a process of some 200 MB."""
    if not -1 <= count <= MAX_WORKERS:
        raise SkipwayError(f"{count:,} workers were asked for; give 0 to {MAX_WORKERS}, or -1 to have it chosen")


def default_workers(split: Split, cores: int, *, cuda: bool) -> int:
    """The number of worker processes for a split where the user gives none.

    Arguments:
        split: the pictures. Arrays need no workers: a copy between processes takes longer than what they would do.
        cores: that this process may use.
        cuda: whether the network runs on a GPU. On a CPU it needs the cores itself, and decoding a part of one.
    """
    if not isinstance(split.pictures, EncodedPictures):
        return 0
    if cuda:
        return min(cores, _MOST_FOR_GPU)
    return max(cores // 2, 1)


def pick_workers(
    asked: int, split: Split, batch: int, say: Callable[[str], None], *, cuda: bool, processes: int = 1
) -> int:
    """The number of worker processes for a split.

    Arguments:
        asked: the user's number, or -1 to choose it by the split and the device.
        split, cuda: see `default_workers`.
        batch, say, processes: see `fitting_workers`, which limits the number.

    Raises SkipwayError for a number that cannot be meant.
    """
    require_workers(asked)
    count = asked
    if asked < 0:
        count = default_workers(split, usable_cores(), cuda=cuda)
    return fitting_workers(count, batch, say, processes=processes)


def batch_bytes(preprocessing: Preprocessing, batch_size: int) -> int:
    """The bytes of a batch in the memory that a worker shares with the main process."""
    value_size = 4 if preprocessing.floating else 1
    pixels = batch_size * preprocessing.depth * preprocessing.size**2 * value_size
    targets = indices = 8 * batch_size  # int64
    return _whole_pages(pixels) + _whole_pages(targets) + _whole_pages(indices)


def shared_bytes(count: int, batch: int) -> int:
    """The bytes of shared memory that `count` workers need for batches of `batch` bytes."""
    batches = _BATCHES_AHEAD * count + _BATCHES_HELD
    return batches * batch + count * _QUEUES_SIZE


def fitting_workers(
    count: int, batch: int, say: Callable[[str], None], *, processes: int = 1, folder: Path = SHARED_MEMORY
) -> int:
    """The number of workers, at most `count`, for which this machine has enough shared memory.

    Arguments:
        count: the number that is wanted.
        batch: bytes of the batches that a worker makes, one of each kind.
        say: is called with a message where fewer workers fit than are wanted.
        processes: how many processes like this one share the memory.
        folder: where the system shows the shared memory.
    """
    room = _room(folder)
    if count <= 0 or room is None:
        return count
    fitting = count
    while fitting > 0 and processes * shared_bytes(fitting, batch) > room:
        fitting -= 1
    if fitting < count:
        problem = "is absent or cannot be written"
        if room > 0:
            problem = f"has room for {_mebibytes(room)}"
        needed = processes * shared_bytes(count, batch)
        result = "the main process decodes pictures itself"
        if fitting > 0:
            decode = agreeing(fitting, "decodes", "decode")
            result = f"{fitting} of them {decode} pictures"
        workers = counted(count, "worker process")
        need = agreeing(count, "needs", "need")
        say(
            f"{folder} {problem}, and {workers} {need} {_mebibytes(needed)}: "
            f"{result} (`docker run --shm-size 1g` makes it larger)"
        )
    return fitting


def _room(folder: Path) -> int | None:
    """Bytes that can be shared between processes; None where the system does not use a folder for that."""
    if not folder.parent.is_dir() or not hasattr(os, "statvfs"):
        return None
    if not folder.is_dir():
        is_linux = os.uname().sysname == "Linux"
        return 0 if is_linux else None
    try:
        facts = os.statvfs(folder)
    except OSError:
        return 0
    # Not even root can write where the folder is mounted read-only.
    is_writable = os.access(folder, os.W_OK | os.X_OK)
    if not is_writable:
        return 0
    return facts.f_bavail * facts.f_frsize


def _whole_pages(size: int) -> int:
    """Bytes, rounded up to whole pages of memory."""
    pages = -(-size // _PAGE)
    return pages * _PAGE


def _mebibytes(size: int) -> str:
    """Bytes as a text in MiB."""
    return f"{size / 2**20:,.2f} MiB"


@contextmanager
def starting_workers() -> Iterator[None]:
    """A context for whatever starts worker processes.

    Raises SkipwayError where the workers would start the same work without end, and, with a message of one line, where
    a worker ends too early.
    """
    require_main_guard()
    try:
        yield
    except RuntimeError as error:
        # Which of the two errors names the signal depends on who noticed the end first.
        message = _message_for(f"{error}; {error.__cause__}")
        if message is None:
            raise
        raise SkipwayError(message) from None


def require_main_guard() -> None:
    """Raises SkipwayError in a process that is still importing the script that began the work.

    Where workers are started afresh (spawn, forkserver), each first runs the script from its top. Without a guard it
    would begin the same work again, in the same folder.
    """
    # Python sets this while a new process imports the main module, and checks it itself before it starts a process.
    is_importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    if is_importing:
        raise SkipwayError(
            "a worker process runs the script again and would begin the same work; put what the script does under "
            "`if __name__ == '__main__':`, or give workers=0"
        )


def _message_for(text: str) -> str | None:
    """The message for an error of torch's loader; None where it is not about a worker's end."""
    if "DataLoader worker" not in text:
        return None
    if "shared memory" in text or "Bus error" in text:
        return (
            f"a worker process found no room in the shared memory {SHARED_MEMORY}; give --workers 0, or make it larger"
        )
    if _WORKER_ENDED.search(text) is None:
        return None
    if "signal: Killed" in text:
        return (
            "a worker process was killed, most likely for lack of memory; give --workers 0, or fewer of them, or a "
            "smaller --batch-size"
        )
    first_line = text.splitlines()[0].removesuffix("; None")
    cause = " ".join(first_line.split())
    return (
        f"a worker process ended ({cause}); give --workers 0, and, in a script, put what it does under "
        "`if __name__ == '__main__':`"
    )
