"""The layers of plain networks and of ResNets v1 and v2, in the order of their state dicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from skipway.cost.layers import Layer, Map, batch_norm, convolution, linear, max_pool, same_padded
from skipway.models.blocks import Padding, Row, StackSpec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

UnitKind = Literal["bottleneck", "basic"]


def stack_layers(spec: StackSpec) -> Iterator[Layer]:
    """Stem, units, last normalization, classifier."""
    current = Map(spec.in_channels, spec.input_size)
    if spec.include_root_block:
        for layer in _stem(spec, current):
            yield layer
            current = layer.result
    for block, rows in zip(spec.blocks, spec.placed(), strict=True):
        for number, (row, rate) in enumerate(rows, 1):
            yield from _unit(f"{block.name}.unit{number}", spec, block.unit, current, row, rate)
            current = Map(row[0], ceil_divided(current.side, row[2]))
    if isinstance(spec, ResNetV2Spec):
        yield batch_norm("postnorm", current)
    if spec.num_classes:
        yield linear("logits", *_classified(spec, current))


def _classified(spec: StackSpec, last: Map) -> tuple[int, int, int]:
    """Features of the classifier, its classes, and the pixels that it is applied to."""
    if spec.head == "average_2_flatten":
        return last.channels * (last.side // 2) ** 2, spec.num_classes, 1
    return last.channels, spec.num_classes, 1 if spec.global_pool else last.side**2


def ceil_divided(side: int, stride: int) -> int:
    """Side of the map behind a padded layer with a stride."""
    return -(-side // stride)


def _stem(spec: StackSpec, given: Map) -> Iterator[Layer]:
    stem = spec.stem
    result = Map(stem.width, ceil_divided(given.side, stem.stride))
    scratch = _scratch(given, stem.kernel, stem.stride, stem.padding)
    yield convolution("stem.conv", given, result, stem.kernel, bias=stem.bias, scratch=scratch)
    if not isinstance(spec, ResNetV2Spec):
        yield batch_norm("stem.norm", result)
    if stem.pool is not None:
        yield max_pool("stem.pool", result, 3, 2, stem.pool)


def _scratch(given: Map, window: int, stride: int, padding: Padding) -> int:
    return same_padded(given, window, stride) if padding == "same" and stride > 1 else 0


def _unit(name: str, spec: StackSpec, kind: UnitKind, given: Map, row: Row, rate: int) -> Iterator[Layer]:
    depth, _, stride = row
    result = Map(depth, ceil_divided(given.side, stride))
    if isinstance(spec, ResNetV2Spec):
        yield from _branch_v2(name, spec, kind, given, row, rate)
        if given.channels != depth and spec.shortcut == "projection":
            yield convolution(f"{name}.shortcut", given, result, 1, bias=spec.open_bias)
        return
    yield from _branch_v1(name, spec, kind, given, row, rate)
    if isinstance(spec, ResNetV1Spec):
        yield from _shortcut_v1(name, spec, given, result)


def _branch_v1(name: str, spec: StackSpec, kind: UnitKind, given: Map, row: Row, rate: int) -> Iterator[Layer]:
    """Convolutions, each with its normalization behind it."""
    bias = isinstance(spec, ResNetV1Spec) and spec.conv_bias
    for number, layer in enumerate(_convolutions(name, spec, kind, given, row, rate, (bias, bias, bias)), 1):
        yield layer
        yield batch_norm(f"{name}.norm{number}", layer.result)


def _branch_v2(name: str, spec: ResNetV2Spec, kind: UnitKind, given: Map, row: Row, rate: int) -> Iterator[Layer]:
    """Convolutions, each with its normalization in front of it."""
    yield batch_norm(f"{name}.preact", given)
    inner, last = spec.conv_bias, spec.open_bias
    layers = _convolutions(name, spec, kind, given, row, rate, (inner, inner, last))
    for number, layer in enumerate(layers, 1):
        yield layer
        if number < (3 if kind == "bottleneck" else 2):
            yield batch_norm(f"{name}.norm{number}", layer.result)


def _convolutions(
    name: str, spec: StackSpec, kind: UnitKind, given: Map, row: Row, rate: int, biases: tuple[bool, bool, bool]
) -> Iterator[Layer]:
    """The branch's convolutions: 1x1, 3x3, 1x1, or 3x3 twice. `biases`: has the first, a middle, the last one a bias.

    `rate`, the dilation of the 3x3, changes how far the padded copy reaches, not the shapes.
    """
    depth, width, stride = row
    kept = given.values  # the shortcut waits for the branch
    small = ceil_divided(given.side, stride)
    padding: Padding = spec.padding if isinstance(spec, ResNetV1Spec | ResNetV2Spec) else "symmetric"
    if kind == "basic":
        inside = Map(width, small)
        scratch = kept + _scratch(given, 2 * rate + 1, stride, padding)
        yield convolution(f"{name}.conv1", given, inside, 3, bias=biases[0], scratch=scratch)
        yield convolution(f"{name}.conv2", inside, Map(depth, small), 3, bias=biases[2], scratch=kept)
        return
    in_first = spec.strides_before_3x3()
    first = Map(width, small if in_first else given.side)
    inside = Map(width, small)
    yield convolution(f"{name}.conv1", given, first, 1, bias=biases[0], scratch=kept)
    scratch = kept + _scratch(first, 2 * rate + 1, 1 if in_first else stride, padding)
    yield convolution(f"{name}.conv2", first, inside, 3, bias=biases[1], scratch=scratch)
    yield convolution(f"{name}.conv3", inside, Map(depth, small), 1, bias=biases[2], scratch=kept)


def _shortcut_v1(name: str, spec: ResNetV1Spec, given: Map, result: Map) -> Iterator[Layer]:
    """The projection, or the gate of a shortcut that learns nothing."""
    same_depth = given.channels == result.channels
    if (same_depth and spec.shortcut != "projection_all") or spec.shortcut == "pad":
        if spec.carry in {"exclusive_gate", "shortcut_gate"}:
            yield convolution(f"{name}.join.gate", given, result, 1)
    elif spec.projection == "bare":
        yield convolution(f"{name}.shortcut", given, result, 1, bias=spec.conv_bias)
    else:
        yield convolution(f"{name}.shortcut.conv", given, result, 1, bias=spec.conv_bias)
        yield batch_norm(f"{name}.shortcut.norm", result)
