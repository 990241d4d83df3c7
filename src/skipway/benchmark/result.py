"""What a measurement found, as JSON and for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from typing import Any

import torch

from skipway.benchmark.profiling import Profile
from skipway.benchmark.timing import Timing
from skipway.machine import cpu_name, usable_cores, versions
from skipway.reporting import counted, joined_lines, table

HEADER = ("engine", "precision", "batch", "mean s", "sd", "median", "p95", "pictures/s", "GFLOP/s", "peak", "of peak",
          "memory")  # fmt: skip
WORDS = {"forward": "Forward", "train": "Training"}
LIBRARIES = {"onnxruntime": "onnxruntime", "onnxruntime-int8": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Result:
    """The figures of one network with one engine, one precision and one batch size.

    `flops` are the operations of a step for one picture (see `Summary.flops`). `peak` is the machine's measured one in
    GFLOP/s, None where this precision has no product to measure it by; int8 counts operations on integers in the same
    way. `memory` is in bytes, `image_size` in pixels. `warmup` steps ran before the counted ones. `at` is when the
    last batch was done.
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
        """Pictures a second."""
        return self.batch_size / self.timing.mean

    @property
    def gflops_per_second(self) -> float:
        """Thousand millions of operations a second."""
        return self.flops * self.images_per_second / 1e9

    @property
    def share_of_peak(self) -> float | None:
        """The operations a second as a fraction of the peak; None where there is no peak."""
        if self.peak is None:
            return None
        return self.gflops_per_second / self.peak

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: times in seconds, sizes in bytes, sides in pixels, shares as fractions."""
        facts: dict[str, Any] = {
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
        }
        if self.profile is not None:
            facts["profile"] = self.profile.to_dict()
        return facts

    def line(self) -> str:
        """When, what, how often, and seconds a batch: mean and standard deviation."""
        word = WORDS[self.mode]
        timing = self.timing
        steps = counted(len(timing.seconds), "step")
        return f"{self.at}: {word} across {steps}, {timing.mean:.3f} +/- {timing.sd:.3f} sec / batch"

    def cells(self) -> tuple[str, ...]:
        """A row of the table, one text for each title of HEADER."""
        seconds = []
        for figure in self.timing.to_dict().values():
            digits = 5 if figure < 0.1 else 4
            seconds.append(f"{figure:.{digits}f}")
        peak = share = memory = "-"
        if self.peak is not None:
            peak = f"{self.peak:,.1f}"
        if self.share_of_peak is not None:
            share = f"{self.share_of_peak:.1%}"
        if self.memory is not None:
            memory = f"{self.memory / 2**20:,.0f} MiB"
        return (
            self.engine,
            self.precision,
            str(self.batch_size),
            *seconds,
            f"{self.images_per_second:,.1f}",
            f"{self.gflops_per_second:,.1f}",
            peak,
            share,
            memory,
        )


@dataclass(frozen=True)
class BenchmarkReport:
    """All that was measured; `single` where nothing else was asked for, `stopped` where Ctrl-C ended it."""

    results: tuple[Result, ...]
    single: bool
    stopped: bool

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Plain values: of the one result, or a list of them."""
        rows = [result.to_dict() for result in self.results]
        if self.single:
            return rows[0]
        return rows

    def describe(self) -> str:
        """A line for each result, then all of them as a table, then their profiles.

        A row of the table is one line, however narrow the terminal: people compare the rows.
        """
        lines = [result.line() for result in self.results]
        lines.append(_describe_subject(self.results[0]))
        rows = [result.cells() for result in self.results]
        lines += table(HEADER, rows, width=0, indent=2).split("\n")
        lines.append("  peak: the fastest large matrix product measured before and after, in GFLOP/s")
        parts = [joined_lines(lines)]
        for result in self.results:
            if result.profile is not None:
                parts.append(result.profile.describe())
        return "\n".join(parts)


def _describe_subject(result: Result) -> str:
    """A line about what all results have in common: the network, its pictures, the machine."""
    step = "a training step" if result.mode == "train" else "forward"
    side = f"{result.image_size} x {result.image_size}"
    gflops = f"{result.flops / 1e9:,.3f} GFLOPs each"
    facts = machine_facts(result.device, "")
    processor = facts["gpu"] or facts["cpu"]
    threads = facts["threads"]
    unit = "thread" if threads == 1 else "threads"
    network = f"{result.name}, {step}, pictures of {side}, {gflops}"
    return f"{network}; {processor}, {threads} {unit}, torch {torch.__version__}"


def machine_facts(device: torch.device, engine: str) -> dict[str, Any]:
    """Processor, GPU, cores that this process may use, torch's threads, and versions of what computed.

    `engine` adds the version of the library that it runs in; leave it empty for none.
    """
    found = versions(device)
    found.pop("device")
    library = LIBRARIES.get(engine)
    if library is not None:
        found[library] = metadata.version(library)
    gpu = None
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
    return {
        "cpu": cpu_name(),
        "gpu": gpu,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "versions": found,
    }
