"""A step, run again and again: seconds of each run, and what they come to."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of each counted batch, in order.

    `wanted` is how many there were to be: there are fewer where Ctrl-C came. `sd` is that of the batches themselves
    (divided by n), as the printed line of old has it, not an estimate for more of them.
    """

    seconds: tuple[float, ...]
    wanted: int

    @property
    def mean(self) -> float:
        """The mean of the batches, in seconds."""
        return statistics.fmean(self.seconds)

    @property
    def sd(self) -> float:
        """Their standard deviation, in seconds."""
        return statistics.pstdev(self.seconds)

    @property
    def median(self) -> float:
        """Their median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The time that 95 % of the batches stay within, in seconds; between two batches by a straight line."""
        return float(np.percentile(self.seconds, 95))

    @property
    def stopped(self) -> bool:
        """Whether Ctrl-C came before all batches were counted."""
        return len(self.seconds) < self.wanted

    def to_dict(self) -> dict[str, float]:
        """The four figures, in seconds."""
        return {"mean": self.mean, "sd": self.sd, "median": self.median, "p95": self.p95}


def time_steps(
    step: Callable[[], object], *, warmup: int, steps: int, device: torch.device, progress: Progress
) -> Timing:
    """Run `step` `warmup` times without the clock, then `steps` times under it.

    `progress(done, total)` is called after each of them. Each time ends when the device has done what the step asked of
    it. The garbage collector waits until the end. Ctrl-C ends the counting early; before the first counted step it
    raises KeyboardInterrupt.
    """
    total = warmup + steps
    for number in range(warmup):
        step()
        progress(number + 1, total)
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
            taken = time.perf_counter() - begun
            seconds.append(taken)
            progress(warmup + number + 1, total)
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
