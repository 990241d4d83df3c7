"""What every engine is: the network's answers behind one call, at a batch size that it was made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SkipwayError
from skipway.inference.engines.cache import Cache
from skipway.models.layers import BatchStatisticsNorm2d
from skipway.models.network import Network

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class EngineError(SkipwayError):
    """An engine cannot run here, or cannot be trusted; the message names those that can."""


@dataclass(frozen=True)
class Work:
    """What an engine is made for.

    Attributes:
        network: The network, in evaluation mode.
        batch_size: How many pictures come at once.
        precision: The arithmetic.
        device: Where the engine runs.
        cache: Where what is built for the network is kept.
        calibration: Standardized pictures (N, C, S, S) that stand for those to come; int8 takes its ranges from them.
    """

    network: Network
    batch_size: int
    precision: Precision
    device: torch.device
    cache: Cache
    calibration: Sequence[Tensor] = field(default=())


class Engine(nn.Module):
    """Standardized fp32 pictures (N, C, S, S) -> logits, in any memory format and for any N.

    An engine that was made for one batch size gets its pictures in such batches, the last filled up with zeros.
    """

    def __init__(
        self, name: str, precision: Precision, run: Callable[[Tensor], Tensor], batch_size: int | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.precision = precision
        self.batch_size = batch_size
        self._run = run

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits for pictures (N, C, H, W)."""
        with torch.inference_mode():
            if self.batch_size is None or len(pictures) == self.batch_size:
                return self._run(pictures)
            logits = []
            for part in torch.split(pictures, self.batch_size):
                logits.append(self._run_filled(part, self.batch_size))
            return torch.cat(logits)

    def _run_filled(self, part: Tensor, batch_size: int) -> Tensor:
        """Logits of at most `batch_size` pictures, which are filled up with zeros."""
        count = len(part)
        missing = batch_size - count
        if missing:
            part = F.pad(part, (0, 0, 0, 0, 0, 0, 0, missing))
        logits = self._run(part)[:count]
        return logits.clone()  # engines may hand out the same memory at every call


def depends_on_batch(network: Network) -> bool:
    """Whether a picture's answer depends on the pictures beside it: then batches must stay as they are."""
    for module in network.modules():
        if isinstance(module, BatchStatisticsNorm2d):
            return True
    return False
