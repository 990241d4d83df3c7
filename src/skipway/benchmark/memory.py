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
        """Start at the memory that is in use now, after earlier work has given its own back."""
        self.device = device
        release(device)
        if device.type == "cuda":
            self._start = torch.cuda.memory_allocated(device)
        else:
            self._start = _status("VmRSS")
        self._before: int | None = None

    def watch(self) -> None:
        """Forget what was reached until now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            (PROCESS / "clear_refs").write_text("5")
        except OSError:
            # Not Linux, or not allowed: only a rise above all that was before can be seen.
            self._before = _highest()

    def rise(self) -> int | None:
        """Bytes between the start and the highest point since `watch`; None where the system does not say."""
        if self.device.type == "cuda":
            highest = torch.cuda.max_memory_allocated(self.device)
            return highest - self._start
        highest = _highest()
        if not self._start or highest == self._before:
            return None
        return max(highest - self._start, 0)


def _highest() -> int:
    """The process's highest resident memory in bytes, since the last reset where there was one."""
    highest = _status("VmHWM")
    if highest:
        return highest
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform != "darwin":  # there in bytes, elsewhere in KiB
        peak *= 1024
    return peak


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes, 0 where there is none."""
    try:
        text = (PROCESS / "status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            kibibytes = int(line.split()[1])
            return 1024 * kibibytes
    return 0


def release(device: torch.device) -> None:
    """Give back the memory of earlier work. With it, the next measurement would start too high."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        library = ctypes.CDLL(None)
        trim = getattr(library, "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


@dataclass(frozen=True)
class Need:
    """A lower bound of the memory that a step takes, in bytes: `fixed`, and `each` for every picture."""

    fixed: int
    each: int

    def of(self, batch_size: int) -> int:
        """The bytes for a batch of this size."""
        return self.fixed + self.each * batch_size


def least_need(spec: Spec, *, mode: str, precision: str) -> Need:
    """The memory that a step of a network takes at least.

    A forward pass (`mode` "forward") holds the weights, the pictures and the largest map. A training step ("train")
    holds the weights with their gradients and moments, and all maps that the gradients need.
    """
    size = BYTES[precision]
    picture = 4 * spec.in_channels * spec.input_size**2
    network = on_meta(spec)
    weights = parameters_of(network)
    if mode == "train":
        each = activation_bytes(spec, 3) - activation_bytes(spec, 2)
        fixed = 3 * 4 * weights  # weights, gradients and a moment, all in fp32
        return Need(fixed, picture + each * size // 4)
    activations = trace(network).values()
    largest = max(math.prod(activation.shape) for activation in activations)
    return Need(size * weights, picture + size * largest)


def available(device: torch.device) -> int | None:
    """Bytes of memory in all, of the machine or the CUDA device; None where unknown."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return int(properties.total_memory)
    return memory_limit()


def largest_half(runs: Callable[[int], bool], batch_size: int) -> int:
    """The first of half the batch, a quarter and so on that `runs`; 0 where not even one picture does."""
    smaller = batch_size // 2
    while smaller > 0:
        if runs(smaller):
            return smaller
        smaller //= 2
    return 0
