"""The layers of plain networks and of ResNets v1 and v2, in the order of their state dicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from skipway.cost.layers import LayerCost, Map, batch_norm, convolution, linear, max_pool, same_padded
from skipway.models.blocks import Padding, Row, StackSpec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

UnitKind = Literal["bottleneck", "basic"]


def stack_layers(spec: StackSpec) -> Iterator[LayerCost]:
    """The stem, the units, the last normalization and the classifier."""
    current = Map(spec.in_channels, spec.input_size)
    if spec.include_root_block:
        for layer in _stem(spec, current):
            yield layer
            current = layer.result
    for block, rows in zip(spec.blocks, spec.placed(), strict=True):
        for number, (row, rate) in enumerate(rows, 1):
            yield from _unit(f"{block.name}.unit{number}", spec, block.unit, current, row, rate)
            current = _unit_result(current, row)
    if isinstance(spec, ResNetV2Spec):
        yield batch_norm("postnorm", current)
    if spec.num_classes:
        features, pixels = _classifier_input(spec, current)
        yield linear("logits", features, spec.num_classes, pixels)


def _classifier_input(spec: StackSpec, last: Map) -> tuple[int, int]:
    """The features that the classifier takes, and the pixels to each of which it is applied."""
    if spec.head == "average_2_flatten":
        side = last.side // 2
        return last.channels * side**2, 1
    if spec.global_pool:
        return last.channels, 1
    return last.channels, last.side**2


def ceil_divided(side: int, stride: int) -> int:
    """The side of the map behind a padded layer with a stride: the quotient, rounded up."""
    return -(-side // stride)


def _stem(spec: StackSpec, given: Map) -> Iterator[LayerCost]:
    """The first convolution, with its normalization and its pool where it has them."""
    stem = spec.stem
    side = ceil_divided(given.side, stem.stride)
    result = Map(stem.width, side)
    scratch = _padded_copy(given, stem.kernel, stem.stride, stem.padding)
    yield convolution("stem.conv", given, result, stem.kernel, bias=stem.bias, scratch=scratch)
    is_preactivated = isinstance(spec, ResNetV2Spec)
    if not is_preactivated:
        yield batch_norm("stem.norm", result)
    if stem.pool is not None:
        yield max_pool("stem.pool", result, 3, 2, stem.pool)


def _padded_copy(given: Map, window: int, stride: int, padding: Padding) -> int:
    """The numbers of the padded copy that a convolution makes of its input, 0 where it makes none.

    Without a stride, SAME padding is symmetric, and the convolution itself pads.
    """
    if padding != "same" or stride == 1:
        return 0
    return same_padded(given, window, stride)


def _unit_result(given: Map, row: Row) -> Map:
    """The result of a unit."""
    depth, _, stride = row
    side = ceil_divided(given.side, stride)
    return Map(depth, side)


def _unit(name: str, spec: StackSpec, kind: UnitKind, given: Map, row: Row, rate: int) -> Iterator[LayerCost]:
    """The layers of a unit's branch and of its shortcut.

    Arguments:
        name: the path of the unit's module.
        spec, kind: the network, and the kind of its unit.
        given: the unit's input.
        row: depth, width and stride.
        rate: the dilation of the 3x3 convolution.
    """
    result = _unit_result(given, row)
    if isinstance(spec, ResNetV2Spec):
        yield from _branch_v2(name, spec, kind, given, row, rate)
        changes_depth = given.channels != result.channels
        if changes_depth and spec.shortcut == "projection":
            yield convolution(f"{name}.shortcut", given, result, 1, bias=spec.open_bias)
        return
    yield from _branch_v1(name, spec, kind, given, row, rate)
    if isinstance(spec, ResNetV1Spec):
        yield from _shortcut_v1(name, spec, given, result)


def _branch_v1(name: str, spec: StackSpec, kind: UnitKind, given: Map, row: Row, rate: int) -> Iterator[LayerCost]:
    """The convolutions, with a normalization behind each."""
    has_bias = isinstance(spec, ResNetV1Spec) and spec.conv_bias
    biases = (has_bias, has_bias, has_bias)
    layers = _convolutions(name, spec, kind, given, row, rate, biases)
    for number, layer in enumerate(layers, 1):
        yield layer
        yield batch_norm(f"{name}.norm{number}", layer.result)


def _branch_v2(name: str, spec: ResNetV2Spec, kind: UnitKind, given: Map, row: Row, rate: int) -> Iterator[LayerCost]:
    """The convolutions, with a normalization in front of each."""
    yield batch_norm(f"{name}.preact", given)
    biases = (spec.conv_bias, spec.conv_bias, spec.open_bias)
    layers = list(_convolutions(name, spec, kind, given, row, rate, biases))
    for number, layer in enumerate(layers, 1):
        yield layer
        is_last = number == len(layers)
        if not is_last:
            yield batch_norm(f"{name}.norm{number}", layer.result)


def _convolutions(
    name: str, spec: StackSpec, kind: UnitKind, given: Map, row: Row, rate: int, biases: tuple[bool, bool, bool]
) -> Iterator[LayerCost]:
    """The convolutions of a branch: 1x1, 3x3 and 1x1, or two of 3x3.

    Arguments:
        biases: whether the first, a middle and the last one have a bias.
        rate: the dilation of the 3x3. It changes the size of the padded copy, but not the shapes.

    See `_unit` for the others.
    """
    depth, width, stride = row
    shortcut = given.values  # stays in memory until the branch is done
    side = ceil_divided(given.side, stride)
    inside = Map(width, side)
    result = Map(depth, side)
    window = 2 * rate + 1
    first_bias, middle_bias, last_bias = biases
    padding: Padding = "symmetric"
    if isinstance(spec, ResNetV1Spec | ResNetV2Spec):
        padding = spec.padding
    if kind == "basic":
        scratch = shortcut + _padded_copy(given, window, stride, padding)
        yield convolution(f"{name}.conv1", given, inside, 3, bias=first_bias, scratch=scratch)
        yield convolution(f"{name}.conv2", inside, result, 3, bias=last_bias, scratch=shortcut)
        return
    if spec.strides_before_3x3():
        reduced = Map(width, side)
        stride_of_3x3 = 1
    else:
        reduced = Map(width, given.side)
        stride_of_3x3 = stride
    yield convolution(f"{name}.conv1", given, reduced, 1, bias=first_bias, scratch=shortcut)
    scratch = shortcut + _padded_copy(reduced, window, stride_of_3x3, padding)
    yield convolution(f"{name}.conv2", reduced, inside, 3, bias=middle_bias, scratch=scratch)
    yield convolution(f"{name}.conv3", inside, result, 1, bias=last_bias, scratch=shortcut)


def _shortcut_v1(name: str, spec: ResNetV1Spec, given: Map, result: Map) -> Iterator[LayerCost]:
    """The projection of a shortcut; or, where it has none, the convolution of its gate, if there is one."""
    if not _is_projected(spec, given, result):
        if spec.carry in {"exclusive_gate", "shortcut_gate"}:
            yield convolution(f"{name}.join.gate", given, result, 1)
    elif spec.projection == "bare":
        yield convolution(f"{name}.shortcut", given, result, 1, bias=spec.conv_bias)
    else:
        yield convolution(f"{name}.shortcut.conv", given, result, 1, bias=spec.conv_bias)
        yield batch_norm(f"{name}.shortcut.norm", result)


def _is_projected(spec: ResNetV1Spec, given: Map, result: Map) -> bool:
    """Whether the shortcut of a unit with this input and result is a convolution."""
    if spec.shortcut == "pad":
        return False
    changes_depth = given.channels != result.channels
    return changes_depth or spec.shortcut == "projection_all"
