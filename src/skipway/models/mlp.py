"""Thin fully connected nets of any depth, plain or highway: what "Training very deep networks" (Srivastava, Greff,
Schmidhuber 2015, section 3.1, fig. 1) compares on MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.initialization import initialize
from skipway.models.layers import ACTIVATIONS
from skipway.models.network import Network, Note, Spec

DenseActivation = Literal["relu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class MLPSpec(Spec):
    """A fully connected first layer, `layers - 1` units of the same `width`, a classifier."""

    layers: int
    width: int

    def check_fields(self) -> None:
        if min(self.layers, self.width) < 1:
            raise SpecError(f"{self.name}: layers is {self.layers} and width {self.width}; give 1 or more of each")

    def smallest_input(self) -> int:
        return 1

    def flattened(self, side: int) -> int:
        return side


class MLP(Network):
    """Stages `stem`, `unit1`...; then `logits`. A family fills in its units."""

    def __init__(self, spec: MLPSpec, activation: DenseActivation) -> None:
        super().__init__(spec)
        self.activation = ACTIVATIONS[activation]
        self.stem = nn.Linear(spec.in_channels * spec.input_size**2, spec.width)
        self.units = [f"unit{number}" for number in range(1, spec.layers)]
        for name in self.units:
            self.add_module(name, self.make_unit(spec))
        self.logits = nn.Linear(spec.width, spec.num_classes) if spec.num_classes else None
        initialize(self, spec.initialization)

    def make_unit(self, spec: Any) -> nn.Module:
        """A unit (N, width) -> (N, width)."""
        raise NotImplementedError

    def walk(self, x: Tensor, note: Note) -> Tensor:
        x = self.activation(self.stem(x.contiguous().flatten(1)))
        note("stem", x)
        for name in self.units:
            x = getattr(self, name)(x)
            note(name, x)
        note("pre_logits", x)
        if self.logits is not None:
            x = self.logits(x)
            note("logits", x)
        return x


@dataclass(frozen=True, kw_only=True)
class PlainMLPSpec(MLPSpec):
    """The net that highway networks are compared with. A plain layer of width 71 has about as many parameters (5,112)
    as a highway unit of 50 (5,100); `activation` is ReLU or tanh."""

    architecture: ClassVar[str] = "plain_mlp"

    width: int = 71
    activation: DenseActivation = "relu"

    def build(self) -> PlainMLP:
        return PlainMLP(self)


class DenseUnit(nn.Module):
    """One plain layer, (N, width) -> (N, width): the H of a highway unit, without its gates."""

    def __init__(self, width: int, activation: DenseActivation) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.transform(x))


class PlainMLP(MLP):
    """Stages `stem`, `unit1`...; then `logits`."""

    def __init__(self, spec: PlainMLPSpec) -> None:
        super().__init__(spec, spec.activation)

    def make_unit(self, spec: PlainMLPSpec) -> DenseUnit:
        return DenseUnit(spec.width, spec.activation)
