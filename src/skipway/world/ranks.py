"""Who else works along: the rank and world size that torchrun sets, or this process alone."""

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

# Words of gloo's and NCCL's own errors, which have no class to tell them by.
_BROKEN = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """This process among `size`. Only the `main` one writes files and prints."""

    rank: int
    size: int
    device: torch.device
    watch: Watch | None = field(default=None, repr=False, compare=False)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def advise(self, fix: str) -> None:
        """What to do when a rank is lost from now on, as the end of a line."""
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
        return [float(one) for one in shared.tolist()]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the main one's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def any(self, flag: bool) -> bool:  # noqa: FBT001 (a predicate over ranks)
        """Whether the flag is set on any rank."""
        return self.largest(int(flag)) > 0


def on_main(world: World, work: Callable[[], T]) -> T:
    """What `work` gives on the main rank. Its SkipwayError is raised on every rank, so that none waits for it."""
    if world.size == 1:
        return work()
    outcome: list[Any] = [None, None]
    failure: SkipwayError | None = None
    if world.main:
        try:
            outcome[0] = work()
        except SkipwayError as error:
            failure, outcome[1] = error, str(error)  # as text: errors with arguments of their own do not travel
    dist.broadcast_object_list(outcome, 0, device=world.device)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise SkipwayError(outcome[1])
    result: T = outcome[0]
    return result


def world_size() -> int:
    """How many processes were started for this task: 1, or what torchrun sets. Raises SkipwayError."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise SkipwayError(f"the environment sets WORLD_SIZE to '{text}'; unset it, or start with torchrun")
    return int(text)


def local_size() -> int:
    """How many of them share this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(text) if text.isdecimal() and int(text) > 0 else world_size()


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """The world of this task: torchrun's where its variables are set, else this process on `device`.

    Every rank must enter. When another one is lost, this process ends with LostRankError, or, where it waits for the
    lost one, at once with the same line and exit code 2.
    """
    if world_size() == 1:
        yield World(0, 1, pick_device(device))
        return
    chosen = _own_device(device)
    if dist.is_initialized():  # by the script that called us, which then looks after its ranks
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
        return
    _begin(chosen)
    watch = Watch(dist.get_rank(), dist.get_world_size())
    try:
        dist.barrier()  # every rank beats before any looks
        watch.start()
        yield World(dist.get_rank(), dist.get_world_size(), chosen, watch)
        dist.barrier()  # none leaves, and with rank 0 the store, before all are done
    except RuntimeError as error:
        if not _broke(error):
            raise
        cause = str(error).splitlines()[0][:200]
        with _until_said():
            line = watch.explain(cause)
        raise LostRankError(line) from None
    finally:
        watch.end()
        dist.destroy_process_group()


@contextmanager
def _until_said() -> Iterator[None]:
    """SIGTERM does nothing for the moment: torchrun sends it to the ranks that are left, which have a line to say."""
    try:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:  # not the main thread: signals are not ours to handle
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _own_device(device: str) -> torch.device:
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    return chosen


def _begin(device: torch.device) -> None:
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise SkipwayError(f"WORLD_SIZE is set, and {', '.join(missing)} is not; unset it, or start with torchrun")
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (dist.DistError, ValueError) as error:
        cause = str(error).splitlines()[0][:200]
        raise SkipwayError(
            f"the {world_size()} ranks did not find each other ({cause}); start all of them, with one MASTER_ADDR and "
            "MASTER_PORT and a RANK of its own each"
        ) from None


def _broke(error: RuntimeError) -> bool:
    """Whether the error is about the connection to another rank."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in _BROKEN)
