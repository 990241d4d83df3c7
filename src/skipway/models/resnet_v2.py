"""ResNet v2: normalization and ReLU before each convolution, nothing after the sum (He et al. 2016, fig. 1b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.blocks import PadChannels, ResNet, ResNetSpec, Row, Subsample, max_pool_of
from skipway.models.layers import conv2d_same
from skipway.models.network import Note


@dataclass(frozen=True, kw_only=True)
class ResNetV2Spec(ResNetSpec):
    """`open_bias`: a bias in the convolutions that no normalization follows at once, the stem (with `stem.bias`), the
    projections and each unit's last one (TF-Slim and Keras have it, timm does not)."""

    architecture: ClassVar[str] = "resnet_v2"

    open_bias: bool = True

    def __post_init__(self) -> None:
        for block in self.blocks:
            if block.unit not in ResNetV2.unit_types:
                kinds = ", ".join(ResNetV2.unit_types)
                raise SpecError(f"{self.name}: {block.name} has units of kind '{block.unit}'; v2 has {kinds}")
        super().__post_init__()

    def build(self) -> ResNetV2:
        return ResNetV2(self)


class StemV2(nn.Module):
    """Convolution and max pool; the first unit's normalization does the rest."""

    def __init__(self, spec: ResNetV2Spec) -> None:
        super().__init__()
        stem = spec.stem
        self.conv = conv2d_same(spec.in_channels, stem.width, stem.kernel, stride=stem.stride, bias=stem.bias)
        self.pool = max_pool_of(stem)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))


class BottleneckV2(nn.Module):
    """Pre-activation, then 1x1, 3x3 with the stride, 1x1.

    The identity shortcut carries the RAW input, the projection starts from the pre-activation and has no norm.
    """

    def __init__(self, channels: int, row: Row, spec: ResNetV2Spec) -> None:
        super().__init__()
        depth, width, stride = row
        self.preact = spec.norm.layer(channels)
        self.conv1 = conv2d_same(channels, width, 1, bias=False)
        self.norm1 = spec.norm.layer(width)
        self.conv2 = conv2d_same(width, width, 3, stride=stride, bias=False)
        self.norm2 = spec.norm.layer(width)
        self.conv3 = conv2d_same(width, depth, 1, bias=spec.open_bias)
        self.shortcut = _shortcut(channels, row, spec)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.preact(x), inplace=True)
        kept = self.shortcut(active if isinstance(self.shortcut, nn.Conv2d) else x)
        y = F.relu(self.norm1(self.conv1(active)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        return kept + self.conv3(y)


def _shortcut(channels: int, row: Row, spec: ResNetV2Spec) -> nn.Module:
    depth, _, stride = row
    if channels == depth:
        return nn.Identity() if stride == 1 else Subsample(stride)
    if spec.shortcut == "pad":
        return PadChannels(channels, depth, stride)
    return conv2d_same(channels, depth, 1, stride=stride, bias=spec.open_bias)


class ResNetV2(ResNet):
    """Stages `stem`, `stage1`..., `postnorm`; then `logits`."""

    stem_type: ClassVar = StemV2
    unit_types: ClassVar = {"bottleneck": BottleneckV2}

    def add_tail(self, channels: int, spec: ResNetV2Spec) -> None:
        self.postnorm = spec.norm.layer(channels)

    def walk_tail(self, x: Tensor, note: Note) -> Tensor:
        x = F.relu(self.postnorm(x), inplace=True)
        note("postnorm", x)
        return x
