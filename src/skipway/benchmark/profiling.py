"""Where a step's time goes: a trace for a browser, and the costliest layers or operators."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from skipway.benchmark.timing import finish
from skipway.files import write_whole
from skipway.models.network import Network
from skipway.reporting import escaped

COSTLIEST = 10
PROFILED = 5  # steps


@dataclass(frozen=True)
class Cost:
    """A layer by its name in the network, or an operator: seconds a step, their share of the step.

    `gflops_per_second` is None where no operations are counted (see `Summary.flops`), and for operators.
    """

    name: str
    seconds: float
    share: float
    gflops_per_second: float | None = None


@dataclass(frozen=True)
class Profile:
    """`costs` of `what`, the costliest first; `trace` opens in chrome://tracing or ui.perfetto.dev."""

    what: str
    trace: Path
    costs: tuple[Cost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"what": self.what, "trace": str(self.trace), "costs": [asdict(one) for one in self.costs]}

    def describe(self) -> str:
        """The costs as a table."""
        width = max(len(one.name) for one in self.costs)
        lines = [escaped(f"{self.what}; trace in {self.trace}")]
        for one in self.costs:
            rate = "" if one.gflops_per_second is None else f"  {one.gflops_per_second:9,.1f} GFLOP/s"
            lines.append(f"  {one.name:{width}}  {one.seconds * 1000:10.3f} ms  {one.share:6.1%}{rate}")
        return "\n".join(lines)


def profile_forward(network: Network, inputs: Tensor, trace: Path, *, precision: str) -> Profile:
    """The costliest layers of a forward pass in eager mode, batch normalization not folded; fp32 stands for int8.

    `network` is on the device of `inputs`, channels last. Raises StorageError where the trace cannot be written.
    """
    device = inputs.device
    half = precision == "bf16"

    def step() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            network(inputs)
            finish(device)

    costs = layer_costs(network, step, device)
    with _named_layers(network, lambda name: record_function(name)):
        _traced(step, device, trace)
    kind = "bf16" if half else "fp32"
    return Profile(f"the costliest layers of a forward pass in eager {kind}", trace, tuple(costs[:COSTLIEST]))


def profile_training(step: Callable[[], object], device: torch.device, trace: Path) -> Profile:
    """The costliest operators of a training step, each without those that it calls. Raises StorageError."""
    step()
    events = _traced(step, device, trace).key_averages()
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    seconds = {one.key: getattr(one, kind) / 1e6 / PROFILED for one in events}
    total = sum(seconds.values()) or 1.0
    costs = [Cost(name, spent, spent / total) for name, spent in _costliest(seconds.items())]
    return Profile("the costliest operators of a training step", trace, tuple(costs[:COSTLIEST]))


def layer_costs(network: Network, step: Callable[[], object], device: torch.device) -> list[Cost]:
    """Every layer that runs in `step`, the costliest first; what happens between layers is none's.

    A layer that runs several times in a step is counted as often.
    """
    passes: list[dict[str, float]] = []
    totals: list[float] = []
    counted: dict[str, int] = defaultdict(int)

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        finish(device)
        begun = time.perf_counter()
        yield
        finish(device)
        passes[-1][name] += time.perf_counter() - begun

    def count(name: str, layer: nn.Module, result: Tensor) -> None:
        counted[name] += operations(layer, result)

    step()
    with _named_layers(network, clock, count):
        for _ in range(PROFILED):
            passes.append(defaultdict(float))
            begun = time.perf_counter()
            step()
            totals.append(time.perf_counter() - begun)
    total = median(totals)
    found = _costliest((name, median(one[name] for one in passes)) for name in passes[-1])
    return [
        Cost(name, seconds, seconds / total, counted[name] / PROFILED / seconds / 1e9 if counted[name] else None)
        for name, seconds in found
    ]


def operations(layer: nn.Module, result: Tensor) -> int:
    """Multiplications and additions of a layer for this result, as `Summary.flops` counts them."""
    if isinstance(layer, nn.Conv2d):
        return 2 * result.numel() * layer.weight[0].numel()
    return 2 * result.numel() * layer.in_features if isinstance(layer, nn.Linear) else 0


def _costliest(seconds: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(seconds, key=lambda item: item[1], reverse=True)


@contextmanager
def _named_layers(
    network: Network,
    around: Callable[[str], Any],
    after: Callable[[str, nn.Module, Tensor], None] | None = None,
) -> Iterator[None]:
    """While it lasts, each layer without layers of its own runs inside `around(name)`, a context."""
    handles = []
    for name, layer in network.named_modules():
        if name and not any(layer.children()):
            entered: list[Any] = []

            def enter(_: nn.Module, __: Any, name: str = name, entered: list[Any] = entered) -> None:
                entered.append(around(name))
                entered[-1].__enter__()

            def leave(layer: nn.Module, _: Any, result: Tensor, name: str = name, entered: list[Any] = entered) -> None:
                entered.pop().__exit__(None, None, None)
                if after is not None:
                    after(name, layer, result)

            handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _traced(step: Callable[[], object], device: torch.device, trace: Path) -> Any:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or it writes lines of its own to stderr
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as recorded:
        for _ in range(PROFILED):
            step()
            finish(device)
    write_whole(trace, lambda temporary: recorded.export_chrome_trace(str(temporary)))
    return recorded
