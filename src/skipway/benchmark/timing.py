"""A step, run again and again: seconds of each run, and what they come to."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of each counted batch, in order. `wanted` is how many there were to be: fewer came when somebody stopped.

    `sd` is that of the batches themselves (divided by n), as the printed line of old has it, not an estimate of more.
    """

    seconds: tuple[float, ...]
    wanted: int

    @property
    def mean(self) -> float:
        return statistics.fmean(self.seconds)

    @property
    def sd(self) -> float:
        return statistics.pstdev(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The time that 95 % of the batches stay within, between two of them by a straight line."""
        return float(np.percentile(self.seconds, 95))

    @property
    def stopped(self) -> bool:
        return len(self.seconds) < self.wanted

    def to_dict(self) -> dict[str, float]:
        """The four figures, in seconds."""
        return {"mean": self.mean, "sd": self.sd, "median": self.median, "p95": self.p95}


def time_steps(step: Callable[[], object], *, warmup: int, steps: int, device: torch.device, tell: Tell) -> Timing:
    """Run `step` `warmup` times unseen, then `steps` times under the clock, `tell(done, total)` in between.

    Each time ends when the device has done what the step asked of it. Collection of garbage waits until the end. Ctrl-C
    ends the counting early; before the first counted step it passes through.
    """
    total = warmup + steps
    for number in range(warmup):
        step()
        tell(number + 1, total)
    finish(device)
    seconds: list[float] = []
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(steps):
            begun = time.perf_counter()
            step()
            finish(device)
            seconds.append(time.perf_counter() - begun)
            tell(warmup + number + 1, total)
    except KeyboardInterrupt:
        if not seconds:
            raise
    finally:
        if collecting:
            gc.enable()
    return Timing(tuple(seconds), steps)


def finish(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
