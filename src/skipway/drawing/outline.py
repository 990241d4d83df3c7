"""What a picture of a network has to say, before anything has a place: sections, cards, repeats, shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from skipway.drawing.anatomy import RELU, Kind, Op, activation_op, conv_op, dissect, layer_op
from skipway.models.alexnet import AlexNet, ConvStage, HiddenStage
from skipway.models.highway import Highway, HighwayMLP, Stage
from skipway.models.layers import ACTIVATIONS, LocalResponseNorm, MaxPool2d
from skipway.models.mlp import MLP
from skipway.models.network import Network, Spec
from skipway.models.resnet_v2 import StemV2
from skipway.models.stack import Stack

Shape = tuple[int, ...]

_ACTIVATIONS = {nn.ReLU: ACTIVATIONS["relu"], nn.Tanh: ACTIVATIONS["tanh"], nn.Sigmoid: ACTIVATIONS["sigmoid"]}


@dataclass(frozen=True)
class Card:
    """One step along the spine: its endpoint, what it does, the shape that leaves it; `kind` for units alone."""

    endpoint: str
    ops: tuple[Op, ...]
    shape: Shape
    kind: Kind | None = None


@dataclass(frozen=True)
class Group:
    """Cards in a row that the network holds `repeat` times over; the first repetition stands for all."""

    cards: tuple[Card, ...]
    repeat: int = 1


@dataclass(frozen=True)
class Section:
    """A stage, the stem or the head."""

    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Outline:
    """A network in sections. Shapes are (C, H, W) or (C,), without the batch; `kinds` are in order of appearance and
    `uses` says how many units are of each."""

    spec: Spec
    parameters: int
    input_shape: Shape
    sections: tuple[Section, ...]
    kinds: tuple[Kind, ...]
    uses: tuple[int, ...]


def outline(spec: Spec) -> Outline:
    """The outline of the network that the spec builds, without taking memory for its weights."""
    with torch.device("meta"):
        return outline_of(spec.build().eval())


def outline_of(network: Network) -> Outline:
    """The outline of a network on the meta device."""
    spec, size = network.spec, network.spec.input_size
    shapes: dict[str, Shape] = {}
    with torch.no_grad():
        network.walk(
            torch.zeros(1, spec.in_channels, size, size, device="meta"),
            lambda key, value: shapes.__setitem__(key, tuple(value.shape[1:])),
        )
    # A head without a classifier may have nothing to do.
    flat = [(title, [card for card in cards if card.ops]) for title, cards in _sections(network, shapes)]
    units = [card.kind for _, cards in flat for card in cards if card.kind is not None]
    kinds = tuple(dict.fromkeys(units))
    return Outline(
        spec=spec,
        parameters=sum(one.numel() for one in network.parameters()),
        input_shape=(spec.in_channels, size, size),
        sections=tuple(Section(title, fold(cards)) for title, cards in flat if cards),
        kinds=kinds,
        uses=tuple(units.count(kind) for kind in kinds),
    )


def fold(cards: Sequence[Card]) -> tuple[Group, ...]:
    """Equal cards in a row as one, and pairs that alternate as one pair."""
    plain = [replace(card, endpoint="") for card in cards]
    groups: list[Group] = []
    start = 0
    while start < len(cards):
        period, repeat = 1, 1
        for tried in (1, 2):
            found = _repeats(plain[start:], tried)
            if found > 1:
                period, repeat = tried, found
                break
        groups.append(Group(tuple(cards[start : start + period]), repeat))
        start += period * repeat
    return tuple(groups)


def _repeats(cards: Sequence[Card], period: int) -> int:
    count = 1
    while cards[count * period : (count + 1) * period] == cards[:period]:
        count += 1
    return count


def _sections(network: Network, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    if isinstance(network, AlexNet):
        yield from _of_alexnet(network, shapes)
    elif isinstance(network, MLP):
        yield from _of_mlp(network, shapes)
    elif isinstance(network, Highway):
        yield from _of_highway(network, shapes)
    elif isinstance(network, Stack):
        yield from _of_stack(network, shapes)
    else:
        raise TypeError(f"no outline for {type(network).__name__}")


def _of_alexnet(network: AlexNet, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    # An adaptive average pool, if there is one, stands before the first fully connected layer.
    waiting = [network.average]
    for name in network.stages:
        stage = network.get_submodule(name)
        ops: list[Op] = []
        if isinstance(stage, ConvStage):
            ops = [conv_op(stage.conv, depth=True), activation_op(stage.activation), *_ops(stage.after.children())]
        elif isinstance(stage, HiddenStage):
            ops = _ops((*waiting, stage.before, stage.fc, stage.activation, stage.after))
            waiting = []
        yield name, [Card(name, tuple(ops), shapes[name])]
    yield _head(network, shapes, _ops(waiting))


def _of_mlp(network: MLP, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    ops = (layer_op(network.stem, depth=True), activation_op(network.activation))
    yield "stem", [Card("stem", ops, shapes["stem"])]
    if network.units:
        title = "highway" if isinstance(network, HighwayMLP) else "plain"
        yield title, [_unit_card(name, network.get_submodule(name), shapes) for name in network.units]
    yield _head(network, shapes, [])


def _of_highway(network: Highway, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    for name, stage in network.named_children():
        if not isinstance(stage, Stage):
            continue
        ops = [*_ops((stage.pool, stage.dropout)), conv_op(stage.conv, depth=True), RELU]
        units = [_unit_card(f"{name}.{unit}", stage.get_submodule(unit), shapes) for unit in stage.units]
        yield _title(name), [Card(f"{name}.conv", tuple(ops), shapes[f"{name}.conv"]), *units]
    before = [conv_op(network.last_conv, depth=True), RELU]
    yield "last conv", [Card("last_conv", tuple(before), shapes["last_conv"])]
    pooled = [Op("pool", "average pool")] if network.global_pool else []
    yield _head(network, shapes, [*pooled, *_ops((network.dropout,))])


def _of_stack(network: Stack, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    if network.stem is not None:
        stem = network.stem
        normed = [] if isinstance(stem, StemV2) else [Op("norm", "BN"), RELU]
        pool = stem.get_submodule("pool")
        ops = (layer_op(stem.get_submodule("conv"), depth=True), *normed, *_ops((pool,)))
        yield "stem", [Card("stem", ops, shapes["stem"])]
    for name in network.stages:
        units = network.get_submodule(name).named_children()
        yield _title(name), [_unit_card(f"{name}.{key}", unit, shapes) for key, unit in units]
    before = [Op("norm", "BN"), RELU] if hasattr(network, "postnorm") else []
    if network.head == "average_2_flatten":
        before += [Op("pool", "average pool 2×2"), Op("pool", "flatten")]
    elif network.global_pool:
        before.append(Op("pool", "average pool"))
    yield _head(network, shapes, before)


def _head(network: Network, shapes: dict[str, Shape], before: list[Op]) -> tuple[str, list[Card]]:
    """The last section; without cards where a network ends with nothing at all."""
    logits = getattr(network, "logits", None)
    endpoint = "pre_logits" if logits is None else "logits"
    ops = before if logits is None else [*before, layer_op(logits, depth=True)]
    return "classifier" if logits is not None else "head", [Card(endpoint, tuple(ops), shapes[endpoint])]


def _unit_card(name: str, unit: nn.Module, shapes: dict[str, Shape]) -> Card:
    found = dissect(unit)
    return Card(name, found.layers, shapes[name], found.kind)


def _ops(layers: Iterator[nn.Module] | Sequence[nn.Module]) -> list[Op]:
    """Layers that do something, as operations."""
    ops = []
    for layer in layers:
        if isinstance(layer, MaxPool2d):
            ops.append(Op("pool", f"max pool {layer.kernel}×{layer.kernel}, /{layer.stride}"))
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            ops.append(Op("pool", f"average to {layer.output_size}×{layer.output_size}"))
        elif isinstance(layer, LocalResponseNorm):
            ops.append(Op("norm", f"LRN over {layer.size}"))
        elif isinstance(layer, nn.Dropout) and layer.p > 0:
            ops.append(Op("drop", f"dropout {layer.p:g}"))
        elif type(layer) in _ACTIVATIONS:
            ops.append(activation_op(_ACTIVATIONS[type(layer)]))
        elif isinstance(layer, nn.Linear):
            ops.append(layer_op(layer, depth=True))
    return ops


def _title(name: str) -> str:
    """`stage3` as `stage 3`; other names as they are."""
    return f"stage {name[5:]}" if name.startswith("stage") and name[5:].isdigit() else name.replace("_", " ")
