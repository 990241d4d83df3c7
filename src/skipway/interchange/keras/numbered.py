"""The ResNet in a Keras file of weights alone that neither names its layers in a known way nor describes them.

Such a file (`.weights.h5` of Keras 2.12 on) counts its layers out, class by class, in the order of `model.layers`: from
input to output, and where a unit's branch and its projection are equally far from the end, in the order of the inputs
of their sum (`_map_graph_network` of Keras 2, `map_graph` of Keras 3). So the n-th convolution of the file is the n-th
of the network, whatever its number (2.12 and 2.13 count by two), and the shapes in their order tell the network, if it
is one that known code builds; what they do not tell (strides, padding, epsilon) is that code's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from skipway.errors import SpecError
from skipway.interchange.doubt import PICTURES_UNKNOWN, Doubt
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras.network import KerasNetwork, keras_network, sorted_layers
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import Place, source_shape
from skipway.interchange.mapping.matching import Match
from skipway.interchange.mapping.scheme import NORM_TENSORS
from skipway.interchange.mapping.shapes import named_alike
from skipway.interchange.source import Layer, Source
from skipway.models.blocks import Block, Norm, Row, StackSpec, Stem, Unit, stage
from skipway.models.catalog import find_spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

SCHEME = "keras_order"
_KINDS = ("Conv2D", "BatchNormalization", "Dense")
_MOST_CONVOLUTIONS = 4096
_LONGEST_AXIS = 1 << 16  # a network of axes that no array of the file joins must not overflow

Shapes = Mapping[str, tuple[int, ...]]
Held = Mapping[str, list[str]]


@dataclass(frozen=True)
class Code:
    """Code that builds networks of one kind of unit: `base` is one of them. `strided` says which unit of a stage has
    its stride, `sums` whether sums take the shortcut or the branch first."""

    told: str
    base: StackSpec
    unit: Unit
    strided: Literal["first", "last"]
    sums: Literal["shortcut", "branch"]


@dataclass(frozen=True)
class _Unit:
    kind: Unit
    depth: int
    width: int
    projects: bool


def in_order(source: Source, shapes: Shapes, row: str = "") -> tuple[Match, tuple[Doubt, ...]] | None:
    """The one network whose layers have these shapes in this order, and what the user should know of it; None where
    there is none, or more than one. A `row` that is asked for may add up its units in either order."""
    if source.format != keras_h5.FORMAT or source.layers or source.notes.get("keras_version") == "1":
        return None
    held = _held(shapes)
    if held is None or not held["Conv2D"]:
        return None
    found: list[tuple[Code, StackSpec, dict[str, Place | None]]] = []
    for code in _codes():
        spec = _spec(code, held, shapes)
        network = None if spec is None or (row and spec.name != row) else keras_network(spec)
        if spec is None or network is None:
            continue
        places = _places(spec, network, code.sums, held, shapes)
        if places is None and row:
            places = _places(spec, network, "branch" if code.sums == "shortcut" else "shortcut", held, shapes)
        if places is not None:
            found.append((code, spec, places))
    if len(found) != 1:
        return None
    code, spec, places = found[0]
    return Match(spec, SCHEME, places, (), ()), () if row else _doubts(code, spec)


def _doubts(code: Code, spec: StackSpec) -> tuple[Doubt, ...]:
    text = (
        f"the file does not tell one layer from another but by its place and shape: taken as {code.told}, with its "
        "strides, padding, epsilon and order of summands; --model NAME takes another network"
    )
    doubt = Doubt("network", text)
    if spec.name.endswith(".keras_file"):
        return doubt, PICTURES_UNKNOWN
    return (doubt,)


def _codes() -> tuple[Code, ...]:
    """Keras's applications and its CIFAR example (examples/cifar10_resnet.py), and the hand-signs code."""
    stem, norm = Stem(kernel=3, stride=1, width=16, pool=None, bias=True), Norm(eps=1e-3, momentum=0.01)
    example_v1 = ResNetV1Spec(
        name="example.keras_file",
        preprocessing="unit",
        input_size=32,
        stem=stem,
        norm=norm,
        blocks=(stage("stage1", "basic", 16, 1, stride=1),),  # stands for those of the file
        conv_bias=True,
        padding="same",
        projection="bare",
    )
    example_v2 = ResNetV2Spec(
        name="example.keras_file",
        preprocessing="unit",
        input_size=32,
        stem=stem,
        norm=norm,
        blocks=(stage("stage1", "bottleneck", 16, 1, stride=1),),
        conv_bias=True,
        padding="same",
        projection="first_shared",
        stride_in="first",
    )
    return (
        Code("a ResNet of Keras's applications", _row("resnet_v1_50.keras"), "bottleneck", "first", "shortcut"),
        Code("a ResNetV2 of Keras's applications", _row("resnet_v2_50.keras"), "bottleneck", "last", "shortcut"),
        Code("a network of the hand-signs code", _row("resnet_v1_50.signs"), "bottleneck", "first", "branch"),
        Code("a ResNet v1 of Keras's CIFAR example", example_v1, "basic", "first", "shortcut"),
        Code("a ResNet v2 of Keras's CIFAR example", example_v2, "bottleneck", "first", "shortcut"),
    )


def _row(name: str) -> StackSpec:
    spec = find_spec(name)
    assert isinstance(spec, StackSpec)
    return spec


def _held(shapes: Shapes) -> Held | None:
    """The file's layers of each kind in their order; None where there is one of another kind, or too large a one."""
    if any(max(shape, default=0) > _LONGEST_AXIS for shape in shapes.values()):
        return None
    leaves: dict[str, dict[str, int]] = {}
    for name, shape in shapes.items():
        owner, _, leaf = name.rpartition("/")
        leaves.setdefault(owner, {})[leaf] = len(shape)
    held: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for owner, ranks in leaves.items():
        if set(ranks) == set(NORM_TENSORS.values()):
            kind = "BatchNormalization"
        elif set(ranks) <= {"kernel", "bias"} and ranks.get("kernel") in {2, 4}:
            kind = "Conv2D" if ranks["kernel"] == 4 else "Dense"
        else:
            return None
        held[kind].append(owner)
    return held if len(held["Conv2D"]) <= _MOST_CONVOLUTIONS and len(held["Dense"]) <= 1 else None


def _spec(code: Code, held: Held, shapes: Shapes) -> StackSpec | None:
    """The network of these convolutions if that code built it, or None where they make no units at all."""
    stem, *convs = (shapes[f"{owner}/kernel"] for owner in held["Conv2D"])
    units = _units(convs, stem[3])
    if not units or any(unit.kind != code.unit for unit in units):
        return None
    classes = [shapes[f"{owner}/kernel"][1] for owner in held["Dense"]]
    fields = {
        "blocks": _blocks(units, code.strided),
        "num_classes": classes[0] if classes else 0,
        "in_channels": stem[2],
        "stem": replace(code.base.stem, width=stem[3]),
    }
    try:
        return named_alike(code.base.replaced(fields), code.base)
    except SpecError:  # an axis of no elements
        return None


def _units(convs: list[tuple[int, ...]], channels: int) -> list[_Unit]:
    """The units of a network behind its stem; nothing where convolutions do not follow or are left over."""
    units: list[_Unit] = []
    start = 0
    while start < len(convs):
        kind: Unit = "bottleneck" if convs[start][0] == 1 else "basic"
        last = start + (2 if kind == "bottleneck" else 1)
        if last >= len(convs) or convs[start][2] != channels:
            return []
        # Here stands the branch's last convolution or the projection: both have the unit's depth.
        depth = convs[last][3]
        units.append(_Unit(kind, depth, convs[start][3], projects=depth != channels))
        start = last + (2 if depth != channels else 1)
        channels = depth
    return units if start == len(convs) else []


def _blocks(units: list[_Unit], strided: str) -> tuple[Block, ...]:
    """Stages start with the units that project; all but the first, or the last, have a stride."""
    stages: list[list[_Unit]] = []
    for unit in units:
        if unit.projects or not stages:
            stages.append([])
        stages[-1].append(unit)
    blocks = []
    for number, members in enumerate(stages, 1):
        rows: list[Row] = [(unit.depth, unit.width, 1) for unit in members]
        if strided == "first" and number > 1:
            rows[0] = (members[0].depth, members[0].width, 2)
        elif strided == "last" and number < len(stages):
            rows[-1] = (members[-1].depth, members[-1].width, 2)
        blocks.append(Block(f"stage{number}", members[0].kind, tuple(rows)))
    return tuple(blocks)


def _places(
    spec: StackSpec, network: KerasNetwork, sums: str, held: Held, shapes: Shapes
) -> dict[str, Place | None] | None:
    """The network's n-th layer of a kind is the file's; None where a shape is another or an array is left over."""
    layers = network.layers if sums == "shortcut" else _branch_first(network.layers)
    owners: dict[str, str] = {}
    for kind in _KINDS:
        ours = [layer.name for layer in layers if layer.kind == kind]
        if len(ours) != len(held[kind]):
            return None
        owners |= dict(zip(ours, held[kind], strict=True))
    places: dict[str, Place | None] = {}
    for key in keys_of(spec):
        place = network.place(key, spec)
        if place is not None:
            layer, _, leaf = place.source.rpartition("/")
            place = replace(place, source=f"{owners[layer]}/{leaf}")
            if shapes.get(place.source) != source_shape(key.shape, place):
                return None
        places[key.name] = place
    taken = {place.source for place in places.values() if place}
    return places if taken == set(shapes) else None


def _branch_first(layers: tuple[Layer, ...]) -> list[Layer]:
    """The layers of the same network whose sums take their inputs the other way round, as Keras sorts those."""
    turned = (replace(one, inputs=one.inputs[::-1]) if one.kind == "Add" else one for one in layers)
    return sorted_layers({layer.name: layer for layer in turned})
