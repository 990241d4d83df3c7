"""ResNet v1: convolution, normalization, ReLU, and the sum before the last ReLU (He et al. 2015, figs. 2 and 5).

Which unit of a stage has the stride is in the rows of its `Block`; which convolution of that unit, in `stride_in`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.blocks import Norm, Pad, Padding, Row, StackSpec, convolution
from skipway.models.joins import Carry, Gating, join_for
from skipway.models.layers import conv2d_same
from skipway.models.network import require_fields, settle_types
from skipway.models.shortcuts import PadChannels, Projection, Subsample
from skipway.models.stack import Stack

ShortcutV1 = Literal["projection", "pad", "projection_all"]


@dataclass(frozen=True, kw_only=True)
class UnitsV1:
    """How v1 units are made, whatever their row.

    `shortcut`, where depths differ: `projection`, a learned and normalized 1x1 convolution (option B of He et al. 2015,
    section 3.3), or `pad`, channels of zeros (option A), which stand where the field `pad` says: `after` the others,
    `before` them, or half on either side (`both`: what files from before this field mean). With `projection_all` every
    unit has the projection, where the shape stays, too (option C, section 4.1; fb.resnet.torch's shortcutType C): that
    is the "1x1 conv shortcut" of He et al. 2016, fig. 2e. `stride_in`: a bottleneck's stride sits in its first 1x1
    (`first`: the paper, Caffe, Keras) or in its 3x3 (`middle`: torchvision's "v1.5", TF-Slim). `conv_bias`: Keras keeps
    a bias before each normalization. `projection`: `normalized`, or `bare` as in Keras's CIFAR example. `padding`: the
    strided 3x3 is padded alike on both sides, or as TensorFlow's `same`, less at the top left for even sizes.

    `carry` is how a shortcut without weights meets the branch F (He et al. 2016, section 3.1, fig. 2, table 1):
    `identity` (x + F), `scale` (0.5 x + 0.5 F), `scale_shortcut` (0.5 x + F), `exclusive_gate` ((1 - g) x + g F),
    `shortcut_gate` ((1 - g) x + F), `dropout` (half of x dropped, plus F); `gate_bias` is what the gates' biases start
    at, -6 being the paper's best of 0 to -10. It holds for every shortcut that learns nothing, also for the subsampled
    and padded ones, whose x is what they give; projections are added as they are.
    """

    norm: Norm = field(default_factory=Norm)
    shortcut: ShortcutV1 = "projection"
    pad: Pad = "both"
    stride_in: Literal["first", "middle"] = "first"
    conv_bias: bool = False
    projection: Literal["normalized", "bare"] = "normalized"
    padding: Padding = "symmetric"
    carry: Carry = "identity"
    gate_bias: float = -6.0

    def __post_init__(self) -> None:
        settle_types(self, "units")
        self.check_carry("units")

    def check_carry(self, where: str) -> None:
        """Raises SpecError, starting with `where`, for a carry that no unit could have."""
        if self.carry != "identity" and self.shortcut == "projection_all":
            raise SpecError(
                f"{where}: projections in every unit leave no shortcut to a carry of '{self.carry}'; give another "
                "shortcut, pad or projection, or leave the carry at identity"
            )


@dataclass(frozen=True, kw_only=True)
class ResNetV1Spec(StackSpec, UnitsV1):
    """A ResNet v1: the fields of `StackSpec` and of `UnitsV1`."""

    architecture: ClassVar[str] = "resnet_v1"

    def check_fields(self) -> None:
        super().check_fields()
        self.check_carry(self.name)

    def strides_before_3x3(self) -> bool:
        return self.stride_in == "first"

    def build(self) -> ResNetV1:
        return ResNetV1(self)


class StemV1(nn.Module):
    """Convolution, normalization, ReLU, max pool."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.conv = spec.stem.convolution(spec.in_channels)
        self.norm = spec.norm.layer(spec.stem.width, in_unit=False)
        self.pool = spec.stem.pooling()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.norm(self.conv(x)), inplace=True))


class UnitV1(nn.Module):
    """What both kinds of unit share: a shortcut, and how it and the branch come together before the last ReLU."""

    shortcut: nn.Module
    join: nn.Module | None

    def bridge(self, channels: int, row: Row, units: UnitsV1) -> None:
        """Make the shortcut, and what joins it to the branch: `join`, or None for their sum."""
        depth, _, stride = row
        self.shortcut = _shortcut(channels, row, units)
        learns_nothing = isinstance(self.shortcut, nn.Identity | Subsample | PadChannels)
        self.join = join_for(units.carry, channels, depth, stride, units.gate_bias) if learns_nothing else None

    def joined(self, x: Tensor, branch: Tensor) -> Tensor:
        """The unit's output for its input `x` and what its branch makes of it."""
        kept = self.shortcut(x)
        return F.relu(branch + kept if self.join is None else self.join(x, kept, branch), inplace=True)


class BottleneckV1(UnitV1):
    """1x1, 3x3, 1x1, each normalized; the shortcut joins before the last ReLU."""

    def __init__(self, channels: int, row: Row, units: UnitsV1, *, rate: int = 1) -> None:
        super().__init__()
        depth, width, stride = row
        first, middle = (stride, 1) if units.stride_in == "first" else (1, stride)
        bias = units.conv_bias
        self.conv1 = conv2d_same(channels, width, 1, stride=first, bias=bias)
        self.norm1 = units.norm.layer(width)
        self.conv2 = convolution(width, width, 3, middle, units.padding, rate=rate, bias=bias)
        self.norm2 = units.norm.layer(width)
        self.conv3 = conv2d_same(width, depth, 1, bias=bias)
        self.norm3 = units.norm.layer(depth)
        self.bridge(channels, row, units)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        return self.joined(x, self.norm3(self.conv3(y)))


class BasicV1(UnitV1):
    """Two normalized 3x3, the stride in the first; the shortcut joins before the last ReLU."""

    def __init__(self, channels: int, row: Row, units: UnitsV1, *, rate: int = 1) -> None:
        super().__init__()
        depth, width, stride = row
        self.conv1 = convolution(channels, width, 3, stride, units.padding, rate=rate, bias=units.conv_bias)
        self.norm1 = units.norm.layer(width)
        self.conv2 = conv2d_same(width, depth, 3, rate=rate, bias=units.conv_bias)
        self.norm2 = units.norm.layer(depth)
        self.bridge(channels, row, units)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return self.joined(x, self.norm2(self.conv2(y)))


def _shortcut(channels: int, row: Row, units: UnitsV1) -> nn.Module:
    depth, _, stride = row
    if channels == depth and units.shortcut != "projection_all":
        return nn.Identity() if stride == 1 else Subsample(stride)
    if units.shortcut == "pad":
        return PadChannels(channels, depth, stride, units.pad)
    if units.projection == "bare":
        return conv2d_same(channels, depth, 1, stride=stride, bias=units.conv_bias)
    return Projection(channels, depth, stride, units.norm, bias=units.conv_bias)


def identity_block(depth: int, width: int, **fields: Any) -> BottleneckV1:
    """The bottleneck that keeps its input's shape, (N, depth, H, W), and adds it unchanged.

    `width` is the bottleneck's depth, its kernel is always 3; `fields` are those of `UnitsV1` (source: the hand-signs
    code's `identity_block`). Raises SpecError and UnknownNameError.
    """
    require_fields(UnitsV1, fields, "identity_block")
    units = UnitsV1(**fields)
    if units.shortcut == "projection_all":
        raise SpecError("identity_block projects nothing; take convolutional_block with a stride of 1")
    return BottleneckV1(depth, (depth, width, 1), units)


def convolutional_block(channels: int, depth: int, width: int, *, stride: int = 2, **fields: Any) -> BottleneckV1:
    """The bottleneck with a projection, (N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride)).

    The source's own (the hand-signs code's `convolutional_block`) projects always; so does this one, even where the
    depth stays. `fields` are those of `UnitsV1`.
    """
    require_fields(UnitsV1, fields, "convolutional_block")
    units = UnitsV1(**fields)
    block = BottleneckV1(channels, (depth, width, stride), units)
    block.shortcut = Projection(channels, depth, stride, units.norm, bias=units.conv_bias)
    block.join = None
    return block


class ResNetV1(Stack):
    """Stages `stem`, one for each block; then `logits`."""

    stem_type: ClassVar = StemV1
    unit_types: ClassVar = {"bottleneck": BottleneckV1, "basic": BasicV1}

    def __init__(self, spec: ResNetV1Spec) -> None:
        super().__init__(spec)
        for module in self.modules():
            if isinstance(module, Gating):
                module.reset_bias()
