"""What ResNet v1 and v2 are stacked from: rows, blocks, the stem and the shortcuts.

A `Block` is a stage: a name, the kind of unit, and one row (depth, bottleneck depth, stride) for each unit, the way
TF-Slim's `resnet_utils.Block` has it. A basic unit's two 3x3 convolutions have the bottleneck depth and the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.initialization import initialize
from skipway.models.layers import MaxPool2d, PoolPadding, conv2d_same, pooled_size, subsample
from skipway.models.network import Network, Note, Spec

Row = tuple[int, int, int]
Unit = Literal["bottleneck", "basic"]


@dataclass(frozen=True)
class Block:
    """One stage: `rows` holds (depth, bottleneck depth, stride) for each unit."""

    name: str
    unit: Unit
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Stem:
    """First convolution and, where `pool` names a padding, a 3x3 max pool of stride 2. `bias`: of the convolution."""

    kernel: int = 7
    stride: int = 2
    width: int = 64
    pool: PoolPadding | None = "symmetric"
    bias: bool = False

    def size(self, side: int) -> int:
        """Side of the map after the stem."""
        side = (side - 1) // self.stride + 1
        return side if self.pool is None else pooled_size(side, 3, 2, self.pool)


@dataclass(frozen=True)
class Norm:
    """Batch normalization. `momentum` is torch's, one minus the decay of Keras and TF-Slim."""

    eps: float = 1e-5
    momentum: float = 0.1

    def layer(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


def stage(
    name: str, unit: Unit, width: int, units: int, *, stride: int, stride_in: Literal["first", "last"] = "first"
) -> Block:
    """A stage of equal units of which only the first or the last has a stride; bottlenecks widen by four."""
    depth = 4 * width if unit == "bottleneck" else width
    strides = [1] * units
    strides[0 if stride_in == "first" else -1] = stride
    return Block(name, unit, tuple((depth, width, one) for one in strides))


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(Spec):
    """Fields that v1 and v2 share.

    `shortcut` is used where depths differ: `projection` is a learned 1x1 convolution (option B of He et al. 2015),
    `pad` adds channels of zeros, half on either side (option A). `head` is `global` (mean over the map) or
    `average_2_flatten` (2x2 average pool, then every pixel a feature, in (C, H, W) order). `global_pool=False` keeps
    the map and classifies every pixel; `include_root_block=False` leaves out the stem.
    """

    blocks: tuple[Block, ...]
    stem: Stem = Stem()
    norm: Norm = Norm()
    shortcut: Literal["projection", "pad"] = "projection"
    head: Literal["global", "average_2_flatten"] = "global"
    global_pool: bool = True
    include_root_block: bool = True

    def __post_init__(self) -> None:
        if not self.blocks or any(not block.rows for block in self.blocks):
            raise SpecError(f"{self.name}: every network needs a block and every block a row (depth, width, stride)")
        if min(number for block in self.blocks for row in block.rows for number in row) < 1:
            raise SpecError(f"{self.name}: a row (depth, width, stride) holds a number below 1; give 1 or more")
        if self.stem.kernel % 2 == 0 or min(self.stem.kernel, self.stem.stride, self.stem.width) < 1:
            raise SpecError(f"{self.name}: the stem needs an odd kernel, and stride and width of 1 or more")
        if not self.global_pool and self.head != "global":
            raise SpecError(f"{self.name}: its classifier takes the flattened map; keep global_pool=True")
        super().__post_init__()

    def map_size(self, side: int) -> int:
        """Side of the last feature map for an input side."""
        if self.include_root_block:
            side = self.stem.size(side)
        for block in self.blocks:
            for _, _, stride in block.rows:
                side = -(-side // stride)
        return side

    def smallest_input(self) -> int:
        needed = 2 if self.head == "average_2_flatten" else 1
        return next((side for side in range(1, 4096) if self.map_size(side) >= needed), 4096)

    def features(self) -> int:
        """Features that the classifier sees."""
        depth = self.blocks[-1].rows[-1][0]
        return depth if self.head == "global" else depth * (self.map_size(self.input_size) // 2) ** 2

    def stem_channels(self) -> int:
        """Channels that the first block sees."""
        return self.stem.width if self.include_root_block else self.in_channels


class ResNet(Network):
    """Stem, stages, head: the frame that v1 and v2 fill with their own stem, units and last layer."""

    stem_type: ClassVar[type[nn.Module]]
    unit_types: ClassVar[Mapping[str, Callable[[int, Row, Any], nn.Module]]]

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__(spec)
        self.head = spec.head
        self.global_pool = spec.global_pool
        self.stem = type(self).stem_type(spec) if spec.include_root_block else None
        self.stages = [block.name for block in spec.blocks]
        channels = spec.stem_channels()
        for block in spec.blocks:
            units = []
            for row in block.rows:
                units.append(self.unit_types[block.unit](channels, row, spec))
                channels = row[0]
            self.add_module(block.name, Stage(units))
        self.add_tail(channels, spec)
        self.logits = nn.Linear(spec.features(), spec.num_classes) if spec.num_classes else None
        initialize(self, spec.initialization)

    def add_tail(self, channels: int, spec: Any) -> None:
        """Register what follows the last stage."""

    def walk_tail(self, x: Tensor, note: Note) -> Tensor:  # noqa: ARG002 (v2 notes its last normalization)
        """Run what follows the last stage."""
        return x

    def walk(self, x: Tensor, note: Note) -> Tensor:
        if self.stem is not None:
            x = self.stem(x)
            note("stem", x)
        for name in self.stages:
            x = getattr(self, name).walk(x, name, note)
            note(name, x)
        return self.walk_head(self.walk_tail(x, note), note)

    def walk_head(self, x: Tensor, note: Note) -> Tensor:
        """Pool and classify the last map, noting `pre_logits` and `logits`."""
        if self.head == "average_2_flatten":
            x = F.avg_pool2d(x, 2).contiguous().flatten(1)
        elif self.global_pool:
            x = x.mean((2, 3))
        note("pre_logits", x)
        if self.logits is None:
            return x
        x = self.logits(x) if x.ndim == 2 else F.conv2d(x, self.logits.weight[:, :, None, None], self.logits.bias)
        note("logits", x)
        return x


class Stage(nn.Module):
    """Units in a row, noted as `stage2.unit3`."""

    def __init__(self, units: list[nn.Module]) -> None:
        super().__init__()
        for number, unit in enumerate(units, 1):
            self.add_module(f"unit{number}", unit)

    def walk(self, x: Tensor, prefix: str, note: Note) -> Tensor:
        for name, unit in self.named_children():
            x = unit(x)
            note(f"{prefix}.{name}", x)
        return x


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
    """Option B of v1: 1x1 convolution with the unit's stride, normalized."""

    def __init__(self, channels: int, depth: int, stride: int, norm: Norm, *, bias: bool) -> None:
        super().__init__()
        self.conv = conv2d_same(channels, depth, 1, stride=stride, bias=bias)
        self.norm = norm.layer(depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def max_pool_of(stem: Stem) -> nn.Module:
    """The stem's max pool, or nothing."""
    return nn.Identity() if stem.pool is None else MaxPool2d(3, 2, stem.pool)
