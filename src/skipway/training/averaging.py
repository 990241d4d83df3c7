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
        self._pairs = [
            (mine, theirs)
            for mine, theirs in zip(_tensors(self.shadow), _tensors(network), strict=True)
            if mine.is_floating_point()
        ]

    def update(self, step: int) -> None:
        """Follow the network after update number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_([mine for mine, _ in self._pairs], [theirs for _, theirs in self._pairs], 1 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
