"""The processes that train together: the rank and world size that torchrun sets, or this process alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from skipway.errors import LostRankError, SkipwayError
from skipway.machine import pick_device
from skipway.world.watch import Watch

T = TypeVar("T")

# Words of gloo's and NCCL's errors of the connection, which have no class of their own.
_BROKEN = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """This process among `size`. Only the `main` one writes files and prints."""

    rank: int  # from 0
    size: int
    device: torch.device
    watch: Watch | None = field(default=None, repr=False, compare=False)  # None where nobody watches the ranks

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def advise(self, fix: str) -> None:
        """Set what to do when a rank is lost from now on, as the end of a message."""
        if self.watch is not None:
            self.watch.fix = fix

    def barrier(self) -> None:
        """Wait for the others, if any."""
        if self.size > 1:
            dist.barrier()

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.size == 1:
            return number
        shared = torch.tensor([number], dtype=torch.int64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared.item())

    def summed(self, *numbers: float) -> list[float]:
        """Each number summed over the ranks."""
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        sums: list[float] = shared.tolist()
        return sums

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the main one's values."""
        if self.size == 1:
            return
        for tensor in tensors:
            dist.broadcast(tensor, 0)

    def any(self, flag: bool) -> bool:  # noqa: FBT001 (a predicate over ranks)
        """Whether the flag is set on any rank."""
        return self.largest(int(flag)) > 0


def on_main(world: World, work: Callable[[], T]) -> T:
    """What `work` returns on the main rank. Its SkipwayError is raised on every rank, so that none waits for it."""
    if world.size == 1:
        return work()
    result: Any = None
    failure: SkipwayError | None = None
    message: str | None = None
    if world.main:
        try:
            result = work()
        except SkipwayError as error:
            failure = error
            message = str(error)  # errors with arguments of their own cannot be sent, texts can
    outcome = [result, message]
    dist.broadcast_object_list(outcome, 0, device=world.device)
    result, message = outcome
    if failure is not None:
        raise failure
    if message is not None:
        raise SkipwayError(message)
    answer: T = result
    return answer


def world_size() -> int:
    """How many processes were started for this task: 1, or what torchrun sets. Raises SkipwayError."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not _is_count(text):
        raise SkipwayError(f"the environment sets WORLD_SIZE to '{text}'; unset it, or start with torchrun")
    return int(text)


def local_size() -> int:
    """How many of them share this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    if not _is_count(text):
        return world_size()
    return int(text)


def _is_count(text: str) -> bool:
    """Whether a text is a whole number from 1 up."""
    return text.isdecimal() and int(text) >= 1


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """The world of this task: torchrun's where its variables are set, else this process on `device`.

    Every rank must enter. When another one is lost, this process ends with LostRankError. Where it waits for the lost
    one, it ends at once, with the same message and exit code 2. Raises SkipwayError where the ranks cannot be joined.
    """
    if world_size() == 1:
        yield World(0, 1, pick_device(device))
        return
    own_device = _own_device(device)
    if dist.is_initialized():  # by the calling script, which then watches its ranks itself
        yield World(dist.get_rank(), dist.get_world_size(), own_device)
        return
    _join_group(own_device)
    rank, size = dist.get_rank(), dist.get_world_size()
    watch = Watch(rank, size)
    try:
        dist.barrier()  # every rank has set its number before any rank looks at it
        watch.start()
        yield World(rank, size, own_device, watch)
        dist.barrier()  # no rank leaves before all are done: with rank 0 the store would go
    except RuntimeError as error:
        if not _is_of_connection(error):
            raise
        with _without_sigterm():
            message = watch.explain(_first_line(error))
        raise LostRankError(message) from None
    finally:
        watch.end()
        dist.destroy_process_group()


@contextmanager
def _without_sigterm() -> Iterator[None]:
    """Ignore SIGTERM during the block: torchrun sends it to the ranks that are left, which still have to explain."""
    try:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:  # outside the main thread Python lets nobody handle signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _own_device(name: str) -> torch.device:
    """The device of this rank: of several GPUs, the one with the rank's number on its machine."""
    device = pick_device(name)
    if device.type != "cuda":
        return device
    index = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def _join_group(device: torch.device) -> None:
    """Join the process group of torchrun. Raises SkipwayError."""
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise SkipwayError(f"WORLD_SIZE is set, and {', '.join(missing)} is not; unset it, or start with torchrun")
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend)
    except (dist.DistError, ValueError) as error:
        cause = _first_line(error)
        raise SkipwayError(
            f"the {world_size()} ranks did not find each other ({cause}); start all of them, with one MASTER_ADDR and "
            "MASTER_PORT and a RANK of its own each"
        ) from None


def _first_line(error: Exception) -> str:
    """The first line of an error's text, 200 characters at most."""
    lines = str(error).splitlines()
    return lines[0][:200]


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether the error is about the connection to another rank."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in _BROKEN)
