"""What a picture of a network has to say, before anything has a place: sections, cards, repeats, shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from skipway.drawing.anatomy import NORM, RELU, Op, UnitKind, activation_op, conv_op, dissect, layer_op
from skipway.models.alexnet import AlexNet, ConvStage, HiddenStage
from skipway.models.highway import GatedStage, Highway, HighwayMLP
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
    kind: UnitKind | None = None


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
    """A network in sections.

    Shapes are (C, H, W) or (C,), without the batch; `kinds` are in order of appearance and `uses` says how many
    units are of each.
    """

    spec: Spec
    parameters: int
    input_shape: Shape
    sections: tuple[Section, ...]
    kinds: tuple[UnitKind, ...]
    uses: tuple[int, ...]


def outline(spec: Spec) -> Outline:
    """The outline of the network that the spec builds, without taking memory for its weights."""
    with torch.device("meta"):
        return outline_of(spec.build().eval())


def outline_of(network: Network) -> Outline:
    """The outline of a network on the meta device."""
    spec, size = network.spec, network.spec.input_size
    shapes: dict[str, Shape] = {}

    def note(name: str, value: Tensor) -> None:
        shapes[name] = tuple(value.shape[1:])

    picture = torch.zeros(1, spec.in_channels, size, size, device="meta")
    with torch.no_grad():
        network.walk(picture, note)
    sections: list[Section] = []
    units: list[UnitKind] = []
    for title, cards in _sections(network, shapes):
        # A head without a classifier may have nothing to do.
        busy = [card for card in cards if card.ops]
        if not busy:
            continue
        sections.append(Section(title, fold(busy)))
        units += [card.kind for card in busy if card.kind is not None]
    kinds = tuple(dict.fromkeys(units))
    return Outline(
        spec=spec,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input_shape=(spec.in_channels, size, size),
        sections=tuple(sections),
        kinds=kinds,
        uses=tuple(units.count(kind) for kind in kinds),
    )


def fold(cards: Sequence[Card]) -> tuple[Group, ...]:
    """Equal cards in a row as one, and pairs that alternate as one pair."""
    nameless = [replace(card, endpoint="") for card in cards]
    groups: list[Group] = []
    start = 0
    while start < len(cards):
        rest = nameless[start:]
        period = 1
        repeat = _repeats(rest, period)
        if repeat == 1:
            pairs = _repeats(rest, 2)
            if pairs > 1:
                period, repeat = 2, pairs
        groups.append(Group(tuple(cards[start : start + period]), repeat))
        start += period * repeat
    return tuple(groups)


def _repeats(cards: Sequence[Card], period: int) -> int:
    """How often the first `period` cards stand in a row at the start."""
    count = 1
    while cards[count * period : (count + 1) * period] == cards[:period]:
        count += 1
    return count


def _sections(network: Network, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    """Title and cards of each section. Raises TypeError for a family that there is no outline for."""
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
    """A section for each convolution and each hidden layer, and the head."""
    # An adaptive average pool, if there is one, stands before the first fully connected layer.
    waiting = [network.average]
    for name in network.stages:
        stage = network.get_submodule(name)
        ops: list[Op] = []
        if isinstance(stage, ConvStage):
            ops.append(conv_op(stage.conv, depth=True))
            ops.append(activation_op(stage.activation))
            ops += _ops(stage.after.children())
        elif isinstance(stage, HiddenStage):
            ops += _ops((*waiting, stage.before, stage.fc, stage.activation, stage.after))
            waiting = []
        yield name, [Card(name, tuple(ops), shapes[name])]
    yield _head(network, shapes, _ops(waiting))


def _of_mlp(network: MLP, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    """The first layer, the units, the head."""
    stem = (layer_op(network.stem, depth=True), activation_op(network.activation))
    yield "stem", [Card("stem", stem, shapes["stem"])]
    if network.units:
        title = "plain"
        if isinstance(network, HighwayMLP):
            title = "highway"
        yield title, [_unit_card(name, network.get_submodule(name), shapes) for name in network.units]
    yield _head(network, shapes, [])


def _of_highway(network: Highway, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    """A section for each stage, the last convolution, the head."""
    for name, stage in network.named_children():
        if not isinstance(stage, GatedStage):
            continue
        endpoint = f"{name}.conv"
        ops = _ops((stage.pool, stage.dropout))
        ops += [conv_op(stage.conv, depth=True), RELU]
        cards = [Card(endpoint, tuple(ops), shapes[endpoint])]
        for unit in stage.units:
            cards.append(_unit_card(f"{name}.{unit}", stage.get_submodule(unit), shapes))
        yield _title(name), cards
    last = (conv_op(network.last_conv, depth=True), RELU)
    yield "last conv", [Card("last_conv", last, shapes["last_conv"])]
    before: list[Op] = []
    if network.global_pool:
        before.append(Op("pool", "average pool"))
    before += _ops((network.dropout,))
    yield _head(network, shapes, before)


def _of_stack(network: Stack, shapes: dict[str, Shape]) -> Iterator[tuple[str, list[Card]]]:
    """The stem, a section for each stage, the head."""
    if network.stem is not None:
        stem = network.stem
        ops = [layer_op(stem.get_submodule("conv"), depth=True)]
        if not isinstance(stem, StemV2):
            ops += [NORM, RELU]
        ops += _ops((stem.get_submodule("pool"),))
        yield "stem", [Card("stem", tuple(ops), shapes["stem"])]
    for name in network.stages:
        units = network.get_submodule(name).named_children()
        yield _title(name), [_unit_card(f"{name}.{key}", unit, shapes) for key, unit in units]
    before: list[Op] = []
    if hasattr(network, "postnorm"):
        before += [NORM, RELU]
    if network.head == "average_2_flatten":
        before += [Op("pool", "average pool 2×2"), Op("pool", "flatten")]
    elif network.global_pool:
        before.append(Op("pool", "average pool"))
    yield _head(network, shapes, before)


def _head(network: Network, shapes: dict[str, Shape], before: list[Op]) -> tuple[str, list[Card]]:
    """The last section; its card has no operations where a network ends with nothing at all."""
    logits = getattr(network, "logits", None)
    if logits is None:
        return "head", [Card("pre_logits", tuple(before), shapes["pre_logits"])]
    ops = (*before, layer_op(logits, depth=True))
    return "classifier", [Card("logits", ops, shapes["logits"])]


def _unit_card(name: str, unit: nn.Module, shapes: dict[str, Shape]) -> Card:
    """The card of a unit, with its weight layers."""
    anatomy = dissect(unit)
    return Card(name, anatomy.layers, shapes[name], anatomy.kind)


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
    """`stage3` as `stage 3`; other names with spaces for their underscores."""
    number = name.removeprefix("stage")
    if number != name and number.isdigit():
        return f"stage {number}"
    return name.replace("_", " ")
