"""Highway networks: y = H(x) T(x) + x C(x), gates that learn what to transform and what to carry (Srivastava, Greff,
Schmidhuber 2015, "Training very deep networks", section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.initialization import Layer, fill, initialize
from skipway.models.layers import ACTIVATIONS, MaxPool2d, classified, conv2d_same, pooled_size
from skipway.models.mlp import MLP, DenseActivation, MLPSpec
from skipway.models.network import Network, Note, Spec, settle_types


@dataclass(frozen=True, kw_only=True)
class Gates:
    """How highway units are made.

    `activation` is that of H. `carry` is `coupled` (C = 1 - T) or `free` (a gate of its own). The bias of T starts at
    `gate_bias`: negative, so that a unit carries at first. The bias of a free C starts at the opposite.
    """

    activation: DenseActivation = "relu"
    gate_bias: float = -2.0
    carry: Literal["coupled", "free"] = "coupled"

    def __post_init__(self) -> None:
        """Check the types of all fields. Raises SpecError."""
        settle_types(self, "gates")


@dataclass(frozen=True, kw_only=True)
class HighwayMLPSpec(MLPSpec, Gates):
    """A fully connected first layer, `layers - 1` highway units of the same `width`, a classifier (section 3.1).

    `layers` counts the first layer and the units; `width` is the number of features of each.
    """

    architecture: ClassVar[str] = "highway_mlp"

    width: int = 50

    def build(self) -> HighwayMLP:
        """The network with freshly drawn weights."""
        return HighwayMLP(self)


@dataclass(frozen=True)
class HighwayStage:
    """A plain 3x3 convolution to `depth` channels, then a highway unit for each of `kernels`, in pixels."""

    depth: int
    kernels: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class HighwaySpec(Spec, Gates):
    """Stages with a 2x2 max pool between them, a 1x1 convolution, the mean over the map, a classifier.

    `stages`: what each stage consists of.
    `last_width`: channels of the 1x1 convolution.
    `dropout`: the rate that drops, of the picture, after each pool, and before the classifier.
    `global_pool`: whether to take the mean over the map; without it every pixel of the map is classified.
    """

    architecture: ClassVar[str] = "highway"

    stages: tuple[HighwayStage, ...]
    last_width: int = 100
    dropout: float = 0.2
    global_pool: bool = True

    def check_fields(self) -> None:
        """Raises SpecError for stages, widths and rates that no network can have."""
        if not self.stages:
            raise SpecError(f"{self.name}: needs at least one stage")
        for number, row in enumerate(self.stages, 1):
            fits = all(kernel >= 1 and kernel % 2 == 1 for kernel in row.kernels)
            if row.depth < 1 or not fits:
                raise SpecError(f"{self.name}: stage{number} needs a depth of 1 or more and odd kernels")
        if self.last_width < 1:
            raise SpecError(f"{self.name}: last_width is {self.last_width}; give 1 or more")
        if not 0 <= self.dropout < 1:
            raise SpecError(f"{self.name}: dropout is {self.dropout}; give the rate that drops, from 0 to below 1")

    def map_size(self, side: int) -> int:
        """Side of the last feature map for an input side."""
        for _ in self.stages[1:]:
            side = pooled_size(side, 2, 2, "valid")
        return side

    def smallest_input(self) -> int:
        """Smallest side in pixels of which the pools leave one."""
        pools = len(self.stages) - 1
        return 2**pools

    def build(self) -> Highway:
        """The network with freshly drawn weights."""
        return Highway(self)


class HighwayUnit(nn.Module):
    """One gated unit. `transform`, `gate` and `carry` (None: coupled) keep the shape of their input."""

    def __init__(self, transform: Layer, gate: Layer, carry: Layer | None, activation: DenseActivation) -> None:
        super().__init__()
        self.transform = transform
        self.gate = gate
        self.carry = carry
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """y = H(x) T(x) + x C(x), of the shape of `x`."""
        h = self.activation(self.transform(x))
        t = torch.sigmoid(self.gate(x))
        transformed = h * t
        if self.carry is None:
            c = 1 - t
        else:
            c = torch.sigmoid(self.carry(x))
        return transformed + x * c


def dense_unit(width: int, gates: Gates) -> HighwayUnit:
    """A unit of fully connected layers, (N, width) -> (N, width). Raises SpecError for a width below 1."""
    if type(width) is not int or width < 1:
        raise SpecError(f"a highway unit cannot have {width} features; give a whole number of 1 or more")
    transform = nn.Linear(width, width)
    gate = nn.Linear(width, width)
    carry = None
    if gates.carry == "free":
        carry = nn.Linear(width, width)
    return HighwayUnit(transform, gate, carry, gates.activation)


def conv_unit(channels: int, kernel: int, gates: Gates) -> HighwayUnit:
    """A unit of convolutions, (N, channels, H, W) -> the same. Raises SpecError for an even kernel."""
    transform = conv2d_same(channels, channels, kernel)
    gate = conv2d_same(channels, channels, kernel)
    carry = None
    if gates.carry == "free":
        carry = conv2d_same(channels, channels, kernel)
    return HighwayUnit(transform, gate, carry, gates.activation)


def _open_gates(network: nn.Module, gates: Gates) -> None:
    """Give the gates of all units their first biases, which an initialization has drawn over."""
    for unit in network.modules():
        if isinstance(unit, HighwayUnit):
            fill(unit.gate.bias, gates.gate_bias)
            if unit.carry is not None:
                fill(unit.carry.bias, -gates.gate_bias)


class HighwayMLP(MLP):
    """Stages `stem`, `unit1`...; then `logits`."""

    def __init__(self, spec: HighwayMLPSpec) -> None:
        super().__init__(spec, spec.activation)
        _open_gates(self, spec)

    def make_unit(self, spec: HighwayMLPSpec) -> HighwayUnit:
        """A highway unit (N, width) -> (N, width)."""
        return dense_unit(spec.width, spec)


class GatedStage(nn.Module):
    """Max pool and dropout in front (not in the first stage), the plain convolution, the highway units."""

    def __init__(self, channels: int, row: HighwayStage, spec: HighwaySpec, *, pool: bool) -> None:
        super().__init__()
        self.pool: nn.Module = nn.Identity()
        if pool:
            self.pool = MaxPool2d(2, 2, "valid")
        self.dropout = nn.Dropout(spec.dropout)
        self.conv = conv2d_same(channels, row.depth, 3)
        self.units: list[str] = []
        for number, kernel in enumerate(row.kernels, 1):
            name = f"unit{number}"
            self.add_module(name, conv_unit(row.depth, kernel, spec))
            self.units.append(name)

    def walk(self, x: Tensor, prefix: str, note: Note) -> Tensor:
        """Run on (N, C, H, W), noting the plain convolution and each unit."""
        x = self.pool(x)
        x = self.dropout(x)
        x = F.relu(self.conv(x))
        note(f"{prefix}.conv", x)
        for name in self.units:
            unit = getattr(self, name)
            x = unit(x)
            note(f"{prefix}.{name}", x)
        return x


class Highway(Network):
    """Stages `stage1`..., `last_conv`; then `logits`."""

    def __init__(self, spec: HighwaySpec) -> None:
        super().__init__(spec)
        self.global_pool = spec.global_pool
        self.stages: list[str] = []
        channels = spec.in_channels
        for number, row in enumerate(spec.stages, 1):
            name = f"stage{number}"
            self.add_module(name, GatedStage(channels, row, spec, pool=number > 1))
            self.stages.append(name)
            channels = row.depth
        self.last_conv = conv2d_same(channels, spec.last_width, 1)
        self.dropout = nn.Dropout(spec.dropout)
        self.logits: nn.Linear | None = None
        if spec.num_classes:
            self.logits = nn.Linear(spec.last_width, spec.num_classes)
        initialize(self, spec.initialization)
        _open_gates(self, spec)

    def walk(self, x: Tensor, note: Note) -> Tensor:
        """Pictures (N, C, H, W) -> logits, or the features before them; notes each unit and each stage."""
        for name in self.stages:
            stage = getattr(self, name)
            x = stage.walk(x, name, note)
            note(name, x)
        x = F.relu(self.last_conv(x))
        note("last_conv", x)
        if self.global_pool:
            x = x.mean((2, 3))
        x = self.dropout(x)
        note("pre_logits", x)
        if self.logits is not None:
            x = classified(x, self.logits)
            note("logits", x)
        return x
