"""Thin fully connected nets of any depth, plain or highway, which "Training very deep networks" (Srivastava, Greff,
Schmidhuber 2015, section 3.1, fig. 1) compares on MNIST.
"""

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
    """A fully connected first layer, `layers - 1` units of the same width, a classifier.

    `layers` counts the first layer and the units; `width` is the number of features of each.
    """

    layers: int
    width: int

    def check_fields(self) -> None:
        """Raises SpecError for a number of layers or a width below 1."""
        if min(self.layers, self.width) < 1:
            raise SpecError(f"{self.name}: layers is {self.layers} and width {self.width}; give 1 or more of each")

    def smallest_input(self) -> int:
        """One pixel: a picture of any side can be flattened."""
        return 1

    def flattened(self, side: int) -> int:
        """The picture's own side, whose pixels are the features."""
        return side


class MLP(Network):
    """Stages `stem`, `unit1`...; then `logits`. A family fills in its units."""

    def __init__(self, spec: MLPSpec, activation: DenseActivation) -> None:
        super().__init__(spec)
        self.activation = ACTIVATIONS[activation]
        pixels = spec.in_channels * spec.input_size**2
        self.stem = nn.Linear(pixels, spec.width)
        self.units: list[str] = []
        for number in range(1, spec.layers):
            name = f"unit{number}"
            self.add_module(name, self.make_unit(spec))
            self.units.append(name)
        self.logits: nn.Linear | None = None
        if spec.num_classes:
            self.logits = nn.Linear(spec.width, spec.num_classes)
        initialize(self, spec.initialization)

    def make_unit(self, spec: Any) -> nn.Module:
        """A unit (N, width) -> (N, width)."""
        raise NotImplementedError

    def walk(self, x: Tensor, note: Note) -> Tensor:
        """Pictures (N, C, H, W) -> logits, or the features before them; notes each layer."""
        # Contiguous first: channels_last memory must still flatten in (C, H, W) order.
        x = x.contiguous().flatten(1)
        x = self.activation(self.stem(x))
        note("stem", x)
        for name in self.units:
            unit = getattr(self, name)
            x = unit(x)
            note(name, x)
        note("pre_logits", x)
        if self.logits is not None:
            x = self.logits(x)
            note("logits", x)
        return x


@dataclass(frozen=True, kw_only=True)
class PlainMLPSpec(MLPSpec):
    """The net that highway networks are compared with.

    A plain layer of width 71 has about as many parameters (5,112) as a highway unit of 50 (5,100). `activation`
    follows every layer.
    """

    architecture: ClassVar[str] = "plain_mlp"

    width: int = 71
    activation: DenseActivation = "relu"

    def build(self) -> PlainMLP:
        """The network with freshly drawn weights."""
        return PlainMLP(self)


class DenseUnit(nn.Module):
    """One plain layer, (N, width) -> (N, width): the H of a highway unit, without its gates."""

    def __init__(self, width: int, activation: DenseActivation) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, width)."""
        x = self.transform(x)
        return self.activation(x)


class PlainMLP(MLP):
    """Stages `stem`, `unit1`...; then `logits`."""

    def __init__(self, spec: PlainMLPSpec) -> None:
        super().__init__(spec, spec.activation)

    def make_unit(self, spec: PlainMLPSpec) -> DenseUnit:
        """A plain layer (N, width) -> (N, width)."""
        return DenseUnit(spec.width, spec.activation)
