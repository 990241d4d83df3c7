"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) and the networks that took its name: five convolutions or three, local
response normalization, overlapping pooling, dropout.

One class reads rows: a `Conv` says what follows it, in order, so that "norm then pool" (BVLC AlexNet) and "pool then
norm" (CaffeNet) are two spellings of one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.initialization import initialize
from skipway.models.layers import LocalResponseNorm, MaxPool2d, PoolPadding, pooled_size
from skipway.models.network import Network, Note, Spec

After = Literal["pool", "norm", "dropout"]


@dataclass(frozen=True)
class Conv:
    """One convolution with ReLU and what follows it. `padding` is in pixels on every side."""

    depth: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    after: tuple[After, ...] = ()


@dataclass(frozen=True)
class ResponseNorm:
    """Local response normalization with Caffe's alpha (divided by the window)."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class Pool:
    """Max pooling; see `layers.MaxPool2d` for the paddings."""

    kernel: int = 3
    stride: int = 2
    padding: PoolPadding = "valid"


@dataclass(frozen=True, kw_only=True)
class AlexNetSpec(Spec):
    """`dropout` is the rate that drops, one minus the keep probability of the sources.

    `fc_dropout` says where the fully connected part drops: nowhere, or after each hidden layer's activation (Caffe).
    """

    architecture: ClassVar[str] = "alexnet"

    convs: tuple[Conv, ...]
    hidden: tuple[int, ...] = (4096, 4096)
    pool: Pool = Pool()
    norm: ResponseNorm = ResponseNorm()
    dropout: float = 0.5
    fc_dropout: Literal["none", "after"] = "after"

    def __post_init__(self) -> None:
        if self.norm.size < 1 or self.norm.size % 2 == 0:
            raise SpecError(f"{self.name}: the norm's window is {self.norm.size} channels; give an odd number")
        if not 0 <= self.dropout < 1:
            raise SpecError(f"{self.name}: dropout is {self.dropout}; give the rate that drops, from 0 to below 1")
        if min(self.pool.kernel, self.pool.stride, *self.hidden) < 1:
            raise SpecError(f"{self.name}: a pool or hidden layer has a size below 1; give 1 or more")
        channels = self.in_channels
        for number, row in enumerate(self.convs, 1):
            if min(row.depth, row.kernel, row.stride, row.groups) < 1 or row.padding < 0:
                raise SpecError(
                    f"{self.name}: conv{number} has a size below 1; give 1 or more, and 0 or more of padding"
                )
            if channels % row.groups or row.depth % row.groups:
                raise SpecError(f"{self.name}: conv{number} cannot split {channels} channels into {row.groups} groups")
            channels = row.depth
        super().__post_init__()

    def map_size(self, side: int) -> int:
        """Side of the last feature map for an input side; 0 or less when the picture is too small."""
        for row in self.convs:
            side = (side + 2 * row.padding - row.kernel) // row.stride + 1 if side > 0 else 0
            if "pool" in row.after and side > 0:
                side = pooled_size(side, self.pool.kernel, self.pool.stride, self.pool.padding)
        return side

    def smallest_input(self) -> int:
        return next((side for side in range(1, 4096) if self.map_size(side) > 0), 4096)

    def build(self) -> AlexNet:
        return AlexNet(self)


class AlexNet(Network):
    """Stages `conv1`...; then `fc6`, `fc7` (numbered on from the convolutions) and `logits`."""

    def __init__(self, spec: AlexNetSpec) -> None:
        super().__init__(spec)
        self.stages: list[str] = []
        channels = spec.in_channels
        for number, row in enumerate(spec.convs, 1):
            self._append(f"conv{number}", ConvStage(spec, row, channels))
            channels = row.depth
        features = channels * spec.map_size(spec.input_size) ** 2
        drop = spec.dropout if spec.fc_dropout == "after" else 0.0
        for number, width in enumerate(spec.hidden, len(spec.convs) + 1):
            self._append(f"fc{number}", HiddenStage(features, width, drop))
            features = width
        self.logits = nn.Linear(features, spec.num_classes) if spec.num_classes else None
        initialize(self, spec.initialization)

    def _append(self, name: str, stage: nn.Module) -> None:
        self.add_module(name, stage)
        self.stages.append(name)

    def walk(self, x: Tensor, note: Note) -> Tensor:
        for name in self.stages:
            stage = getattr(self, name)
            x = stage(_flat(x) if isinstance(stage, HiddenStage) else x)
            note(name, x)
        x = _flat(x)
        note("pre_logits", x)
        if self.logits is not None:
            x = self.logits(x)
            note("logits", x)
        return x


def _flat(x: Tensor) -> Tensor:
    # Contiguous first: channels_last memory must still flatten in (C, H, W) order.
    return x.contiguous().flatten(1) if x.ndim == 4 else x


class ConvStage(nn.Module):
    """Convolution, ReLU, and the pooling, normalization and dropout that the row names, in its order."""

    def __init__(self, spec: AlexNetSpec, row: Conv, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, row.depth, row.kernel, row.stride, row.padding, groups=row.groups)
        self.after = nn.Sequential()
        for kind in row.after:
            self.after.add_module(kind, _after(kind, spec, row.depth))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.relu(self.conv(x)))


def _after(kind: After, spec: AlexNetSpec, channels: int) -> nn.Module:
    if kind == "pool":
        return MaxPool2d(spec.pool.kernel, spec.pool.stride, spec.pool.padding)
    if kind == "norm":
        norm = spec.norm
        return LocalResponseNorm(channels, size=norm.size, alpha=norm.alpha, beta=norm.beta, k=norm.k)
    return nn.Dropout(spec.dropout)


class HiddenStage(nn.Module):
    """Fully connected layer, ReLU, dropout."""

    def __init__(self, features: int, width: int, drop: float) -> None:
        super().__init__()
        self.fc = nn.Linear(features, width)
        self.dropout = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.fc(x)))
