"""Plain nets: a residual network without its shortcuts, normalized like it (He et al. 2015, section 3.3, fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.models.blocks import Row, StackSpec, Unit
from skipway.models.layers import conv2d_same
from skipway.models.resnet_v1 import StemV1
from skipway.models.stack import Stack


@dataclass(frozen=True, kw_only=True)
class PlainSpec(StackSpec):
    """A plain net: the fields of `StackSpec`, with rows of basic units."""

    architecture: ClassVar[str] = "plain"
    unit_kinds: ClassVar[tuple[Unit, ...]] = ("basic",)

    def build(self) -> PlainNet:
        """The network with freshly drawn weights."""
        return PlainNet(self)


class PlainUnit(nn.Module):
    """Two 3x3 convolutions, the stride in the first, each with normalization and ReLU."""

    def __init__(self, channels: int, row: Row, spec: PlainSpec, *, rate: int = 1) -> None:
        super().__init__()
        depth, width, stride = row
        self.conv1 = conv2d_same(channels, width, 3, stride=stride, rate=rate, bias=False)
        self.norm1 = spec.norm.layer(width)
        self.conv2 = conv2d_same(width, depth, 3, rate=rate, bias=False)
        self.norm2 = spec.norm.layer(depth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        x = self.norm1(self.conv1(x))
        x = F.relu(x, inplace=True)
        x = self.norm2(self.conv2(x))
        return F.relu(x, inplace=True)


class PlainNet(Stack):
    """Stages `stem`, one for each block; then `logits`."""

    stem_type: ClassVar = StemV1
    unit_types: ClassVar = {"basic": PlainUnit}
