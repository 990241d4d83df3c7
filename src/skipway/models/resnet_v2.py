"""ResNet v2: normalization and ReLU before each convolution, nothing after the sum (He et al. 2016, fig. 1b).

The rows of a `Block` say which unit of a stage has the stride; `stride_in` says which convolution of that unit has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.models.blocks import Norm, Pad, Padding, Row, Shortcut, StackSpec, Unit, convolution
from skipway.models.layers import conv2d_same
from skipway.models.network import Note, settle_types
from skipway.models.shortcuts import PadChannels, Subsample
from skipway.models.stack import Stack


@dataclass(frozen=True, kw_only=True)
class UnitsV2:
    """How v2 units of any row are made.

    `norm`: the normalization before each convolution.
    `shortcut`: the one where depths differ. `projection` is a learned 1x1 convolution without a norm; `pad` is the raw
    input and channels of zeros.
    `pad`: where the zeros stand: `after` the other channels, `before` them, or half on either side (`both`, which files
    from before this field mean).
    `stride_in`: a bottleneck's stride sits in its 3x3 (`middle`) or in its first 1x1 (`first`: the paper's code).
    `open_bias`: a bias in the convolutions that no normalization follows at once, which are the projections and each
    unit's last one (TF-Slim and Keras have it, timm and the paper's code do not).
    `conv_bias`: a bias in all other convolutions.
    `projection`: what it starts from. `shared`: the pre-activation that the branch starts from, too. `raw`: the raw
    input. `first_shared`: the pre-activation in the very first unit, the raw input in all later ones (Keras's CIFAR
    example).
    `padding`: the strided 3x3 is padded alike on both sides, or as TensorFlow's `same`.
    """

    norm: Norm = field(default_factory=Norm)
    shortcut: Shortcut = "projection"
    pad: Pad = "both"
    stride_in: Literal["first", "middle"] = "middle"
    open_bias: bool = True
    conv_bias: bool = False
    projection: Literal["shared", "raw", "first_shared"] = "shared"
    padding: Padding = "symmetric"

    def __post_init__(self) -> None:
        """Check the types of all fields. Raises SpecError."""
        settle_types(self, "units")


@dataclass(frozen=True, kw_only=True)
class ResNetV2Spec(StackSpec, UnitsV2):
    """A ResNet v2: the fields of `StackSpec` and of `UnitsV2`.

    In the first unit of a stage an identity or padded shortcut carries the `raw` input as everywhere, or has the
    pre-activation `shared` with the branch (He et al. 2016, appendix; fb.resnet.torch's `both_preact`).
    """

    architecture: ClassVar[str] = "resnet_v2"

    first_shortcut: Literal["raw", "shared"] = "raw"

    def strides_before_3x3(self) -> bool:
        """Whether a bottleneck's stride sits in its first 1x1."""
        return self.stride_in == "first"

    def build(self) -> ResNetV2:
        """The network with freshly drawn weights."""
        return ResNetV2(self)


class StemV2(nn.Module):
    """Convolution and max pool; the first unit's normalization does the rest."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.conv = spec.stem.convolution(spec.in_channels)
        self.pool = spec.stem.pooling()

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, C, H, W) -> the first map."""
        x = self.conv(x)
        return self.pool(x)


class BottleneckV2(nn.Module):
    """Pre-activation, then 1x1, 3x3, 1x1.

    The identity shortcut carries the RAW input unless it is `shared`. The projection has no norm, and starts where the
    field `projection` of the units says.
    """

    def __init__(self, channels: int, row: Row, units: UnitsV2, *, rate: int = 1, shared: bool = False) -> None:
        super().__init__()
        depth, width, stride = row
        first, middle = 1, stride
        if units.stride_in == "first":
            first, middle = stride, 1
        self.preact = units.norm.layer(channels)
        self.conv1 = conv2d_same(channels, width, 1, stride=first, bias=units.conv_bias)
        self.norm1 = units.norm.layer(width)
        self.conv2 = convolution(width, width, 3, middle, units.padding, rate=rate, bias=units.conv_bias)
        self.norm2 = units.norm.layer(width)
        self.conv3 = conv2d_same(width, depth, 1, bias=units.open_bias)
        self.shortcut = _shortcut(channels, row, units)
        self.shared = shared or _projects_shared(self.shortcut, units)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        active = self.preact(x)
        active = F.relu(active, inplace=True)
        if self.shared:
            x = active
        kept = self.shortcut(x)
        y = self.norm1(self.conv1(active))
        y = F.relu(y, inplace=True)
        y = self.norm2(self.conv2(y))
        y = F.relu(y, inplace=True)
        y = self.conv3(y)
        return kept + y


class BasicV2(nn.Module):
    """Pre-activation, then two 3x3, the stride in the first; shortcuts as in the bottleneck."""

    def __init__(self, channels: int, row: Row, units: UnitsV2, *, rate: int = 1, shared: bool = False) -> None:
        super().__init__()
        depth, width, stride = row
        self.preact = units.norm.layer(channels)
        self.conv1 = convolution(channels, width, 3, stride, units.padding, rate=rate, bias=units.conv_bias)
        self.norm1 = units.norm.layer(width)
        self.conv2 = conv2d_same(width, depth, 3, rate=rate, bias=units.open_bias)
        self.shortcut = _shortcut(channels, row, units)
        self.shared = shared or _projects_shared(self.shortcut, units)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        active = self.preact(x)
        active = F.relu(active, inplace=True)
        if self.shared:
            x = active
        kept = self.shortcut(x)
        y = self.norm1(self.conv1(active))
        y = F.relu(y, inplace=True)
        y = self.conv2(y)
        return kept + y


def _projects_shared(shortcut: nn.Module, units: UnitsV2) -> bool:
    """Whether the shortcut is a projection that starts from the pre-activation in every unit."""
    return isinstance(shortcut, nn.Conv2d) and units.projection == "shared"


def _shortcut(channels: int, row: Row, units: UnitsV2) -> nn.Module:
    """The shortcut of a unit whose input has `channels`."""
    depth, _, stride = row
    if channels == depth:
        if stride == 1:
            return nn.Identity()
        return Subsample(stride)
    if units.shortcut == "pad":
        return PadChannels(channels, depth, stride, units.pad)
    return conv2d_same(channels, depth, 1, stride=stride, bias=units.open_bias)


class ResNetV2(Stack):
    """Stages `stem`, one for each block, `postnorm`; then `logits`."""

    stem_type: ClassVar = StemV2
    unit_types: ClassVar = {"bottleneck": BottleneckV2, "basic": BasicV2}

    def make_unit(
        self, kind: Unit, channels: int, row: Row, spec: ResNetV2Spec, *, rate: int, first: bool
    ) -> nn.Module:
        """A unit for maps of `channels`. `rate` is its dilation; `first` says whether it is the first of its stage."""
        depth, _, _ = row
        if spec.shortcut == "projection" and channels != depth:
            first_of_all = first and not hasattr(self, self.stages[0])  # no stage has been added yet
            shared = first_of_all and spec.projection == "first_shared"
        else:
            shared = first and spec.first_shortcut == "shared"
        unit_type = self.unit_types[kind]
        return unit_type(channels, row, spec, rate=rate, shared=shared)

    def add_tail(self, channels: int, spec: UnitsV2) -> None:
        """Register the normalization behind the last sum."""
        self.postnorm = spec.norm.layer(channels, in_unit=False)

    def walk_tail(self, x: Tensor, note: Note) -> Tensor:
        """Normalize and activate the last sum, (N, C, H, W), noting it as `postnorm`."""
        x = self.postnorm(x)
        x = F.relu(x, inplace=True)
        note("postnorm", x)
        return x
