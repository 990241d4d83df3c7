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
    """One convolution and what follows its activation.

    `depth` is the number of its channels; `kernel`, `stride` and `padding` are in pixels, the padding on every side, or
    `same` as TensorFlow pads. `after` names what follows, in order.
    """

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
        padded = side + 2 * self.padding
        return (padded - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class ResponseNorm:
    """Local response normalization, x / (k + alpha / size * sum of squares) ** beta (see `layers.LocalResponseNorm`).

    `size` is the window in channels; `alpha` is Caffe's, which is divided by the window.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class Pool:
    """Max pooling; `kernel` and `stride` are in pixels, `layers.MaxPool2d` says what the paddings mean."""

    kernel: int = 3
    stride: int = 2
    padding: PoolPadding = "valid"


@dataclass(frozen=True, kw_only=True)
class AlexNetSpec(Spec):
    """An AlexNet.

    `convs`: the convolutions.
    `hidden`: the widths of the fully connected layers before the classifier.
    `pool`, `norm`: the pools and normalizations that `convs` name.
    `dropout`: the rate that drops, one minus the keep probability of the sources.
    `fc_dropout`: where the fully connected part drops: nowhere (`none`), `before` each hidden layer (torchvision), or
    `after` its activation (Caffe).
    `conv_activation`, `activation`: what follows every convolution, and every hidden layer (fig. 1 of the paper
    compares ReLU with tanh).
    `average_to`: the side to which an adaptive average pool brings the last map, so that the classifier fits pictures
    of any size (torchvision); 0 for no such pool.
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
        """Raises SpecError for sizes, rates and convolutions that no network can have."""
        if not self.convs:
            raise SpecError(f"{self.name}: needs at least one convolution")
        if self.average_to < 0:
            raise SpecError(
                f"{self.name}: average_to is {self.average_to}; give a side in pixels, or 0 for no averaging"
            )
        self._check_norm()
        if not 0 <= self.dropout < 1:
            raise SpecError(f"{self.name}: dropout is {self.dropout}; give the rate that drops, from 0 to below 1")
        if min(self.pool.kernel, self.pool.stride, *self.hidden) < 1:
            raise SpecError(f"{self.name}: a pool or hidden layer has a size below 1; give 1 or more")
        channels = self.in_channels
        for number, row in enumerate(self.convs, 1):
            self._check_conv(f"conv{number}", row, channels)
            channels = row.depth

    def _check_norm(self) -> None:
        """Raises SpecError for a response normalization without a centre, or that could divide by 0."""
        norm = self.norm
        if norm.size < 1 or norm.size % 2 == 0:
            raise SpecError(f"{self.name}: the norm's window is {norm.size} channels; give an odd number")
        if norm.k <= 0 or min(norm.alpha, norm.beta) < 0:
            raise SpecError(
                f"{self.name}: the norm divides by (k + alpha * sum) ** beta; give a k above 0, the others 0 or more"
            )

    def _check_conv(self, label: str, row: Conv, channels: int) -> None:
        """Raises SpecError for a convolution that cannot take a map of `channels`; `label` names it."""
        padding = row.padding
        if padding == "same":
            padding = 0
        if min(row.depth, row.kernel, row.stride, row.groups) < 1 or padding < 0:
            raise SpecError(f"{self.name}: {label} has a size below 1; give 1 or more, and 0 or more of padding")
        if len(set(row.after)) < len(row.after):
            raise SpecError(f"{self.name}: {label} has {', '.join(row.after)} after it; name each once")
        if channels % row.groups or row.depth % row.groups:
            raise SpecError(f"{self.name}: {label} cannot split {channels} channels into {row.groups} groups")

    def map_size(self, side: int) -> int:
        """Side of the last feature map for an input side; 0 or less when the picture is too small."""
        pool = self.pool
        for row in self.convs:
            if side <= 0:
                return 0
            side = row.size(side)
            if "pool" in row.after and side > 0:
                side = pooled_size(side, pool.kernel, pool.stride, pool.padding)
        return side

    def flattened(self, side: int) -> int:
        """Side of the map before the first fully connected layer, for a picture's side."""
        if self.average_to:
            return self.average_to
        return self.map_size(side)

    def smallest_input(self) -> int:
        """Smallest side in pixels at which every window fits."""
        return smallest_side(lambda side: self.map_size(side) > 0)

    def build(self) -> AlexNet:
        """The network with freshly drawn weights."""
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
        self.average: nn.Module = nn.Identity()
        if spec.average_to:
            self.average = nn.AdaptiveAvgPool2d(spec.average_to)
        side = spec.flattened(spec.input_size)
        features = channels * side**2
        for number, width in enumerate(spec.hidden, len(spec.convs) + 1):
            self._append(f"fc{number}", HiddenStage(features, width, spec))
            features = width
        self.logits: nn.Linear | None = None
        if spec.num_classes:
            self.logits = nn.Linear(features, spec.num_classes)
        initialize(self, spec.initialization)

    def _append(self, name: str, stage: nn.Module) -> None:
        """Add a stage behind the others."""
        self.add_module(name, stage)
        self.stages.append(name)

    def walk(self, x: Tensor, note: Note) -> Tensor:
        """Pictures (N, C, H, W) -> logits, or the features before them; notes each stage."""
        for name in self.stages:
            stage = getattr(self, name)
            if isinstance(stage, HiddenStage):
                x = self._flat(x)
            x = stage(x)
            note(name, x)
        x = self._flat(x)
        note("pre_logits", x)
        if self.logits is not None:
            x = self.logits(x)
            note("logits", x)
        return x

    def _flat(self, x: Tensor) -> Tensor:
        """A map as features (N, C * H * W); features as they are."""
        if x.ndim != 4:
            return x
        x = self.average(x)
        # Contiguous first: channels_last memory must still flatten in (C, H, W) order.
        return x.contiguous().flatten(1)


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
            layer = _after(kind, spec, row.depth)
            self.after.add_module(kind, layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the map behind the last of its layers."""
        x = self.conv(x)
        x = self.activation(x)
        return self.after(x)


def _after(kind: After, spec: AlexNetSpec, channels: int) -> nn.Module:
    """A layer that follows the activation of a convolution to `channels`."""
    if kind == "pool":
        pool = spec.pool
        return MaxPool2d(pool.kernel, pool.stride, pool.padding)
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
        rates = {"before": 0.0, "after": 0.0}
        if spec.fc_dropout != "none":
            rates[spec.fc_dropout] = spec.dropout
        self.before = nn.Dropout(rates["before"])
        self.after = nn.Dropout(rates["after"])

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, width)."""
        x = self.before(x)
        x = self.fc(x)
        x = self.activation(x)
        return self.after(x)
