"""The layers of AlexNets, of fully connected networks and of highway networks, in the order of their state dicts."""

from __future__ import annotations

from collections.abc import Iterator

from skipway.cost.layers import LayerCost, Map, convolution, linear, max_pool, response_norm, same_padded
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.highway import Gates, HighwayMLPSpec, HighwaySpec
from skipway.models.mlp import MLPSpec


def alexnet_layers(spec: AlexNetSpec) -> Iterator[LayerCost]:
    """The convolutions with what follows each of them, the hidden layers and the classifier."""
    current = Map(spec.in_channels, spec.input_size)
    for number, row in enumerate(spec.convs, 1):
        convolved = _alexnet_convolution(f"conv{number}.conv", current, row)
        yield convolved
        current = convolved.result
        for kind in row.after:
            name = f"conv{number}.after.{kind}"
            if kind == "norm":
                yield response_norm(name, current)
            if kind == "pool":
                pooled = max_pool(name, current, spec.pool.kernel, spec.pool.stride, spec.pool.padding)
                yield pooled
                current = pooled.result
    if spec.average_to:
        current = Map(current.channels, spec.average_to)
        yield LayerCost("average", (), current)
    yield from _alexnet_linear_layers(spec, current.values)


def _alexnet_linear_layers(spec: AlexNetSpec, features: int) -> Iterator[LayerCost]:
    """The hidden layers and the classifier, for so many features."""
    first = len(spec.convs) + 1
    for number, width in enumerate(spec.hidden, first):
        yield linear(f"fc{number}.fc", features, width)
        features = width
    if spec.num_classes:
        yield linear("logits", features, spec.num_classes)


def _alexnet_convolution(name: str, given: Map, row: Conv) -> LayerCost:
    """A convolution of AlexNet. With padding "same" it makes a padded copy of its input."""
    side = row.size(given.side)
    result = Map(row.depth, side)
    scratch = 0
    if row.padding == "same":
        scratch = same_padded(given, row.kernel, row.stride)
    return convolution(name, given, result, row.kernel, groups=row.groups, scratch=scratch)


def mlp_layers(spec: MLPSpec) -> Iterator[LayerCost]:
    """The first layer, the units and the classifier."""
    features = spec.in_channels * spec.input_size**2
    yield linear("stem", features, spec.width)
    parts: tuple[str, ...] = ("transform",)
    if isinstance(spec, HighwayMLPSpec):
        parts = gate_parts(spec)
    for number in range(1, spec.layers):
        for part in parts:
            yield linear(f"unit{number}.{part}", spec.width, spec.width)
    if spec.num_classes:
        yield linear("logits", spec.width, spec.num_classes)


def gate_parts(gates: Gates) -> tuple[str, ...]:
    """The names of the layers of one highway unit."""
    if gates.carry == "free":
        return ("transform", "gate", "carry")
    return ("transform", "gate")


def highway_layers(spec: HighwaySpec) -> Iterator[LayerCost]:
    """The stages with a pool between them, the 1x1 convolution and the classifier."""
    current = Map(spec.in_channels, spec.input_size)
    for number, row in enumerate(spec.stages, 1):
        if number > 1:
            pooled = max_pool(f"stage{number}.pool", current, 2, 2, "valid")
            yield pooled
            current = pooled.result
        widened = Map(row.depth, current.side)
        yield convolution(f"stage{number}.conv", current, widened, 3)
        current = widened
        for unit, kernel in enumerate(row.kernels, 1):
            yield from _highway_unit(f"stage{number}.unit{unit}", spec, current, kernel)
    last = Map(spec.last_width, current.side)
    yield convolution("last_conv", current, last, 1)
    if spec.num_classes:
        pixels = 1
        if not spec.global_pool:
            pixels = last.side**2
        yield linear("logits", spec.last_width, spec.num_classes, pixels)


def _highway_unit(name: str, spec: HighwaySpec, given: Map, kernel: int) -> Iterator[LayerCost]:
    """The convolutions of a highway unit, which keep the shape."""
    for part in gate_parts(spec):
        # The input, the transform and the gate are in memory together.
        yield convolution(f"{name}.{part}", given, given, kernel, scratch=given.values)
