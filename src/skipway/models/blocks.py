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

# What the modules and endpoints of a network are called besides its blocks.
_NAMES_OF_PARTS = frozenset(
    {"stem", "stages", "head", "global_pool", "postnorm", "pre_logits", "logits", "predictions"}
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One stage: its name, the kind of its units, and (depth, bottleneck depth, stride) for each unit."""

    name: str
    unit: Unit
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Stem:
    """First convolution and, where `pool` names a padding, a 3x3 max pool of stride 2.

    `kernel` and `stride` of the convolution are in pixels, `width` is its number of channels. `padding` is how it is
    padded: `symmetric`, or TensorFlow's `same`, which pads less at the top left for even sizes. `bias` says whether it
    has a bias.
    """

    kernel: int = 7
    stride: int = 2
    width: int = 64
    pool: PoolPadding | None = "symmetric"
    padding: Padding = field(default="symmetric", kw_only=True)
    bias: bool = field(default=False, kw_only=True)

    def size(self, side: int) -> int:
        """Side of the map after the stem, for a picture's side in pixels."""
        after_convolution = (side - 1) // self.stride + 1
        if self.pool is None:
            return after_convolution
        return pooled_size(after_convolution, 3, 2, self.pool)

    def convolution(self, in_channels: int) -> nn.Conv2d:
        """The first convolution."""
        return convolution(in_channels, self.width, self.kernel, self.stride, self.padding, bias=self.bias)

    def pooling(self) -> nn.Module:
        """The max pool, or nothing."""
        if self.pool is None:
            return nn.Identity()
        return MaxPool2d(3, 2, self.pool)


def convolution(
    channels: int, depth: int, kernel: int, stride: int, padding: Padding, *, rate: int = 1, bias: bool
) -> nn.Conv2d:
    """Convolution (N, channels, H, W) -> (N, depth, ceil(H / stride), ceil(W / stride)), padded as a spec's `padding`
    says. At a stride of 1 both ways pad alike. Raises SpecError for sizes below 1 and for even kernels that are to be
    padded symmetrically.
    """
    if padding == "same" and stride > 1:
        return Conv2dSame(channels, depth, kernel, stride, dilation=rate, bias=bias)
    return conv2d_same(channels, depth, kernel, stride=stride, rate=rate, bias=bias)


@dataclass(frozen=True)
class Norm:
    """Batch normalization.

    `eps`: what is added to the variance.
    `momentum`: torch's, one minus the decay of Keras and TF-Slim.
    `statistics`: the means and variances of evaluation. `running` are the running ones. `batch` are those of the batch,
    as in code that calls its norms with training=True; a picture's answer then depends on the pictures beside it.
    `batch_in_units` are those of the batch inside units, and the running ones elsewhere (the hand signs).
    """

    eps: float = 1e-5
    momentum: float = 0.1
    statistics: Statistics = "running"

    def layer(self, channels: int, *, in_unit: bool = True) -> nn.BatchNorm2d:
        """A layer for maps (N, channels, H, W), inside a unit or elsewhere in a network."""
        kind: type[nn.BatchNorm2d] = nn.BatchNorm2d
        if self.statistics == "batch":
            kind = BatchStatisticsNorm2d
        if self.statistics == "batch_in_units" and in_unit:
            kind = BatchStatisticsNorm2d
        return kind(channels, eps=self.eps, momentum=self.momentum)


def stage(
    name: str, unit: Unit, width: int, units: int, *, stride: int, strided_unit: Literal["first", "last"] = "first"
) -> Block:
    """A stage of equal units of which only the first or the last has a stride.

    `width` is the depth of a basic unit, or the bottleneck depth of a bottleneck, whose depth is four times that.
    Raises SpecError where there are no units, or where `strided_unit` is neither `first` nor `last`.
    """
    if units < 1 or strided_unit not in {"first", "last"}:
        raise SpecError(
            f"{name}: {units} units with the stride in the {strided_unit}; give 1 or more, and first or last"
        )
    depth = width
    if unit == "bottleneck":
        depth = 4 * width
    rows: list[Row] = [(depth, width, 1)] * units
    strided = (depth, width, stride)
    if strided_unit == "first":
        rows[0] = strided
    else:
        rows[-1] = strided
    return Block(name, unit, tuple(rows))


@dataclass(frozen=True, kw_only=True)
class StackSpec(Spec):
    """A stem, blocks of units, a head.

    `blocks`, `stem`, `norm`: the stages, the first convolution, and every normalization.
    `head`: `global` (mean over the map) or `average_2_flatten` (2x2 average pool, then every pixel a feature, in
    (C, H, W) order).
    `global_pool`: False keeps the map and classifies every pixel.
    `include_root_block`: False leaves out the stem.
    `output_stride`: other than 0 it keeps the map from shrinking further: once the strides multiply to it, the later
    strides become dilation (atrous convolution; TF-Slim's `stack_blocks_dense`).
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
        """Raises SpecError for blocks, a stem, a norm or a head that no network can have."""
        self._check_blocks()
        if self.stem.kernel % 2 == 0 or min(self.stem.kernel, self.stem.stride, self.stem.width) < 1:
            raise SpecError(f"{self.name}: the stem needs an odd kernel, and stride and width of 1 or more")
        if self.norm.eps <= 0 or not 0 <= self.norm.momentum <= 1:
            raise SpecError(f"{self.name}: the norm needs an eps above 0 and a momentum (1 - decay) from 0 to 1")
        if not self.global_pool and self.head != "global":
            raise SpecError(f"{self.name}: its classifier takes the flattened map; keep global_pool=True")
        self._check_output_stride()

    def _check_blocks(self) -> None:
        """Raises SpecError for blocks without rows, numbers below 1, and names or kinds that do not fit."""
        if not self.blocks or not all(block.rows for block in self.blocks):
            raise SpecError(f"{self.name}: every network needs a block and every block a row (depth, width, stride)")
        for block in self.blocks:
            for row in block.rows:
                if min(row) < 1:
                    raise SpecError(f"{self.name}: a row (depth, width, stride) holds a number below 1; give 1 or more")
        taken = _NAMES_OF_PARTS.union(dir(Network))
        for block in self.blocks:
            if block.name in taken or not block.name.isidentifier():
                raise SpecError(f"{self.name}: a block cannot be called '{block.name}'; give each its own, like stage1")
            taken = taken | {block.name}
            if block.unit not in self.unit_kinds:
                kinds = ", ".join(self.unit_kinds)
                raise SpecError(f"{self.name}: {block.name} has units of kind '{block.unit}'; there are: {kinds}")

    def _check_output_stride(self) -> None:
        """Raises SpecError for an `output_stride` that the strides never multiply to, or that units cannot have."""
        if not self.output_stride:
            return
        current = self._stem_stride()
        reachable = {current}
        for block in self.blocks:
            if block.unit != "bottleneck":
                raise SpecError(f"{self.name}: output_stride needs bottleneck units; leave it at 0")
            for _, _, stride in block.rows:
                current *= stride
                reachable.add(current)
        if self.output_stride not in reachable:
            choices = ", ".join(map(str, sorted(reachable)))
            raise SpecError(f"{self.name}: output_stride {self.output_stride} is never reached; give one of {choices}")

    def _stem_stride(self) -> int:
        """The stride of convolution and pool together."""
        if not self.include_root_block:
            return 1
        if self.stem.pool is None:
            return self.stem.stride
        return 2 * self.stem.stride

    def strides_before_3x3(self) -> bool:
        """Whether a unit's stride precedes its 3x3, which then, without the stride, has to be dilated itself."""
        return False

    def placed(self) -> list[list[tuple[Row, int]]]:
        """For each block its rows as they are built, each with its dilation rate."""
        current, rate = self._stem_stride(), 1
        blocks: list[list[tuple[Row, int]]] = []
        for block in self.blocks:
            rows: list[tuple[Row, int]] = []
            for depth, width, stride in block.rows:
                if current != self.output_stride:
                    rows.append(((depth, width, stride), 1))
                    current *= stride
                    continue
                # The stride becomes dilation, from this unit's 3x3 on or from the next unit on.
                own_rate = rate
                rate *= stride
                if self.strides_before_3x3():
                    own_rate = rate
                rows.append(((depth, width, 1), own_rate))
            blocks.append(rows)
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
        """Smallest side in pixels that leaves the head what it pools."""
        needed = 1
        if self.head == "average_2_flatten":
            needed = 2
        return smallest_side(lambda side: self.map_size(side) >= needed)

    def flattened(self, side: int) -> int:
        """Side of the flattened map for a picture's side; 0 where the head takes the mean."""
        if self.head == "global":
            return 0
        return self.map_size(side) // 2

    def features(self) -> int:
        """Features that the classifier sees."""
        depth, _, _ = self.blocks[-1].rows[-1]
        if self.head == "global":
            return depth
        side = self.flattened(self.input_size)
        return depth * side**2

    def stem_channels(self) -> int:
        """Channels that the first block sees."""
        if self.include_root_block:
            return self.stem.width
        return self.in_channels
