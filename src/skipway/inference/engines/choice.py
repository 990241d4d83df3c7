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


def fastest(work: Work, tell: Callable[[str], None], *, pictures: int | None = None) -> Engine:
    """The fastest engine for the work, measured in turns, or the one that was the fastest here before.

    `pictures` is how many there are to be: for few, the network runs as it is unless the choice is known. `tell` gets
    a line about each engine. Raises EngineError where no engine can do it.
    """
    key = _key(work)
    known = work.cache.remembered(key)
    if known is not None and known in able_engines(work.precision, work.device, work.network):
        try:
            return open_checked(known, work)
        except SkipwayError as error:
            tell(f"{known}: {error}")
    able = able_engines(work.precision, work.device, work.network)
    eager = open_checked("eager", work) if "eager" in able else None
    if eager is not None and pictures is not None:
        seconds = pictures * _seconds(eager, work) / work.batch_size
        if seconds < _WORTH_BUILDING_S:
            return eager
        if seconds < _WORTH_COMPILING_S:
            able = [name for name in able if name != "compile"]
    engines = _opened(work, able, eager, tell)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(_ROUNDS):
        for name, engine in engines.items():
            times[name].append(_seconds(engine, work))
    best = min(engines, key=lambda name: median(times[name]))
    told = ", ".join(f"{name} {work.batch_size / median(values):.1f}" for name, values in times.items())
    tell(f"pictures/s in batches of {work.batch_size}: {told}; {best} it is")
    work.cache.remember(key, best)
    return engines[best]


def _opened(work: Work, able: list[str], eager: Engine | None, tell: Callable[[str], None]) -> dict[str, Engine]:
    engines: dict[str, Engine] = {} if eager is None else {"eager": eager}
    refused: list[str] = []
    for name in able:
        if name in engines:
            continue
        tell(f"building {name}")
        try:
            engines[name] = open_checked(name, work)
        except SkipwayError as error:
            refused.append(str(error))
            tell(f"without {name}: {error}")
    if not engines:
        raise EngineError(refused[0] if refused else f"no engine here runs {work.precision} on {work.device.type}")
    return engines


def _seconds(engine: Engine, work: Work) -> float:
    """Of one batch, after one that warms up."""
    spec = work.network.spec
    pictures = torch.zeros(work.batch_size, spec.in_channels, spec.input_size, spec.input_size, device=work.device)
    for _ in range(2):
        _wait(work)
        began = time.perf_counter()
        engine(pictures)
        _wait(work)
    return time.perf_counter() - began


def _wait(work: Work) -> None:
    if work.device.type == "cuda":
        torch.cuda.synchronize(work.device)


def _key(work: Work) -> str:
    where = torch.cuda.get_device_name(work.device) if work.device.type == "cuda" else cpu_name()
    return " | ".join(
        (where, f"{usable_cores()} cores", work.precision, f"batch {work.batch_size}", f"torch {torch.__version__}",
         platform.python_version())
    )  # fmt: skip
