"""ResNet v1: convolution, normalization, ReLU, and the sum before the last ReLU (He et al. 2015, figs. 2 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.models.blocks import (
    PadChannels,
    Projection,
    ResNet,
    ResNetSpec,
    Row,
    Subsample,
    max_pool_of,
)
from skipway.models.layers import conv2d_same


@dataclass(frozen=True, kw_only=True)
class ResNetV1Spec(ResNetSpec):
    """`stride_in`: a bottleneck's stride sits in its first 1x1 (`first`: the paper, Caffe, Keras) or in its 3x3
    (`middle`: torchvision's "v1.5", TF-Slim). `conv_bias`: Keras keeps a bias before each normalization."""

    architecture: ClassVar[str] = "resnet_v1"

    stride_in: Literal["first", "middle"] = "first"
    conv_bias: bool = False

    def build(self) -> ResNetV1:
        return ResNetV1(self)


class StemV1(nn.Module):
    """Convolution, normalization, ReLU, max pool."""

    def __init__(self, spec: ResNetV1Spec) -> None:
        super().__init__()
        stem = spec.stem
        self.conv = conv2d_same(spec.in_channels, stem.width, stem.kernel, stride=stem.stride, bias=spec.conv_bias)
        self.norm = spec.norm.layer(stem.width)
        self.pool = max_pool_of(stem)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.norm(self.conv(x)), inplace=True))


class BottleneckV1(nn.Module):
    """1x1, 3x3, 1x1, each normalized; the shortcut joins before the last ReLU.

    With an identity shortcut this is the hand-signs code's `identity_block`, with a projection its
    `convolutional_block`.
    """

    def __init__(self, channels: int, row: Row, spec: ResNetV1Spec) -> None:
        super().__init__()
        depth, width, stride = row
        first, middle = (stride, 1) if spec.stride_in == "first" else (1, stride)
        bias = spec.conv_bias
        self.conv1 = conv2d_same(channels, width, 1, stride=first, bias=bias)
        self.norm1 = spec.norm.layer(width)
        self.conv2 = conv2d_same(width, width, 3, stride=middle, bias=bias)
        self.norm2 = spec.norm.layer(width)
        self.conv3 = conv2d_same(width, depth, 1, bias=bias)
        self.norm3 = spec.norm.layer(depth)
        self.shortcut = _shortcut(channels, row, spec)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        y = self.norm3(self.conv3(y))
        return F.relu(y + self.shortcut(x), inplace=True)


class BasicV1(nn.Module):
    """Two normalized 3x3; the shortcut joins before the last ReLU."""

    def __init__(self, channels: int, row: Row, spec: ResNetV1Spec) -> None:
        super().__init__()
        depth, width, stride = row
        self.conv1 = conv2d_same(channels, width, 3, stride=stride, bias=spec.conv_bias)
        self.norm1 = spec.norm.layer(width)
        self.conv2 = conv2d_same(width, depth, 3, bias=spec.conv_bias)
        self.norm2 = spec.norm.layer(depth)
        self.shortcut = _shortcut(channels, row, spec)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


def _shortcut(channels: int, row: Row, spec: ResNetV1Spec) -> nn.Module:
    depth, _, stride = row
    if channels == depth:
        return nn.Identity() if stride == 1 else Subsample(stride)
    if spec.shortcut == "pad":
        return PadChannels(channels, depth, stride)
    return Projection(channels, depth, stride, spec.norm, bias=spec.conv_bias)


class ResNetV1(ResNet):
    """Stages `stem`, `stage1`...; then `logits`."""

    stem_type: ClassVar = StemV1
    unit_types: ClassVar = {"bottleneck": BottleneckV1, "basic": BasicV1}
