"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) and the networks that took its name: five convolutions or three, local
response normalization, overlapping pooling, dropout.

One class reads rows: a `Conv` says what follows it, in order, so that "norm then pool" (BVLC AlexNet) and "pool then
norm" (CaffeNet) are two spellings of one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.initialization import initialize
from skipway.models.layers import (
    ACTIVATIONS,
    Activation,
    Conv2dSame,
    LocalResponseNorm,
    MaxPool2d,
    PoolPadding,
    pooled_size,
)
from skipway.models.network import Network, Note, Spec, smallest_side

After = Literal["pool", "norm", "dropout"]


@dataclass(frozen=True)
class Conv:
    """One convolution and what follows its activation. `padding` is in pixels on every side, or TensorFlow's SAME."""

    depth: int
    kernel: int
    stride: int = 1
    padding: int | Literal["same"] = 0
    groups: int = 1
    after: tuple[After, ...] = ()

    def size(self, side: int) -> int:
        """Side of the map that the convolution makes; 0 or less when no window fits."""
        if self.padding == "same":
            return -(-side // self.stride)
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


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
    """`convs` are the convolutions and `hidden` the widths of the fully connected layers before the classifier.

    `dropout` is the rate that drops, one minus the keep probability of the sources; `fc_dropout` says where the fully
    connected part drops: nowhere, `before` each hidden layer (torchvision) or `after` its activation (Caffe).
    `conv_activation` follows every convolution, `activation` every hidden layer (fig. 1 of the paper compares ReLU with
    tanh). `average_to` other than 0 averages the last map down, or spreads it, to that side (torchvision's adaptive
    average pool), so that the classifier fits pictures of any size.
    """

    architecture: ClassVar[str] = "alexnet"

    convs: tuple[Conv, ...]
    hidden: tuple[int, ...] = (4096, 4096)
    pool: Pool = Pool()
    norm: ResponseNorm = ResponseNorm()
    dropout: float = 0.5
    fc_dropout: Literal["none", "before", "after"] = "after"
    conv_activation: Activation = "relu"
    activation: Activation = "relu"
    average_to: int = 0

    def check_fields(self) -> None:
        if not self.convs:
            raise SpecError(f"{self.name}: needs at least one convolution")
        if self.average_to < 0:
            raise SpecError(
                f"{self.name}: average_to is {self.average_to}; give a side in pixels, or 0 for no averaging"
            )
        if self.norm.size < 1 or self.norm.size % 2 == 0:
            raise SpecError(f"{self.name}: the norm's window is {self.norm.size} channels; give an odd number")
        if self.norm.k <= 0 or min(self.norm.alpha, self.norm.beta) < 0:
            raise SpecError(
                f"{self.name}: the norm divides by (k + alpha * sum) ** beta; give a k above 0, the others 0 or more"
            )
        if not 0 <= self.dropout < 1:
            raise SpecError(f"{self.name}: dropout is {self.dropout}; give the rate that drops, from 0 to below 1")
        if min(self.pool.kernel, self.pool.stride, *self.hidden) < 1:
            raise SpecError(f"{self.name}: a pool or hidden layer has a size below 1; give 1 or more")
        channels = self.in_channels
        for number, row in enumerate(self.convs, 1):
            padding = 0 if row.padding == "same" else row.padding
            if min(row.depth, row.kernel, row.stride, row.groups) < 1 or padding < 0:
                raise SpecError(
                    f"{self.name}: conv{number} has a size below 1; give 1 or more, and 0 or more of padding"
                )
            if len(set(row.after)) < len(row.after):
                raise SpecError(f"{self.name}: conv{number} has {', '.join(row.after)} after it; name each once")
            if channels % row.groups or row.depth % row.groups:
                raise SpecError(f"{self.name}: conv{number} cannot split {channels} channels into {row.groups} groups")
            channels = row.depth

    def map_size(self, side: int) -> int:
        """Side of the last feature map for an input side; 0 or less when the picture is too small."""
        for row in self.convs:
            side = row.size(side) if side > 0 else 0
            if "pool" in row.after and side > 0:
                side = pooled_size(side, self.pool.kernel, self.pool.stride, self.pool.padding)
        return side

    def flattened(self, side: int) -> int:
        return self.average_to or self.map_size(side)

    def smallest_input(self) -> int:
        return smallest_side(lambda side: self.map_size(side) > 0)

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
        self.average = nn.AdaptiveAvgPool2d(spec.average_to) if spec.average_to else nn.Identity()
        features = channels * spec.flattened(spec.input_size) ** 2
        for number, width in enumerate(spec.hidden, len(spec.convs) + 1):
            self._append(f"fc{number}", HiddenStage(features, width, spec))
            features = width
        self.logits = nn.Linear(features, spec.num_classes) if spec.num_classes else None
        initialize(self, spec.initialization)

    def _append(self, name: str, stage: nn.Module) -> None:
        self.add_module(name, stage)
        self.stages.append(name)

    def walk(self, x: Tensor, note: Note) -> Tensor:
        for name in self.stages:
            stage = getattr(self, name)
            x = stage(self._flat(x) if isinstance(stage, HiddenStage) else x)
            note(name, x)
        x = self._flat(x)
        note("pre_logits", x)
        if self.logits is not None:
            x = self.logits(x)
            note("logits", x)
        return x

    def _flat(self, x: Tensor) -> Tensor:
        # Contiguous first: channels_last memory must still flatten in (C, H, W) order.
        return self.average(x).contiguous().flatten(1) if x.ndim == 4 else x


class ConvStage(nn.Module):
    """Convolution, activation, and the pooling, normalization and dropout that the row names, in its order."""

    def __init__(self, spec: AlexNetSpec, row: Conv, channels: int) -> None:
        super().__init__()
        if row.padding == "same":
            self.conv: nn.Conv2d = Conv2dSame(channels, row.depth, row.kernel, row.stride, groups=row.groups)
        else:
            self.conv = nn.Conv2d(channels, row.depth, row.kernel, row.stride, row.padding, groups=row.groups)
        self.activation = ACTIVATIONS[spec.conv_activation]
        self.after = nn.Sequential()
        for kind in row.after:
            self.after.add_module(kind, _after(kind, spec, row.depth))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.activation(self.conv(x)))


def _after(kind: After, spec: AlexNetSpec, channels: int) -> nn.Module:
    if kind == "pool":
        return MaxPool2d(spec.pool.kernel, spec.pool.stride, spec.pool.padding)
    if kind == "norm":
        norm = spec.norm
        return LocalResponseNorm(channels, size=norm.size, alpha=norm.alpha, beta=norm.beta, k=norm.k)
    return nn.Dropout(spec.dropout)


_MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class HiddenStage(nn.Module):
    """Fully connected layer and its activation, dropout on either side of them or nowhere."""

    def __init__(self, features: int, width: int, spec: AlexNetSpec) -> None:
        super().__init__()
        self.fc = nn.Linear(features, width)
        self.activation = _MODULES[spec.activation]()
        self.before = nn.Dropout(spec.dropout if spec.fc_dropout == "before" else 0.0)
        self.after = nn.Dropout(spec.dropout if spec.fc_dropout == "after" else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.activation(self.fc(self.before(x))))
