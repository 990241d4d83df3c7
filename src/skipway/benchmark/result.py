"""What a measurement found, as JSON and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from typing import Any

import torch

from skipway.benchmark.profiling import Profile
from skipway.benchmark.timing import Timing
from skipway.machine import cpu_name, usable_cores, versions
from skipway.reporting import counted, joined_lines

HEADER = ("engine", "precision", "batch", "mean s", "sd", "median", "p95", "pictures/s", "GFLOP/s", "peak", "of peak",
          "memory")  # fmt: skip
WORDS = {"forward": "Forward", "train": "Training"}
LIBRARIES = {"onnxruntime": "onnxruntime", "onnxruntime-int8": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Result:
    """One network, one engine, one batch size. `flops` are those of the step for one picture (see `Summary.flops`).

    `peak` is the machine's measured one in GFLOP/s, None where this precision has no product to measure it by; int8
    counts operations on integers in the same way. `memory` is in bytes. `at` is when the last batch was done.
    """

    name: str
    mode: str
    engine: str
    precision: str
    batch_size: int
    image_size: int
    warmup: int
    device: torch.device
    timing: Timing
    flops: int
    peak: float | None
    memory: int | None
    at: datetime = field(default_factory=datetime.now)
    profile: Profile | None = None

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.timing.mean

    @property
    def gflops_per_second(self) -> float:
        return self.flops * self.images_per_second / 1e9

    @property
    def share_of_peak(self) -> float | None:
        return None if self.peak is None else self.gflops_per_second / self.peak

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: times in seconds, sizes in bytes, sides in pixels, shares as fractions."""
        return {
            "name": self.name,
            "mode": self.mode,
            "engine": self.engine,
            "precision": self.precision,
            "batch_size": self.batch_size,
            "image_size": self.image_size,
            "warmup": self.warmup,
            "steps": len(self.timing.seconds),
            "stopped": self.timing.stopped,
            "at": self.at.isoformat(),
            "seconds_per_batch": self.timing.to_dict(),
            "images_per_second": self.images_per_second,
            "flops_per_image": self.flops,
            "gflops_per_second": self.gflops_per_second,
            "peak_gflops_per_second": self.peak,
            "share_of_peak": self.share_of_peak,
            "peak_memory_bytes": self.memory,
            "machine": machine_facts(self.device, self.engine),
            **({} if self.profile is None else {"profile": self.profile.to_dict()}),
        }

    def line(self) -> str:
        """When, what, how often, and seconds a batch: mean and standard deviation."""
        return (
            f"{self.at}: {WORDS[self.mode]} across {counted(len(self.timing.seconds), 'step')}, "
            f"{self.timing.mean:.3f} +/- {self.timing.sd:.3f} sec / batch"
        )

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        share, memory = self.share_of_peak, self.memory
        seconds = (f"{one:.5f}" if one < 0.1 else f"{one:.4f}" for one in self.timing.to_dict().values())
        return (
            self.engine,
            self.precision,
            str(self.batch_size),
            *seconds,
            f"{self.images_per_second:,.1f}",
            f"{self.gflops_per_second:,.1f}",
            "-" if self.peak is None else f"{self.peak:,.1f}",
            "-" if share is None else f"{share:.1%}",
            "-" if memory is None else f"{memory / 2**20:,.0f} MiB",
        )


@dataclass(frozen=True)
class Report:
    """All that was measured; `single` where nothing else was asked for, `stopped` where Ctrl-C ended it."""

    results: tuple[Result, ...]
    single: bool
    stopped: bool

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Plain values: of the one result, or a list of them."""
        rows = [one.to_dict() for one in self.results]
        return rows[0] if self.single else rows

    def describe(self) -> str:
        """A line for each result, then all of them as a table, then their profiles."""
        return _told(self.results)


def _told(results: Sequence[Result]) -> str:
    first = results[0]
    facts = machine_facts(first.device, "")
    side = f"{first.image_size} x {first.image_size}"
    rows = [HEADER, *(one.cells() for one in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [one.line() for one in results]
    lines.append(
        f"{first.name}, {'a training step' if first.mode == 'train' else 'forward'}, pictures of {side}, "
        f"{first.flops / 1e9:,.3f} GFLOPs each; {facts['gpu'] or facts['cpu']}, "
        f"{facts['threads']} {'thread' if facts['threads'] == 1 else 'threads'}, torch {torch.__version__}"
    )
    for row in rows:
        texts = [f"{text:{'<' if i < 2 else '>'}{widths[i]}}" for i, text in enumerate(row)]
        lines.append(f"  {'  '.join(texts)}")
    lines.append("  peak: the fastest large matrix product measured before and after, in GFLOP/s")
    profiles = [one.profile.describe() for one in results if one.profile is not None]
    return "\n".join([joined_lines(lines), *profiles])


def machine_facts(device: torch.device, engine: str) -> dict[str, Any]:
    """Processor, GPU, cores that this process may use, torch's threads, and versions of what computed."""
    found = versions(device)
    found.pop("device")
    if (library := LIBRARIES.get(engine)) is not None:
        found[library] = metadata.version(library)
    return {
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "versions": found,
    }
