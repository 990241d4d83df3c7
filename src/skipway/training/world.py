"""Who else trains along: the rank and world size that torchrun sets, or this process alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from skipway.errors import SkipwayError
from skipway.inference.classifier import pick_device

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among `size`. Only the `main` one writes files and prints."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        return self.rank == 0

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
    outcome: list[Any] = [None, None]
    if world.main:
        try:
            outcome[0] = work()
        except SkipwayError as error:
            outcome[1] = error
    if world.size > 1:
        dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """The world of this run: torchrun's where its variables are set, else this process on `device`."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield World(0, 1, pick_device(device))
        return
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()
