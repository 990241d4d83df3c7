"""Memory of a measurement: how high it rose, whether it was enough, and how many pictures would have fitted."""

from __future__ import annotations

import ctypes
import gc
import math
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from skipway.drawing.counting import activation_bytes, parameters_of
from skipway.drawing.tracing import on_meta, trace
from skipway.machine import memory_limit
from skipway.models.network import Spec

PROCESS = Path("/proc/self")
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


class HighWater:
    """How far the process's resident memory, or that of the CUDA device, rises above where it stands now."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        release(device)
        self._start = torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")
        self._before: int | None = None

    def watch(self) -> None:
        """Forget what was reached until now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            (PROCESS / "clear_refs").write_text("5")
        except OSError:  # not Linux, or not allowed: only a rise above all that was before can be seen
            self._before = _highest()

    def rise(self) -> int | None:
        """Bytes between the start and the highest point since `watch`, None where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self._start
        highest = _highest()
        if not self._start or highest == self._before:
            return None
        return max(highest - self._start, 0)


def _highest() -> int:
    """The process's highest resident memory in bytes, since the last reset where there was one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return _status("VmHWM") or peak


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes, 0 where there is none."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def release(device: torch.device) -> None:
    """Give back what earlier work left behind, or the next measurement would start too high."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


@dataclass(frozen=True)
class Need:
    """A lower bound of the memory that a step takes, in bytes: `fixed`, and `each` picture's."""

    fixed: int
    each: int

    def of(self, batch_size: int) -> int:
        """For so many pictures."""
        return self.fixed + self.each * batch_size


def least_need(spec: Spec, *, mode: str, precision: str) -> Need:
    """Of a forward pass: weights, pictures and the largest map; of a training step: all that its gradients need."""
    size = BYTES[precision]
    picture = 4 * spec.in_channels * spec.input_size**2
    weights = parameters_of(on_meta(spec))
    if mode == "train":  # weights, gradients and a moment in fp32
        each = activation_bytes(spec, 3) - activation_bytes(spec, 2)
        return Need(12 * weights, picture + each * size // 4)
    largest = max(math.prod(one.shape) for one in trace(on_meta(spec)).values())
    return Need(size * weights, picture + size * largest)


def available(device: torch.device) -> int | None:
    """Bytes of memory in all, of the machine or the CUDA device; None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory_limit()


def largest_half(runs: Callable[[int], bool], batch_size: int) -> int:
    """The first of half the batch, a quarter and so on that `runs`; 0 where not even one picture does."""
    while batch_size := batch_size // 2:
        if runs(batch_size):
            return batch_size
    return 0
