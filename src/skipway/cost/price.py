"""The price of a network: parameters, memory and work, summed over its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from skipway.cost.dense import alexnet_layers, highway_layers, mlp_layers
from skipway.cost.layers import Layer
from skipway.cost.stacks import stack_layers
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.highway import HighwaySpec
from skipway.models.mlp import MLPSpec
from skipway.models.network import Spec

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Price:
    """`tensors` is how many a file of the network holds, `numbers` how many values are in them.

    `peak` is the most values that one picture's forward pass holds at once beside them, counted as the input and the
    result of the costliest layer and what that layer needs: a lower bound. `constants`, `operations` and `comparisons`
    are the sums of `Layer`'s.
    """

    tensors: int
    numbers: int
    constants: int
    peak: int
    operations: int
    comparisons: int

    @property
    def bytes(self) -> int:
        """Least memory in bytes for the answer to one picture, in fp32, weights included."""
        return _FLOAT * (self.numbers + self.constants + self.peak)


def layers_of(spec: Spec) -> Iterator[Layer]:
    """The layers, one by one, so that whoever has seen enough can stop; the tensors come in the state dict's order."""
    if isinstance(spec, AlexNetSpec):
        return alexnet_layers(spec)
    if isinstance(spec, MLPSpec):
        return mlp_layers(spec)
    if isinstance(spec, HighwaySpec):
        return highway_layers(spec)
    if isinstance(spec, StackSpec):
        return stack_layers(spec)
    raise TypeError(f"no arithmetic for {type(spec).__name__}; add one to skipway.cost")


def price_of(spec: Spec) -> Price:
    """The sums over all layers: takes as long as there are layers."""
    given = spec.in_channels * spec.input_size**2
    tensors = numbers = constants = operations = comparisons = 0
    peak = given
    for layer in layers_of(spec):
        tensors += len(layer.tensors)
        numbers += sum(math.prod(shape) for _, shape in layer.tensors)
        constants += layer.constants
        operations += layer.operations
        comparisons += layer.comparisons
        peak = max(peak, given + layer.result.values + layer.scratch)
        given = layer.result.values
    return Price(tensors, numbers, constants, peak, operations, comparisons)
