"""Pictures of networks: what they show is what the network is, and nothing lies over anything else."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from typing import Any, get_args

import pytest
import torch
from torch import nn

from skipway.drawing.anatomy import Chain, Gated, dissect
from skipway.drawing.outline import Card, Op, Outline, fold, outline_of
from skipway.drawing.picture import compose
from skipway.drawing.scene import Box, Frame, Label, Scene
from skipway.models.catalog import find_entry, find_spec, list_models
from skipway.models.highway import HighwayUnit
from skipway.models.joins import Carry
from skipway.models.mlp import DenseUnit
from skipway.models.network import Network, Spec
from skipway.models.plain import PlainUnit
from skipway.models.resnet_v1 import BasicV1, BottleneckV1
from skipway.models.resnet_v2 import BasicV2, BottleneckV2
from skipway.models.shortcuts import PadChannels, Projection, Subsample

UNITS = (HighwayUnit, DenseUnit, PlainUnit, BasicV1, BottleneckV1, BasicV2, BottleneckV2)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no classifier": ("resnet_v1_50.original", {"num_classes": 0}),
    "no stem": ("resnet_v2_50.slim", {"include_root_block": False, "in_channels": 64, "input_size": 56}),
    "stages alone": (
        "resnet_v1_20.cifar",
        {"num_classes": 0, "global_pool": False, "include_root_block": False, "in_channels": 16},
    ),
    "dense": ("resnet_v1_50.slim", {"output_stride": 8, "global_pool": False}),
    "free carry": ("highway_19.cifar", {"carry": "free", "activation": "tanh"}),
    "no units": ("highway_mlp_1", {}),
    "large maps": ("resnet_v1_20.cifar", {"input_size": 4_000_000}),
    "any depth": ("highway_mlp_7", {}),
    "no hidden layers": ("alexnet.owt", {"hidden": ()}),
    "sigmoids": ("alexnet.mnist", {"conv_activation": "sigmoid", "activation": "sigmoid"}),
    "any plain depth": ("plain_mlp_7", {"activation": "tanh"}),
    "option C": ("resnet_v1_20.cifar", {"shortcut": "projection_all"}),
    **{carry: ("resnet_v1_20.cifar", {"carry": carry}) for carry in get_args(Carry)},
}
SPECS: dict[str, Spec] = {name: find_spec(name) for name in list_models()} | {
    title: find_spec(name).replaced(fields) for title, (name, fields) in VARIANTS.items()
}

every_network = pytest.mark.parametrize("title", SPECS)


@functools.cache
def built(title: str) -> Network:
    with torch.device("meta"):
        return SPECS[title].build().eval()


@functools.cache
def made(title: str) -> tuple[Outline, Scene]:
    network = outline_of(built(title))
    return network, compose(network)


def endpoints(network: Network) -> dict[str, tuple[int, ...]]:
    spec = network.spec
    picture = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size, device="meta")
    with torch.no_grad():
        return {key: tuple(value.shape[1:]) for key, value in network.forward_endpoints(picture).items()}


@functools.cache
def real_units(title: str) -> dict[str, nn.Module]:
    return {name: module for name, module in built(title).named_modules() if isinstance(module, UNITS)}


@every_network
def test_nothing_overlaps_and_nothing_is_cut_off(title: str) -> None:
    _, scene = made(title)
    page = Frame(0, 0, scene.width, scene.height)
    things = [*scene.boxes, *scene.labels]
    assert all(holds(page, one.frame) for one in things)
    assert all(holds(page, Frame(x, y, 0, 0)) for line in scene.lines for x, y in line.points)
    for layer in ("panel", "card", "op", "map", "node", "badge"):
        frames = [(box.key, solid(box)) for box in scene.boxes if box.layer == layer]
        assert not overlapping(frames), layer
    assert not overlapping([(label.text, label.frame) for label in scene.labels])


def solid(box: Box) -> Frame:
    """What a box covers; a cuboid also goes back to the upper right."""
    frame = box.frame
    return Frame(frame.x, frame.y - box.depth, frame.width + box.depth, frame.height + box.depth)


def overlap(one: Frame, other: Frame, slack: float = 0.01) -> bool:
    """Whether the two share more than an edge."""
    beside = one.x >= other.right - slack or other.x >= one.right - slack
    above = one.y >= other.bottom - slack or other.y >= one.bottom - slack
    return not beside and not above


def holds(outer: Frame, inner: Frame, slack: float = 0.01) -> bool:
    """Whether the second lies within the first."""
    across = outer.x <= inner.x + slack and inner.right <= outer.right + slack
    return across and outer.y <= inner.y + slack and inner.bottom <= outer.bottom + slack


def overlapping(frames: list[tuple[str, Frame]]) -> list[tuple[str, str]]:
    return [(one, two) for (one, a), (two, b) in itertools.combinations(frames, 2) if overlap(a, b)]


@every_network
def test_words_stay_in_their_boxes(title: str) -> None:
    _, scene = made(title)
    boxes = [box for box in scene.boxes if box.layer in {"op", "badge", "card", "map", "node"}]
    for label in scene.labels:
        for box in boxes:
            if box.layer == "card":  # a card's words are those of its operations
                continue
            if overlap(box.frame, label.frame):
                assert holds(box.frame, label.frame, slack=0.5), (label.text, box.key)
                assert label.text == box.key
    cards = [box.frame for box in scene.boxes if box.layer == "card"]
    panels = [box.frame for box in scene.boxes if box.layer == "panel"]
    for box in scene.boxes:
        holders = {"op": cards + panels, "badge": panels}.get(box.layer)
        assert holders is None or any(holds(frame, box.frame) for frame in holders), box.key


@every_network
def test_shapes_on_the_spine_are_the_networks_own(title: str) -> None:
    network, scene = made(title)
    spec = SPECS[title]
    shapes = {"input": (spec.in_channels, spec.input_size, spec.input_size)} | endpoints(built(title))
    flow = [line for line in scene.lines if line.shape is not None]
    assert flow[0].endpoint == "input"
    assert all(line.shape == shapes[line.endpoint] for line in flow)
    cards = [card for section in network.sections for group in section.groups for card in group.cards]
    assert [line.endpoint for line in flow[1:]] == [card.endpoint for card in cards]
    assert flow[-1].shape == shapes["logits" if spec.num_classes else "pre_logits"]
    # Each shape that differs from the one before it is written out.
    changes = [shape for shape, _ in itertools.groupby(line.shape for line in flow)]
    written = [box.key for box in scene.boxes if box.layer == "map"]
    assert written == ["×".join(map(str, shape or ())) for shape in changes]
    assert not Counter(written) - Counter(label.text for label in scene.labels)
    xs = [x for line in flow for x, _ in line.points]
    assert xs == sorted(xs), "the spine goes from left to right"


@every_network
def test_folded_units_add_up(title: str) -> None:
    network, _ = made(title)
    units = real_units(title)
    assert sum(network.uses) == len(units)
    folded = [(card, group.repeat) for section in network.sections for group in section.groups for card in group.cards]
    assert sum(repeat for card, repeat in folded if card.kind) == len(units)
    counted: Counter[Any] = Counter()
    for card, repeat in folded:
        if card.kind:
            counted[card.kind] += repeat
            assert dissect(units[card.endpoint]).layers == card.ops
    assert dict(zip(network.kinds, network.uses, strict=True)) == counted
    if title in list_models():
        assert network.parameters == find_entry(title).parameters


@every_network
def test_arcs_stand_where_shortcuts_are(title: str) -> None:
    network, scene = made(title)
    units = real_units(title)
    arcs = {line.endpoint: line for line in scene.lines if line.units}
    shown = [card.endpoint for section in network.sections for group in section.groups for card in group.cards
             if card.kind]  # fmt: skip
    assert set(arcs) == {name for name in shown if not isinstance(units[name], DenseUnit | PlainUnit)}
    for name, line in arcs.items():
        assert line.style == style_of(units[name]), name


def style_of(unit: nn.Module) -> str:
    if isinstance(unit, HighwayUnit):
        return "gated"
    shortcut = unit.get_submodule("shortcut")
    styles = {nn.Identity: "identity", Subsample: "subsampled", PadChannels: "padded"}
    return styles.get(type(shortcut), "projection" if isinstance(shortcut, Projection | nn.Conv2d) else "unknown")


def inside(name: str, number: int) -> tuple[list[str], list[str], list[str] | None, list[str]]:
    chain = made(name)[0].kinds[number].inside
    assert isinstance(chain, Chain)
    parts = [None if part is None else [op.text for op in part]
             for part in (chain.shared, chain.branch, chain.shortcut, chain.after)]  # fmt: skip
    return tuple(parts)  # type: ignore[return-value]


def test_insets_tell_the_layouts_apart() -> None:
    assert inside("resnet_v1_50.original", 2) == (
        [],
        ["1×1 conv, /2", "BN", "ReLU", "3×3 conv", "BN", "ReLU", "1×1 conv", "BN"],
        ["1×1 conv, /2", "BN"],
        ["ReLU"],
    )
    assert inside("resnet_v1_50.torchvision", 2)[1][:4] == ["1×1 conv", "BN", "ReLU", "3×3 conv, /2"]
    assert inside("resnet_v1_20.cifar", 0)[2] == []
    assert inside("resnet_v1_20.cifar", 1)[2] == ["subsample, /2", "add zeros"]
    assert inside("plain_34", 1) == ([], ["3×3 conv, /2", "BN", "ReLU", "3×3 conv", "BN", "ReLU"], None, [])
    branch = ["BN", "ReLU", "1×1 conv", "BN", "ReLU", "3×3 conv", "BN", "ReLU", "1×1 conv"]
    assert inside("resnet_v2_50.slim", 0) == (branch[:2], branch[2:], ["1×1 conv"], [])
    assert inside("resnet_v2_50.slim", 1) == ([], branch, [], [])
    assert inside("resnet_v2_50.slim", 2)[2] == ["subsample, /2"]
    assert "3×3 conv, rate 2" in inside("dense", 3)[1]


def test_what_becomes_of_an_identity_is_shown() -> None:
    branch = ["3×3 conv", "BN", "ReLU", "3×3 conv", "BN"]
    after = ["ReLU"]
    assert inside("identity", 0) == ([], branch, [], after)
    assert inside("scale", 0) == ([], [*branch, "× 0.5"], ["× 0.5"], after)
    assert inside("scale_shortcut", 0) == ([], branch, ["× 0.5"], after)
    assert inside("exclusive_gate", 0) == ([], [*branch, "× g"], ["× (1 − g)"], after)
    assert inside("shortcut_gate", 0) == ([], branch, ["× (1 − g)"], after)
    assert inside("shortcut_gate", 1)[2] == ["subsample, /2", "add zeros", "× (1 − g)"]
    assert inside("dropout", 0) == ([], branch, ["dropout 0.5"], after)
    assert inside("option C", 0)[2] == ["1×1 conv", "BN"]
    assert [kind.title for kind in made("exclusive_gate")[0].kinds] == [
        "identity shortcut, g = sigmoid(1×1 conv)",
        "zero-padded shortcut, stride 2, g = sigmoid(1×1 conv)",
    ]
    words = {label.text for label in made("exclusive_gate")[1].labels}
    assert {"g: 1×1, 16", "g: 1×1, 32, /2", "g: 1×1, 64"} <= words


def test_plain_layers_and_their_activation() -> None:
    network, scene = made("any plain depth")
    assert inside("any plain depth", 0) == ([], ["fc", "tanh"], None, [])
    assert [section.title for section in network.sections] == ["stem", "plain", "classifier"]
    assert [op.text for op in network.sections[0].groups[0].cards[0].ops] == ["fc, 71", "tanh"]
    assert network.sections[1].groups[0].repeat == 6
    written = {section.title: [op.text for op in section.groups[0].cards[0].ops]
               for section in made("sigmoids")[0].sections}  # fmt: skip
    assert written["conv1"][:2] == ["3×3, 64", "sigmoid"]
    assert written["fc4"][:2] == ["fc, 1024", "sigmoid"]
    assert "sigmoid" in {label.text for label in scene.labels} | {label.text for label in made("sigmoids")[1].labels}


def test_gates_are_shown() -> None:
    (kind,) = made("highway_19.cifar")[0].kinds
    assert kind.inside == Gated(
        (Op("conv", "3×3 conv"), Op("activation", "ReLU")), (Op("conv", "3×3 conv"), Op("gate", "sigmoid")), ()
    )
    (kind,) = made("free carry")[0].kinds
    assert isinstance(kind.inside, Gated)
    assert kind.inside.transform[1].text == "tanh"
    assert [op.text for op in kind.inside.carry] == ["3×3 conv", "sigmoid"]
    words = {label.text for label in made("highway_19.cifar")[1].labels}
    assert {"1 − T", "y = H · T + x · C", "T: 3×3, 80", "14 units, T's bias starts at −2"} <= words
    assert "1 − T" not in {label.text for label in made("free carry")[1].labels}


def test_alexnet_in_words() -> None:
    network, _ = made("alexnet.caffe")
    written = {section.title: [op.text for op in section.groups[0].cards[0].ops] for section in network.sections}
    assert written["conv1"] == ["11×11, 96, /4", "ReLU", "LRN over 5", "max pool 3×3, /2"]
    assert written["conv2"][0] == "5×5, 256, 2 groups"
    assert written["fc6"] == ["fc, 4096", "ReLU", "dropout 0.5"]
    assert written["classifier"] == ["fc, 1000"]
    averaged = [card.ops[0].text for section in made("no hidden layers")[0].sections[-1:]
                for card in section.groups[0].cards]  # fmt: skip
    assert averaged == ["average to 6×6"]


@pytest.mark.parametrize(
    ("letters", "folded"),
    [
        ("", []),
        ("a", [("a", 1)]),
        ("aaa", [("a", 3)]),
        ("abbb", [("a", 1), ("b", 3)]),
        ("abbbc", [("a", 1), ("b", 3), ("c", 1)]),
        ("ababa", [("ab", 2), ("a", 1)]),
        ("aabab", [("a", 2), ("b", 1), ("a", 1), ("b", 1)]),
        ("abcabc", [("a", 1), ("b", 1), ("c", 1), ("a", 1), ("b", 1), ("c", 1)]),
    ],
)
def test_folding(letters: str, folded: list[tuple[str, int]]) -> None:
    cards = [Card(f"unit{number}", (Op("conv", letter),), (1, 1, 1)) for number, letter in enumerate(letters)]
    groups = fold(cards)
    assert [("".join(card.ops[0].text for card in group.cards), group.repeat) for group in groups] == folded


def test_thousand_layers_are_one_deck() -> None:
    words = [label.text for label in made("resnet_v2_1001.cifar")[1].labels]
    assert words.count("× 110") == 3
    assert "330 of 333 units" in words


def test_frames_know_what_they_cover() -> None:
    frame = Frame(0, 0, 10, 10)
    assert overlap(frame, Frame(9, 9, 5, 5))
    assert not overlap(frame, Frame(10, 0, 5, 5))
    assert holds(frame, Frame(0, 0, 10, 5))
    assert not holds(frame, Frame(5, 5, 6, 1))
    wide = Label("wide words", 50, 5, 8).frame
    assert wide.x + wide.width / 2 == pytest.approx(50)
    assert Label("wide words", 50, 5, 8, "end").frame.right == pytest.approx(50)
    assert wide.width < Label("wide words", 50, 5, 8, bold=True).frame.width
