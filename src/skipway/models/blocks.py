"""How networks of stacked units are described: rows, blocks, the stem, the normalization.

A `Block` is a stage: a name, the kind of unit, and one row (depth, bottleneck depth, stride) for each unit, the way
TF-Slim's `resnet_utils.Block` has it. A basic unit's two 3x3 convolutions have the bottleneck depth and the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from skipway.errors import SpecError
from skipway.models.layers import BatchStatisticsNorm2d, Conv2dSame, MaxPool2d, PoolPadding, conv2d_same, pooled_size
from skipway.models.network import Network, Spec, smallest_side

Row = tuple[int, int, int]
Unit = Literal["bottleneck", "basic"]
Shortcut = Literal["projection", "pad"]
Pad = Literal["after", "both", "before"]  # where the zeros of a padded shortcut stand among the channels
Padding = Literal["symmetric", "same"]
Statistics = Literal["running", "batch", "batch_in_units"]


@dataclass(frozen=True)
class Block:
    """One stage: `rows` holds (depth, bottleneck depth, stride) for each unit."""

    name: str
    unit: Unit
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Stem:
    """First convolution and, where `pool` names a padding, a 3x3 max pool of stride 2.

    `padding` is the convolution's: `symmetric`, or TensorFlow's `same`, which pads less at the top left for even sizes;
    `bias` is its, too.
    """

    kernel: int = 7
    stride: int = 2
    width: int = 64
    pool: PoolPadding | None = "symmetric"
    padding: Padding = field(default="symmetric", kw_only=True)
    bias: bool = field(default=False, kw_only=True)

    def size(self, side: int) -> int:
        """Side of the map after the stem."""
        side = (side - 1) // self.stride + 1
        return side if self.pool is None else pooled_size(side, 3, 2, self.pool)

    def convolution(self, in_channels: int) -> nn.Conv2d:
        """The first convolution."""
        return convolution(in_channels, self.width, self.kernel, self.stride, self.padding, bias=self.bias)

    def pooling(self) -> nn.Module:
        """The max pool, or nothing."""
        return nn.Identity() if self.pool is None else MaxPool2d(3, 2, self.pool)


def convolution(
    channels: int, depth: int, kernel: int, stride: int, padding: Padding, *, rate: int = 1, bias: bool
) -> nn.Conv2d:
    """Convolution (N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride)), padded as a spec's `padding`
    says; without a stride the two ways are one."""
    if padding == "same" and stride > 1:
        return Conv2dSame(channels, depth, kernel, stride, dilation=rate, bias=bias)
    return conv2d_same(channels, depth, kernel, stride=stride, rate=rate, bias=bias)


@dataclass(frozen=True)
class Norm:
    """Batch normalization. `momentum` is torch's, one minus the decay of Keras and TF-Slim.

    `statistics` are those of evaluation: `running`; `batch`, as code that calls its norms with training=True has it; or
    `batch_in_units`, where that code leaves the stem and whatever else is in no unit at its running ones (the hand
    signs). With the batch's a picture's answer depends on the pictures beside it.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    statistics: Statistics = "running"

    def layer(self, channels: int, *, in_unit: bool = True) -> nn.BatchNorm2d:
        """For maps (N, channels, H, W)."""
        live = self.statistics == "batch" or (in_unit and self.statistics == "batch_in_units")
        kind = BatchStatisticsNorm2d if live else nn.BatchNorm2d
        return kind(channels, eps=self.eps, momentum=self.momentum)


def stage(
    name: str, unit: Unit, width: int, units: int, *, stride: int, strided_unit: Literal["first", "last"] = "first"
) -> Block:
    """A stage of equal units of which only the first or the last has a stride; bottlenecks widen by four.

    Raises SpecError where there are no units, or the stride's place is neither.
    """
    if units < 1 or strided_unit not in {"first", "last"}:
        raise SpecError(
            f"{name}: {units} units with the stride in the {strided_unit}; give 1 or more, and first or last"
        )
    depth = 4 * width if unit == "bottleneck" else width
    strides = [1] * units
    strides[0 if strided_unit == "first" else -1] = stride
    return Block(name, unit, tuple((depth, width, one) for one in strides))


@dataclass(frozen=True, kw_only=True)
class StackSpec(Spec):
    """A stem, blocks of units, a head.

    `head` is `global` (mean over the map) or `average_2_flatten` (2x2 average pool, then every pixel a feature, in
    (C, H, W) order). `global_pool=False` keeps the map and classifies every pixel; `include_root_block=False` leaves
    out the stem. `output_stride` other than 0 keeps the map from shrinking further: once the strides multiply to it,
    the later ones become dilation (atrous convolution; TF-Slim's `stack_blocks_dense`).
    """

    unit_kinds: ClassVar[tuple[Unit, ...]] = ("bottleneck", "basic")

    blocks: tuple[Block, ...]
    stem: Stem = Stem()
    norm: Norm = Norm()
    head: Literal["global", "average_2_flatten"] = "global"
    global_pool: bool = True
    include_root_block: bool = True
    output_stride: int = 0

    def check_fields(self) -> None:
        if not self.blocks or any(not block.rows for block in self.blocks):
            raise SpecError(f"{self.name}: every network needs a block and every block a row (depth, width, stride)")
        if min(number for block in self.blocks for row in block.rows for number in row) < 1:
            raise SpecError(f"{self.name}: a row (depth, width, stride) holds a number below 1; give 1 or more")
        self._check_names()
        if self.stem.kernel % 2 == 0 or min(self.stem.kernel, self.stem.stride, self.stem.width) < 1:
            raise SpecError(f"{self.name}: the stem needs an odd kernel, and stride and width of 1 or more")
        if self.norm.eps <= 0 or not 0 <= self.norm.momentum <= 1:
            raise SpecError(f"{self.name}: the norm needs an eps above 0 and a momentum (1 - decay) from 0 to 1")
        if not self.global_pool and self.head != "global":
            raise SpecError(f"{self.name}: its classifier takes the flattened map; keep global_pool=True")
        self._check_output_stride()

    def _check_names(self) -> None:
        names = [block.name for block in self.blocks]
        taken = {
            *dir(Network),
            "stem",
            "stages",
            "head",
            "global_pool",
            "postnorm",
            "pre_logits",
            "logits",
            "predictions",
        }
        for block in self.blocks:
            if names.count(block.name) > 1 or block.name in taken or not block.name.isidentifier():
                raise SpecError(f"{self.name}: a block cannot be called '{block.name}'; give each its own, like stage1")
            if block.unit not in self.unit_kinds:
                kinds = ", ".join(self.unit_kinds)
                raise SpecError(f"{self.name}: {block.name} has units of kind '{block.unit}'; there are: {kinds}")

    def _check_output_stride(self) -> None:
        if not self.output_stride:
            return
        if any(block.unit != "bottleneck" for block in self.blocks):
            raise SpecError(f"{self.name}: output_stride needs bottleneck units; leave it at 0")
        current = self._stem_stride()
        reachable = [current]
        for block in self.blocks:
            for _, _, stride in block.rows:
                current *= stride
                reachable.append(current)
        if self.output_stride not in reachable:
            choices = ", ".join(map(str, sorted(set(reachable))))
            raise SpecError(f"{self.name}: output_stride {self.output_stride} is never reached; give one of {choices}")

    def _stem_stride(self) -> int:
        if not self.include_root_block:
            return 1
        return self.stem.stride * (1 if self.stem.pool is None else 2)

    def strides_before_3x3(self) -> bool:
        """Whether a unit's stride precedes its 3x3, which then, without the stride, has to be dilated itself."""
        return False

    def placed(self) -> list[list[tuple[Row, int]]]:
        """For each block its rows as they are built, each with its dilation rate."""
        current, rate = self._stem_stride(), 1
        blocks: list[list[tuple[Row, int]]] = []
        for block in self.blocks:
            blocks.append([])
            for depth, width, stride in block.rows:
                if current == self.output_stride:
                    after = rate * stride
                    blocks[-1].append(((depth, width, 1), after if self.strides_before_3x3() else rate))
                    rate = after
                else:
                    blocks[-1].append(((depth, width, stride), 1))
                    current *= stride
        return blocks

    def map_size(self, side: int) -> int:
        """Side of the last feature map for an input side."""
        if self.include_root_block:
            side = self.stem.size(side)
        for rows in self.placed():
            for (_, _, stride), _ in rows:
                side = -(-side // stride)
        return side

    def smallest_input(self) -> int:
        needed = 2 if self.head == "average_2_flatten" else 1
        return smallest_side(lambda side: self.map_size(side) >= needed)

    def flattened(self, side: int) -> int:
        return 0 if self.head == "global" else self.map_size(side) // 2

    def features(self) -> int:
        """Features that the classifier sees."""
        return self.blocks[-1].rows[-1][0] * (self.flattened(self.input_size) ** 2 or 1)

    def stem_channels(self) -> int:
        """Channels that the first block sees."""
        return self.stem.width if self.include_root_block else self.in_channels
