"""The fastest engine, by measurement; remembered in the user's cache for the machine that it was measured on."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from statistics import median

import torch

from skipway.errors import SkipwayError
from skipway.inference.engines.base import Engine, EngineError, Work
from skipway.inference.engines.table import able_engines, open_checked
from skipway.machine import cpu_name, usable_cores

_ROUNDS = 3
# Seconds of eager work from which on an engine earns back what building it takes: some seconds for an ONNX file and its
# runtimes, a minute for a compiler.
_WORTH_BUILDING_S = 60.0
_WORTH_COMPILING_S = 600.0


def fastest(work: Work, report_line: Callable[[str], None], *, pictures: int | None = None) -> Engine:
    """The fastest engine for the work, measured in turns, or the one that was the fastest here before.

    `pictures` is how many there are to be: for few, the network runs as it is unless the choice is known.
    `report_line` gets a line about each engine. Raises EngineError where no engine can do it.
    """
    key = _key(work)
    able = able_engines(work.precision, work.device, work.network)
    known = work.cache.remembered(key)
    if known is not None and known in able:
        try:
            return open_checked(known, work)
        except SkipwayError as error:
            report_line(f"{known}: {error}")
    eager = open_checked("eager", work) if "eager" in able else None
    if eager is not None and pictures is not None:
        batches = pictures / work.batch_size
        seconds = batches * _seconds(eager, work)
        if seconds < _WORTH_BUILDING_S:
            return eager
        if seconds < _WORTH_COMPILING_S:
            able = [name for name in able if name != "compile"]
    engines = _opened(work, able, eager, report_line)
    best = _measured_best(engines, work, report_line)
    work.cache.remember(key, best)
    return engines[best]


def _measured_best(engines: dict[str, Engine], work: Work, report_line: Callable[[str], None]) -> str:
    """The name of the engine with the shortest median time."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(_ROUNDS):
        for name, engine in engines.items():
            times[name].append(_seconds(engine, work))
    medians = {name: median(seconds) for name, seconds in times.items()}
    best = min(medians, key=medians.__getitem__)
    speeds = []
    for name, seconds in medians.items():
        speed = work.batch_size / seconds
        speeds.append(f"{name} {speed:.1f}")
    report_line(f"pictures/s in batches of {work.batch_size}: {', '.join(speeds)}; {best} it is")
    return best


def _opened(work: Work, able: list[str], eager: Engine | None, report_line: Callable[[str], None]) -> dict[str, Engine]:
    """The engines of these names that can be opened. Raises EngineError where there are none."""
    engines: dict[str, Engine] = {}
    if eager is not None:
        engines["eager"] = eager
    reason = f"no engine here runs {work.precision} on {work.device.type}"
    is_refused = False
    for name in able:
        if name in engines:
            continue
        report_line(f"building {name}")
        try:
            engines[name] = open_checked(name, work)
        except SkipwayError as error:
            report_line(f"without {name}: {error}")
            if not is_refused:
                reason = str(error)  # of the first one that refused
                is_refused = True
    if not engines:
        raise EngineError(reason)
    return engines


def _seconds(engine: Engine, work: Work) -> float:
    """Seconds that one batch takes, after one that warms up."""
    spec = work.network.spec
    pictures = torch.zeros(work.batch_size, spec.in_channels, spec.input_size, spec.input_size, device=work.device)
    seconds = 0.0
    for _ in range(2):
        _wait(work)
        began = time.perf_counter()
        engine(pictures)
        _wait(work)
        seconds = time.perf_counter() - began
    return seconds


def _wait(work: Work) -> None:
    """Wait until the device has done all that it was given."""
    if work.device.type == "cuda":
        torch.cuda.synchronize(work.device)


def _key(work: Work) -> str:
    """What the choice of an engine depends on beside the network, as text."""
    processor = cpu_name()
    if work.device.type == "cuda":
        processor = torch.cuda.get_device_name(work.device)
    facts = (
        processor,
        f"{usable_cores()} cores",
        work.precision,
        f"batch {work.batch_size}",
        f"torch {torch.__version__}",
        platform.python_version(),
    )
    return " | ".join(facts)
