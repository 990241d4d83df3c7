"""Shortcuts that change the shape of what they carry, or are to learn; the others are the identity."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.models.blocks import Norm
from skipway.models.layers import conv2d_same, subsample


class Subsample(nn.Module):
    """Identity shortcut of a unit with a stride and no change of depth."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return subsample(x, self.stride)


class PadChannels(nn.Module):
    """Option A: every `stride`-th pixel, channels of zeros added or surplus ones cut, half on either side."""

    def __init__(self, channels: int, depth: int, stride: int) -> None:
        super().__init__()
        self.before = (depth - channels) // 2
        self.after = depth - channels - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(subsample(x, self.stride), (0, 0, 0, 0, self.before, self.after))


class Projection(nn.Module):
    """Options B and C of v1: 1x1 convolution with the unit's stride, normalized."""

    def __init__(self, channels: int, depth: int, stride: int, norm: Norm, *, bias: bool) -> None:
        super().__init__()
        self.conv = conv2d_same(channels, depth, 1, stride=stride, bias=bias)
        self.norm = norm.layer(depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))
