"""Where a step's time goes: a trace for a browser, and the costliest layers or operators."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
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
from skipway.reporting import escaped, table

COSTLIEST = 10
PROFILED = 5  # steps

Around = Callable[[str], AbstractContextManager[Any]]
After = Callable[[str, nn.Module, Tensor], None]


@dataclass(frozen=True)
class Cost:
    """What a layer, by its name in the network, or an operator costs.

    `seconds` are those of a step, `share` is their part of the step. `gflops_per_second` is None for operators, and
    where no operations are counted (see `Summary.flops`).
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
        costs = [asdict(cost) for cost in self.costs]
        return {"what": self.what, "trace": str(self.trace), "costs": costs}

    def describe(self) -> str:
        """The costs as a table."""
        rows = []
        for cost in self.costs:
            rate = ""
            if cost.gflops_per_second is not None:
                rate = f"{cost.gflops_per_second:,.1f} GFLOP/s"
            rows.append((cost.name, f"{cost.seconds * 1000:.3f} ms", f"{cost.share:.1%}", rate))
        title = escaped(f"{self.what}; trace in {self.trace}")
        return f"{title}\n{table((), rows, indent=2)}"


def profile_forward(network: Network, inputs: Tensor, trace: Path, *, precision: str) -> Profile:
    """The costliest layers of a forward pass in eager mode, batch normalization not folded; fp32 stands for int8.

    `network` is on the device of `inputs`, channels last. `trace` is the file to write. Raises StorageError where it
    cannot be written.
    """
    device = inputs.device
    half = precision == "bf16"

    def step() -> None:
        """A forward pass, until the device has done it."""
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            network(inputs)
            finish(device)

    costs = layer_costs(network, step, device)
    with _named_layers(network, record_function):
        _traced(step, device, trace)
    kind = "bf16" if half else "fp32"
    costliest = tuple(costs[:COSTLIEST])
    return Profile(f"the costliest layers of a forward pass in eager {kind}", trace, costliest)


def profile_training(step: Callable[[], object], device: torch.device, trace: Path) -> Profile:
    """The costliest operators of a training step, each without those that it calls. Raises StorageError."""
    step()
    recorded = _traced(step, device, trace)
    field = "self_cpu_time_total"
    if device.type == "cuda":
        field = "self_device_time_total"
    seconds: dict[str, float] = {}
    for event in recorded.key_averages():
        microseconds = getattr(event, field)
        seconds[event.key] = microseconds / 1e6 / PROFILED
    total = sum(seconds.values()) or 1.0
    costs = []
    for name in _costliest(seconds)[:COSTLIEST]:
        costs.append(Cost(name, seconds[name], seconds[name] / total))
    return Profile("the costliest operators of a training step", trace, tuple(costs))


def layer_costs(network: Network, step: Callable[[], object], device: torch.device) -> list[Cost]:
    """Every layer that runs in `step`, the costliest first. The time between layers belongs to none of them.

    A layer that runs several times in a step is counted as often.
    """
    passes: list[dict[str, float]] = []  # seconds of each layer, step by step
    totals: list[float] = []  # seconds of each step
    counted: dict[str, int] = defaultdict(int)  # operations of each layer, over all steps

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        """Adds the time that it lasts to the layer's."""
        finish(device)
        begun = time.perf_counter()
        yield
        finish(device)
        passes[-1][name] += time.perf_counter() - begun

    def count(name: str, layer: nn.Module, result: Tensor) -> None:
        """Adds the operations of a result to the layer's."""
        counted[name] += operations(layer, result)

    step()
    with _named_layers(network, clock, count):
        for _ in range(PROFILED):
            passes.append(defaultdict(float))
            begun = time.perf_counter()
            step()
            totals.append(time.perf_counter() - begun)
    total = median(totals)
    seconds: dict[str, float] = {}
    for name in passes[-1]:
        times = [one_pass[name] for one_pass in passes]
        seconds[name] = median(times)
    costs = []
    for name in _costliest(seconds):
        rate = None
        if counted[name]:
            rate = counted[name] / PROFILED / seconds[name] / 1e9
        costs.append(Cost(name, seconds[name], seconds[name] / total, rate))
    return costs


def operations(layer: nn.Module, result: Tensor) -> int:
    """Multiplications and additions of a layer for this result, as `Summary.flops` counts them."""
    if isinstance(layer, nn.Conv2d):
        inputs = layer.weight[0].numel()
    elif isinstance(layer, nn.Linear):
        inputs = layer.in_features
    else:
        inputs = 0
    return 2 * result.numel() * inputs


def _costliest(seconds: Mapping[str, float]) -> list[str]:
    """The names, those with the most seconds first."""
    return sorted(seconds, key=seconds.__getitem__, reverse=True)


@contextmanager
def _named_layers(network: Network, around: Around, after: After | None = None) -> Iterator[None]:
    """While it lasts, each layer without layers of its own runs inside the context `around(name)`.

    `after(name, layer, result)` is called when that context has ended.
    """
    handles = []
    for name, layer in network.named_modules():
        is_leaf = not any(layer.children())
        if name and is_leaf:
            hooks = _Hooks(name, around, after)
            handles.append(layer.register_forward_pre_hook(hooks.enter))
            handles.append(layer.register_forward_hook(hooks.leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Hooks:
    """The two hooks of a layer for `_named_layers`."""

    def __init__(self, name: str, around: Around, after: After | None) -> None:
        """Hooks for the layer of that name."""
        self.name = name
        self.around = around
        self.after = after
        self.entered: list[AbstractContextManager[Any]] = []

    def enter(self, layer: nn.Module, inputs: Any) -> None:  # noqa: ARG002 (torch's signature of a hook)
        """Before the layer runs."""
        context = self.around(self.name)
        context.__enter__()
        self.entered.append(context)

    def leave(self, layer: nn.Module, inputs: Any, result: Tensor) -> None:  # noqa: ARG002 (as `enter`)
        """After the layer has run."""
        context = self.entered.pop()
        context.__exit__(None, None, None)
        if self.after is not None:
            self.after(self.name, layer, result)


def _traced(step: Callable[[], object], device: torch.device, trace: Path) -> Any:
    """Run the step several times under torch's profiler, which is returned, and write the trace."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or it writes lines of its own to stderr
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as recorded:
        for _ in range(PROFILED):
            step()
            finish(device)
    write_whole(trace, lambda temporary: recorded.export_chrome_trace(str(temporary)))
    return recorded
