"""Ways to run a network: each opened by name or chosen by measurement, checked against the network itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skipway.inference.engines.base import PRECISIONS, Engine, EngineError, Precision, Work
from skipway.inference.engines.cache import Cache
from skipway.inference.engines.choice import fastest
from skipway.inference.engines.table import ENGINES, able_engines, open_checked
from skipway.models.network import Network

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Cache",
    "Engine",
    "EngineError",
    "Precision",
    "able_engines",
    "open_engine",
    "pick_engine",
]


def open_engine(
    name: str,
    network: Network,
    *,
    batch_size: int,
    precision: Precision = "fp32",
    device: torch.device | None = None,
    cache: Cache | None = None,
    calibration: Sequence[Tensor] = (),
) -> Engine:
    """The engine of that name for `network`, in evaluation mode, whose answers it has been checked against.

    `calibration` holds standardized pictures (N, C, S, S) for int8, which needs none where the cache has it already.
    Raises UnknownNameError, EngineError for an engine that this machine lacks or that differs, DataError for too few
    pictures.
    """
    work = _work(network, batch_size, precision, device, cache, calibration)
    with work.cache.claimed():
        return open_checked(name, work)


def pick_engine(
    network: Network,
    *,
    batch_size: int,
    precision: Precision = "fp32",
    device: torch.device | None = None,
    cache: Cache | None = None,
    calibration: Sequence[Tensor] = (),
    pictures: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Engine:
    """The fastest engine here, by measurement or by memory; for few `pictures` the one that needs no building.

    Raises EngineError where there is none for this precision.
    """
    work = _work(network, batch_size, precision, device, cache, calibration)
    with work.cache.claimed():
        return fastest(work, tell or _no_line, pictures=pictures)


def _work(
    network: Network,
    batch_size: int,
    precision: Precision,
    device: torch.device | None,
    cache: Cache | None,
    calibration: Sequence[Tensor],
) -> Work:
    """The work of an engine; by default on the network's device, with a cache that ends with this process."""
    network.eval()
    if device is None:
        device = next(network.parameters()).device
    if cache is None:
        cache = Cache(network, kept=False)
    return Work(network, batch_size, precision, device, cache, calibration)


def _no_line(line: str) -> None:
    """Report no line."""
