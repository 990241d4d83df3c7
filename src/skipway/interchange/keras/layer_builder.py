"""A ResNet built of Keras's layers, one after the other, as Keras's own code builds it.

Layers are named as Keras numbers them, in the order in which its CIFAR example makes them (a unit's branch, then its
projection): conv2d, conv2d_1, batch_normalization, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from skipway.interchange.keras.names import group_name
from skipway.interchange.source import Layer
from skipway.models.blocks import Padding, Row
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

ResNetSpec = ResNetV1Spec | ResNetV2Spec


def build_layers(spec: ResNetSpec) -> tuple[dict[str, Layer], Mapping[str, str]]:
    """The layers of a network, and which of them has the weights of which of our modules.

    Gives the layers by name, each behind its inputs, and the names of layers by the names of our modules.
    """
    builder = _Builder(spec)
    top = _add_stem(builder)
    channels = spec.stem_channels()
    for block_number, block in enumerate(spec.blocks):
        for number, row in enumerate(block.rows, 1):
            place = _UnitPlace(
                home=f"{block.name}.unit{number}",
                kind=block.unit,
                opens_stage=number == 1,
                opens_network=number == 1 and block_number == 0,
                row=row,
                channels=channels,
            )
            if isinstance(spec, ResNetV1Spec):
                top = _add_unit_v1(builder, spec, place, top)
            else:
                top = _add_unit_v2(builder, spec, place, top)
            channels = row[0]
    _add_head(builder, top)
    return builder.layers, MappingProxyType(builder.homes)


@dataclass(frozen=True)
class _UnitPlace:
    """A unit and where it is.

    - `home`: the name of its module.
    - `kind`: basic or bottleneck.
    - `opens_stage`, `opens_network`: whether it is the first unit of its stage, and of the network.
    - `row`: depth, width and stride.
    - `channels`: the channels that it takes.
    """

    home: str
    kind: str
    opens_stage: bool
    opens_network: bool
    row: Row
    channels: int


class _Builder:
    """Layers by name, each behind its inputs. `homes` are the names of layers by the names of our modules.

    The methods that add layers take the name of the layer before, `top`, and return the name of the last new layer.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        self.spec = spec
        self.layers: dict[str, Layer] = {}
        self.homes: dict[str, str] = {}
        # Keras's momentum is the share of the old statistics, ours that of the new ones.
        momentum = round(1 - spec.norm.momentum, 12)
        self._norm: dict[str, Any] = {"axis": -1, "momentum": momentum, "epsilon": spec.norm.eps}
        self._counts: dict[str, int] = {}

    def add(self, kind: str, *inputs: str, home: str = "", **fields: Any) -> str:
        """Add a layer, which has the weights of our module `home`. Returns its name."""
        base = "input" if kind == "InputLayer" else group_name(kind)
        number = self._counts.get(base, 0)
        self._counts[base] = number + 1
        name = f"{base}_{number}" if number else base
        self.layers[name] = Layer(name, kind, inputs, fields=MappingProxyType(fields))
        if home:
            self.homes[home] = name
        return name

    def convolved(
        self, top: str, home: str, depth: int, kernel: int, *, stride: int = 1, padding: Padding = "same", bias: bool
    ) -> str:
        """Add a convolution. Symmetric padding becomes a layer of its own where `same` pads in another way."""
        border = "same"
        if padding == "symmetric" and stride > 1 and kernel > 1:
            half = kernel // 2
            top = self.add("ZeroPadding2D", top, padding=[[half, half], [half, half]])
            border = "valid"
        fields = {"filters": depth, "kernel_size": [kernel] * 2, "strides": [stride] * 2, "padding": border}
        return self.add("Conv2D", top, home=home, use_bias=bias, **fields)

    def normalized(self, top: str, home: str) -> str:
        """Add a batch normalization. It uses the batch's statistics where the spec says so for evaluation."""
        statistics = self.spec.norm.statistics
        in_unit = ".unit" in home
        fields = dict(self._norm)
        if statistics == "batch" or (statistics == "batch_in_units" and in_unit):
            fields["live"] = True
        return self.add("BatchNormalization", top, home=home, **fields)

    def rectified(self, top: str) -> str:
        """Add a ReLU."""
        return self.add("Activation", top, activation="relu")

    def norm_relu(self, top: str, home: str) -> str:
        """Add a batch normalization and a ReLU."""
        normalized = self.normalized(top, home)
        return self.rectified(normalized)

    def subsampled(self, top: str, stride: int) -> str:
        """Keep every `stride`-th pixel: add a pool over single pixels where there is a stride."""
        if stride == 1:
            return top
        return self.add("MaxPooling2D", top, pool_size=[1, 1], strides=[stride] * 2, padding="valid")


def _add_stem(builder: _Builder) -> str:
    """Add the input and what comes before the first unit."""
    spec = builder.spec
    stem = spec.stem
    shape = [None, spec.input_size, spec.input_size, spec.in_channels]
    top = builder.add("InputLayer", batch_input_shape=shape, dtype="float32")
    top = builder.convolved(
        top, "stem.conv", stem.width, stem.kernel, stride=stem.stride, padding=stem.padding, bias=stem.bias
    )
    if isinstance(spec, ResNetV1Spec):
        top = builder.norm_relu(top, "stem.norm")
    if stem.pool is None:
        return top
    if stem.pool in {"zeros", "symmetric"}:
        top = builder.add("ZeroPadding2D", top, padding=[[1, 1], [1, 1]])
    border = "same" if stem.pool == "same" else "valid"
    return builder.add("MaxPooling2D", top, pool_size=[3, 3], strides=[2, 2], padding=border)


def _add_unit_v1(builder: _Builder, spec: ResNetV1Spec, place: _UnitPlace, start: str) -> str:
    """Add a unit of version 1: convolutions with their norms, the shortcut, their sum and its ReLU."""
    home = place.home
    top = start
    convolutions = _convolutions(spec, place)
    for number, (depth, kernel, stride) in enumerate(convolutions, 1):
        if number > 1:
            top = builder.rectified(top)
        top = builder.convolved(
            top, f"{home}.conv{number}", depth, kernel, stride=stride, padding=spec.padding, bias=spec.conv_bias
        )
        top = builder.normalized(top, f"{home}.norm{number}")
    depth, _, stride = place.row
    if place.channels == depth:
        shortcut = builder.subsampled(start, stride)
    elif spec.projection == "bare":
        shortcut = builder.convolved(start, f"{home}.shortcut", depth, 1, stride=stride, bias=spec.conv_bias)
    else:
        shortcut = builder.convolved(start, f"{home}.shortcut.conv", depth, 1, stride=stride, bias=spec.conv_bias)
        shortcut = builder.normalized(shortcut, f"{home}.shortcut.norm")
    total = builder.add("Add", shortcut, top)
    return builder.rectified(total)


def _add_unit_v2(builder: _Builder, spec: ResNetV2Spec, place: _UnitPlace, start: str) -> str:
    """Add a unit of version 2: each convolution behind a norm and a ReLU, the shortcut, their sum."""
    home = place.home
    active = builder.norm_relu(start, f"{home}.preact")
    top = active
    convolutions = _convolutions(spec, place)
    last = len(convolutions)
    for number, (depth, kernel, stride) in enumerate(convolutions, 1):
        if number > 1:
            top = builder.norm_relu(top, f"{home}.norm{number - 1}")
        bias = spec.open_bias if number == last else spec.conv_bias
        top = builder.convolved(
            top, f"{home}.conv{number}", depth, kernel, stride=stride, padding=spec.padding, bias=bias
        )
    depth, _, stride = place.row
    if place.channels == depth:
        shared = place.opens_stage and spec.first_shortcut == "shared"
        kept = active if shared else start
        shortcut = builder.subsampled(kept, stride)
    else:
        shared = spec.projection == "shared"
        if place.opens_network and spec.projection == "first_shared":
            shared = True
        kept = active if shared else start
        shortcut = builder.convolved(kept, f"{home}.shortcut", depth, 1, stride=stride, bias=spec.open_bias)
    return builder.add("Add", shortcut, top)


def _convolutions(spec: ResNetSpec, place: _UnitPlace) -> list[tuple[int, int, int]]:
    """Depth, kernel and stride of each convolution of a branch."""
    depth, width, stride = place.row
    if place.kind == "basic":
        return [(width, 3, stride), (depth, 3, 1)]
    if spec.stride_in == "first":
        return [(width, 1, stride), (width, 3, 1), (depth, 1, 1)]
    return [(width, 1, 1), (width, 3, stride), (depth, 1, 1)]


def _add_head(builder: _Builder, top: str) -> None:
    """Add what comes behind the last unit. The classifier gives probabilities, as Keras's own networks do."""
    spec = builder.spec
    if isinstance(spec, ResNetV2Spec):
        top = builder.norm_relu(top, "postnorm")
    if not spec.global_pool:
        return
    if spec.head == "global":
        top = builder.add("GlobalAveragePooling2D", top)
    else:
        top = builder.add("AveragePooling2D", top, pool_size=[2, 2], strides=[2, 2], padding="valid")
        top = builder.add("Flatten", top)
    if spec.num_classes:
        builder.add("Dense", top, home="logits", units=spec.num_classes, activation="softmax")
