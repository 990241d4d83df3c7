"""Exponential moving average of weights and running statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """Keeps `shadow`, a copy of the network that follows it by `decay`.

    The first updates use the smaller (1 + n) / (10 + n), or the random start would linger. The copy happens in one
    fused kernel a dtype and reads nothing back from the device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = copy.deepcopy(network).requires_grad_(requires_grad=False)
        # Tensors of whole numbers, such as counters of batches, have no average.
        self._averages: list[Tensor] = []
        self._sources: list[Tensor] = []
        for average, source in zip(_tensors(self.shadow), _tensors(network), strict=True):
            if average.is_floating_point():
                self._averages.append(average)
                self._sources.append(source)

    def update(self, step: int) -> None:
        """Follow the network after update number `step`, counted from 0."""
        early_decay = (1 + step) / (10 + step)
        decay = min(self.decay, early_decay)
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._sources, 1 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    """All parameters, then all buffers."""
    parameters = list(network.parameters())
    buffers = list(network.buffers())
    return parameters + buffers
