"""ResNet v1: convolution, normalization, ReLU, and the sum before the last ReLU (He et al. 2015, figs. 2 and 5).

The rows of a `Block` say which unit of a stage has the stride; `stride_in` says which convolution of that unit has it.
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
    """How v1 units of any row are made.

    `norm`: the normalization behind each convolution.
    `shortcut`: the one where depths differ. `projection` is a learned and normalized 1x1 convolution (option B of He et
    al. 2015, section 3.3); `pad` adds channels of zeros (option A). With `projection_all` every unit has the
    projection, also where the shape stays (option C, section 4.1; shortcutType C of fb.resnet.torch): that is the "1x1
    conv shortcut" of He et al. 2016, fig. 2e.
    `pad`: where the zeros stand: `after` the other channels, `before` them, or half on either side (`both`, which files
    from before this field mean).
    `stride_in`: a bottleneck's stride sits in its first 1x1 (`first`: the paper, Caffe, Keras) or in its 3x3 (`middle`:
    torchvision's "v1.5", TF-Slim).
    `conv_bias`: a bias before each normalization, as Keras keeps it.
    `projection`: `normalized`, or `bare` as in Keras's CIFAR example.
    `padding`: the strided 3x3 is padded alike on both sides, or as TensorFlow's `same`, less at the top left for even
    sizes.
    `carry`: how a shortcut without weights meets the branch F (He et al. 2016, section 3.1, fig. 2, table 1):
    `identity` (x + F), `scale` (0.5 x + 0.5 F), `scale_shortcut` (0.5 x + F), `exclusive_gate` ((1 - g) x + g F),
    `shortcut_gate` ((1 - g) x + F), `dropout` (half of x dropped, plus F). It holds also for subsampled and padded
    shortcuts, whose x is their output; projections are added as they are.
    `gate_bias`: the first bias of the gates; -6 is the paper's best of 0 to -10.
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
        """Check all fields. Raises SpecError."""
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
        """Raises SpecError for fields that contradict each other."""
        super().check_fields()
        self.check_carry(self.name)

    def strides_before_3x3(self) -> bool:
        """Whether a bottleneck's stride sits in its first 1x1."""
        return self.stride_in == "first"

    def build(self) -> ResNetV1:
        """The network with freshly drawn weights."""
        return ResNetV1(self)


class StemV1(nn.Module):
    """Convolution, normalization, ReLU, max pool."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.conv = spec.stem.convolution(spec.in_channels)
        self.norm = spec.norm.layer(spec.stem.width, in_unit=False)
        self.pool = spec.stem.pooling()

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (N, C, H, W) -> the first map."""
        x = self.norm(self.conv(x))
        x = F.relu(x, inplace=True)
        return self.pool(x)


class UnitV1(nn.Module):
    """What both kinds of unit share: a shortcut, and how it and the branch come together before the last ReLU."""

    shortcut: nn.Module
    join: nn.Module | None

    def bridge(self, channels: int, row: Row, units: UnitsV1) -> None:
        """Make `shortcut`, and `join`, which combines it with the branch; None stands for their plain sum."""
        depth, _, stride = row
        self.shortcut = _shortcut(channels, row, units)
        self.join = None
        if isinstance(self.shortcut, nn.Identity | Subsample | PadChannels):
            self.join = join_for(units.carry, channels, depth, stride, units.gate_bias)

    def joined(self, x: Tensor, branch: Tensor) -> Tensor:
        """The unit's output for its input `x` and the output of its branch."""
        kept = self.shortcut(x)
        if self.join is None:
            total = branch + kept
        else:
            total = self.join(x, kept, branch)
        return F.relu(total, inplace=True)


class BottleneckV1(UnitV1):
    """1x1, 3x3, 1x1, each normalized; the shortcut joins before the last ReLU."""

    def __init__(self, channels: int, row: Row, units: UnitsV1, *, rate: int = 1) -> None:
        super().__init__()
        depth, width, stride = row
        first, middle = 1, stride
        if units.stride_in == "first":
            first, middle = stride, 1
        bias = units.conv_bias
        self.conv1 = conv2d_same(channels, width, 1, stride=first, bias=bias)
        self.norm1 = units.norm.layer(width)
        self.conv2 = convolution(width, width, 3, middle, units.padding, rate=rate, bias=bias)
        self.norm2 = units.norm.layer(width)
        self.conv3 = conv2d_same(width, depth, 1, bias=bias)
        self.norm3 = units.norm.layer(depth)
        self.bridge(channels, row, units)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        y = self.norm1(self.conv1(x))
        y = F.relu(y, inplace=True)
        y = self.norm2(self.conv2(y))
        y = F.relu(y, inplace=True)
        y = self.norm3(self.conv3(y))
        return self.joined(x, y)


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
        """(N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride))."""
        y = self.norm1(self.conv1(x))
        y = F.relu(y, inplace=True)
        y = self.norm2(self.conv2(y))
        return self.joined(x, y)


def _shortcut(channels: int, row: Row, units: UnitsV1) -> nn.Module:
    """The shortcut of a unit whose input has `channels`."""
    depth, _, stride = row
    if channels == depth and units.shortcut != "projection_all":
        if stride == 1:
            return nn.Identity()
        return Subsample(stride)
    if units.shortcut == "pad":
        return PadChannels(channels, depth, stride, units.pad)
    if units.projection == "bare":
        return conv2d_same(channels, depth, 1, stride=stride, bias=units.conv_bias)
    return Projection(channels, depth, stride, units.norm, bias=units.conv_bias)


def identity_block(depth: int, width: int, **fields: Any) -> BottleneckV1:
    """The bottleneck that keeps its input's shape, (N, depth, H, W), and adds it unchanged.

    `width` is the bottleneck's depth, its kernel is always 3; `fields` are those of `UnitsV1` (source: the hand-signs
    code's `identity_block`). Raises SpecError for fields that no unit can have, and UnknownNameError for unknown ones.
    """
    require_fields(UnitsV1, fields, "identity_block")
    units = UnitsV1(**fields)
    if units.shortcut == "projection_all":
        raise SpecError("identity_block projects nothing; take convolutional_block with a stride of 1")
    row = (depth, width, 1)
    return BottleneckV1(depth, row, units)


def convolutional_block(channels: int, depth: int, width: int, *, stride: int = 2, **fields: Any) -> BottleneckV1:
    """The bottleneck with a projection, (N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride)).

    Like its source (the hand-signs code's `convolutional_block`) it has a projection even where the depth stays.
    `fields` are those of `UnitsV1`. Raises SpecError for fields that no unit can have, and UnknownNameError for unknown
    ones.
    """
    require_fields(UnitsV1, fields, "convolutional_block")
    units = UnitsV1(**fields)
    row = (depth, width, stride)
    block = BottleneckV1(channels, row, units)
    block.shortcut = Projection(channels, depth, stride, units.norm, bias=units.conv_bias)
    block.join = None
    return block


class ResNetV1(Stack):
    """Stages `stem`, one for each block; then `logits`."""

    stem_type: ClassVar = StemV1
    unit_types: ClassVar = {"bottleneck": BottleneckV1, "basic": BasicV1}

    def __init__(self, spec: ResNetV1Spec) -> None:
        super().__init__(spec)
        # The initialization has drawn over the first biases of the gates.
        for module in self.modules():
            if isinstance(module, Gating):
                module.reset_bias()
