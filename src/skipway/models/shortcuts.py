"""Shortcuts that change the shape of what they carry, or have weights; all others are the identity."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.blocks import Norm, Pad
from skipway.models.layers import conv2d_same, subsample


class Subsample(nn.Module):
    """Identity shortcut of a unit with a stride and no change of depth."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""
        return subsample(x, self.stride)


class PadChannels(nn.Module):
    """Option A: every `stride`-th pixel, and channels of zeros added, or surplus ones cut, where `pad` says.

    `both` puts half of them on either side: an odd channel that is added stands after, one that is cut before. `after`
    and `before` put all of them there.
    """

    def __init__(self, channels: int, depth: int, stride: int, pad: Pad = "both") -> None:
        super().__init__()
        added = depth - channels
        places: dict[str, int] = {"both": added // 2, "after": 0, "before": added}
        if pad not in places:
            raise SpecError(f"zeros cannot stand '{pad}'; give one of {', '.join(places)}")
        self.before = places[pad]
        self.after = added - self.before
        self.stride = stride
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        x = subsample(x, self.stride)
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class Projection(nn.Module):
    """Options B and C of v1: 1x1 convolution with the unit's stride, normalized."""

    def __init__(self, channels: int, depth: int, stride: int, norm: Norm, *, bias: bool) -> None:
        super().__init__()
        self.conv = conv2d_same(channels, depth, 1, stride=stride, bias=bias)
        self.norm = norm.layer(depth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        x = self.conv(x)
        return self.norm(x)
