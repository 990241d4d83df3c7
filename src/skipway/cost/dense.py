"""The layers of AlexNets, of fully connected networks and of highway networks, in the order of their state dicts."""

from __future__ import annotations

from collections.abc import Iterator

from skipway.cost.layers import Layer, Map, convolution, linear, max_pool, response_norm, same_padded
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.highway import Gates, HighwayMLPSpec, HighwaySpec
from skipway.models.mlp import MLPSpec


def alexnet_layers(spec: AlexNetSpec) -> Iterator[Layer]:
    """Convolutions with what follows them, hidden layers, classifier."""
    current = Map(spec.in_channels, spec.input_size)
    for number, row in enumerate(spec.convs, 1):
        layer = _alexnet_convolution(f"conv{number}.conv", current, row)
        yield layer
        current = layer.result
        for kind in row.after:
            name = f"conv{number}.after.{kind}"
            if kind == "norm":
                yield response_norm(name, current)
            if kind == "pool":
                layer = max_pool(name, current, spec.pool.kernel, spec.pool.stride, spec.pool.padding)
                yield layer
                current = layer.result
    if spec.average_to:
        current = Map(current.channels, spec.average_to)
        yield Layer("average", (), current)
    features = current.values
    for number, width in enumerate(spec.hidden, len(spec.convs) + 1):
        yield linear(f"fc{number}.fc", features, width)
        features = width
    if spec.num_classes:
        yield linear("logits", features, spec.num_classes)


def _alexnet_convolution(name: str, given: Map, row: Conv) -> Layer:
    result = Map(row.depth, row.size(given.side))
    scratch = same_padded(given, row.kernel, row.stride) if row.padding == "same" else 0
    return convolution(name, given, result, row.kernel, groups=row.groups, scratch=scratch)


def mlp_layers(spec: MLPSpec) -> Iterator[Layer]:
    """First layer, units, classifier."""
    yield linear("stem", spec.in_channels * spec.input_size**2, spec.width)
    parts = gate_parts(spec) if isinstance(spec, HighwayMLPSpec) else ("transform",)
    for number in range(1, spec.layers):
        for part in parts:
            yield linear(f"unit{number}.{part}", spec.width, spec.width)
    if spec.num_classes:
        yield linear("logits", spec.width, spec.num_classes)


def gate_parts(gates: Gates) -> tuple[str, ...]:
    """The layers of one highway unit."""
    return ("transform", "gate", "carry") if gates.carry == "free" else ("transform", "gate")


def highway_layers(spec: HighwaySpec) -> Iterator[Layer]:
    """Stages with a pool between them, the 1x1 convolution, classifier."""
    current = Map(spec.in_channels, spec.input_size)
    for number, row in enumerate(spec.stages, 1):
        if number > 1:
            layer = max_pool(f"stage{number}.pool", current, 2, 2, "valid")
            yield layer
            current = layer.result
        result = Map(row.depth, current.side)
        yield convolution(f"stage{number}.conv", current, result, 3)
        current = result
        for unit, kernel in enumerate(row.kernels, 1):
            for part in gate_parts(spec):
                # Input, transform and gate are alive together.
                name = f"stage{number}.unit{unit}.{part}"
                yield convolution(name, current, current, kernel, scratch=current.values)
    result = Map(spec.last_width, current.side)
    yield convolution("last_conv", current, result, 1)
    if spec.num_classes:
        yield linear("logits", spec.last_width, spec.num_classes, 1 if spec.global_pool else result.side**2)
