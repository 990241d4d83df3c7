"""Highway networks: y = H(x) T(x) + x C(x), gates that learn what to transform and what to carry (Srivastava, Greff,
Schmidhuber 2015, "Training very deep networks", section 2)."""

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
    """How highway units are made. `activation` is H's. `carry` is `coupled` (C = 1 - T) or `free` (a gate of its own).
    T's bias starts at `gate_bias`: negative, so that a unit carries at first; a free C's starts at its opposite."""

    activation: DenseActivation = "relu"
    gate_bias: float = -2.0
    carry: Literal["coupled", "free"] = "coupled"

    def __post_init__(self) -> None:
        settle_types(self, "gates")


@dataclass(frozen=True, kw_only=True)
class HighwayMLPSpec(MLPSpec, Gates):
    """A fully connected first layer, `layers - 1` highway units of the same `width`, a classifier (section 3.1)."""

    architecture: ClassVar[str] = "highway_mlp"

    width: int = 50

    def build(self) -> HighwayMLP:
        return HighwayMLP(self)


@dataclass(frozen=True)
class HighwayStage:
    """A plain 3x3 convolution to `depth` channels, then one highway unit for each of `kernels`."""

    depth: int
    kernels: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class HighwaySpec(Spec, Gates):
    """Stages with a 2x2 max pool between them, a 1x1 convolution to `last_width` channels, the mean over the map, a
    classifier. `dropout` is the rate that drops: of the picture, after each pool, before the classifier."""

    architecture: ClassVar[str] = "highway"

    stages: tuple[HighwayStage, ...]
    last_width: int = 100
    dropout: float = 0.2
    global_pool: bool = True

    def check_fields(self) -> None:
        if not self.stages:
            raise SpecError(f"{self.name}: needs at least one stage")
        for number, row in enumerate(self.stages, 1):
            if min(row.depth, *row.kernels, 1) < 1 or any(kernel % 2 == 0 for kernel in row.kernels):
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
        return 2 ** (len(self.stages) - 1)

    def build(self) -> Highway:
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
        h, t = self.activation(self.transform(x)), torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t if self.carry is None else torch.sigmoid(self.carry(x)))


def dense_unit(width: int, gates: Gates) -> HighwayUnit:
    """A unit of fully connected layers, (N, width) -> (N, width). Raises SpecError."""
    if type(width) is not int or width < 1:
        raise SpecError(f"a highway unit cannot have {width} features; give a whole number of 1 or more")
    layers = [nn.Linear(width, width) for _ in range(3 if gates.carry == "free" else 2)]
    return HighwayUnit(layers[0], layers[1], layers[2] if layers[2:] else None, gates.activation)


def conv_unit(channels: int, kernel: int, gates: Gates) -> HighwayUnit:
    """A unit of convolutions, (N, channels, H, W) -> the same."""
    layers = [conv2d_same(channels, channels, kernel) for _ in range(3 if gates.carry == "free" else 2)]
    return HighwayUnit(layers[0], layers[1], layers[2] if layers[2:] else None, gates.activation)


def _open_gates(network: nn.Module, gates: Gates) -> None:
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
        return dense_unit(spec.width, spec)


class Stage(nn.Module):
    """Max pool and dropout in front (not in the first stage), the plain convolution, the highway units."""

    def __init__(self, channels: int, row: HighwayStage, spec: HighwaySpec, *, pool: bool) -> None:
        super().__init__()
        self.pool = MaxPool2d(2, 2, "valid") if pool else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        self.conv = conv2d_same(channels, row.depth, 3)
        self.units = [f"unit{number}" for number in range(1, len(row.kernels) + 1)]
        for name, kernel in zip(self.units, row.kernels, strict=True):
            self.add_module(name, conv_unit(row.depth, kernel, spec))

    def walk(self, x: Tensor, prefix: str, note: Note) -> Tensor:
        """Run on (N, C, H, W), noting the plain convolution and each unit."""
        x = F.relu(self.conv(self.dropout(self.pool(x))))
        note(f"{prefix}.conv", x)
        for name in self.units:
            x = getattr(self, name)(x)
            note(f"{prefix}.{name}", x)
        return x


class Highway(Network):
    """Stages `stage1`..., `last_conv`; then `logits`."""

    def __init__(self, spec: HighwaySpec) -> None:
        super().__init__(spec)
        self.global_pool = spec.global_pool
        self.stages = [f"stage{number}" for number in range(1, len(spec.stages) + 1)]
        channels = spec.in_channels
        for name, row in zip(self.stages, spec.stages, strict=True):
            self.add_module(name, Stage(channels, row, spec, pool=name != "stage1"))
            channels = row.depth
        self.last_conv = conv2d_same(channels, spec.last_width, 1)
        self.dropout = nn.Dropout(spec.dropout)
        self.logits = nn.Linear(spec.last_width, spec.num_classes) if spec.num_classes else None
        initialize(self, spec.initialization)
        _open_gates(self, spec)

    def walk(self, x: Tensor, note: Note) -> Tensor:
        for name in self.stages:
            x = getattr(self, name).walk(x, name, note)
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
