"""The price of a network: the sums of parameters, memory and work over its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from skipway.cost.dense import alexnet_layers, highway_layers, mlp_layers
from skipway.cost.layers import LayerCost
from skipway.cost.stacks import stack_layers
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.highway import HighwaySpec
from skipway.models.mlp import MLPSpec
from skipway.models.network import Spec

_FLOAT_SIZE = 4  # bytes


@dataclass(frozen=True)
class Price:
    """What a network and its forward pass for one picture cost."""

    tensors: int  # how many a model file holds
    numbers: int  # how many values they have
    constants: int  # the sum over all layers
    # The most values that the forward pass holds at once beside the others: the input, the result and the scratch of
    # the layer that needs most. This is a lower bound.
    peak: int
    operations: int  # the sum over all layers
    comparisons: int  # the sum over all layers

    @property
    def bytes(self) -> int:
        """The least memory in bytes for one picture in fp32, with the weights."""
        values = self.numbers + self.constants + self.peak
        return _FLOAT_SIZE * values


def layers_of(spec: Spec) -> Iterator[LayerCost]:
    """The layers of a network, with their tensors in the order of the state dict.

    They are made one by one, so that the caller can stop early. Raises TypeError for an unknown kind of spec.
    """
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
    """The price of a network. The time that this takes grows with the number of its layers."""
    given = spec.in_channels * spec.input_size**2
    tensors = numbers = constants = operations = comparisons = 0
    peak = given
    for layer in layers_of(spec):
        tensors += len(layer.tensors)
        for _, shape in layer.tensors:
            numbers += math.prod(shape)
        constants += layer.constants
        operations += layer.operations
        comparisons += layer.comparisons
        result = layer.result.values
        held = given + result + layer.scratch
        peak = max(peak, held)
        given = result
    return Price(tensors, numbers, constants, peak, operations, comparisons)
