"""The ResNet in a Keras file that holds only weights, without known names of layers and without a description.

Such a file (`.weights.h5` of Keras 2.12 and later) numbers the layers of each class in the order of `model.layers`.
That order goes from input to output. Where a unit's branch and its projection are equally far from the end, it is the
order of the inputs of their sum (`_map_graph_network` of Keras 2, `map_graph` of Keras 3). So the n-th convolution of
the file is the n-th of the network, whatever its number (2.12 and 2.13 count by two). The shapes in this order show
which network it is, if known code builds it. What shapes do not show (strides, padding, epsilon) is as in that code.
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
from skipway.interchange.source import Layer, WeightFile
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
Places = dict[str, Place | None]


@dataclass(frozen=True)
class Code:
    """Code that builds networks of one kind of unit.

    - `description`: the code in words, for messages.
    - `base`: one of its networks.
    - `unit`: the kind of its units.
    - `strided`: which unit of a stage has the stride.
    - `sums`: whether sums take the shortcut or the branch first.
    """

    description: str
    base: StackSpec
    unit: Unit
    strided: Literal["first", "last"]
    sums: Literal["shortcut", "branch"]


@dataclass(frozen=True)
class _Unit:
    """A unit as its convolutions show it: its kind, its depth and width in channels, and whether it projects."""

    kind: Unit
    depth: int
    width: int
    projects: bool


def in_order(source: WeightFile, shapes: Shapes, row: str = "") -> tuple[Match, tuple[Doubt, ...]] | None:
    """The one network whose layers have these shapes in this order, and what the user should know of it.

    `shapes` are those of the arrays by name. `row` is the name of the network that the user asks for; its sums may
    take their inputs in either order. None where no network fits, or more than one.
    """
    if source.format != keras_h5.FORMAT or source.layers or source.notes.get("keras_version") == "1":
        return None
    held = _held(shapes)
    if held is None or not held["Conv2D"]:
        return None
    found: list[tuple[Code, StackSpec, Places]] = []
    for code in _codes():
        candidate = _candidate(code, held, shapes, row)
        if candidate is not None:
            spec, places = candidate
            found.append((code, spec, places))
    if len(found) != 1:
        return None
    code, spec, places = found[0]
    match = Match(spec, SCHEME, places, (), ())
    doubts = () if row else _doubts(code, spec)
    return match, doubts


def _candidate(code: Code, held: Held, shapes: Shapes, row: str) -> tuple[StackSpec, Places] | None:
    """The network that `code` made of the file's layers, and where its tensors lie. None where there is none."""
    spec = _spec(code, held, shapes)
    if spec is None or row not in ("", spec.name):
        return None
    network = keras_network(spec)
    if network is None:
        return None
    orders: list[str] = [code.sums]
    if row:
        other = "branch" if code.sums == "shortcut" else "shortcut"
        orders.append(other)
    for sums in orders:
        places = _places(spec, network, sums, held, shapes)
        if places is not None:
            return spec, places
    return None


def _doubts(code: Code, spec: StackSpec) -> tuple[Doubt, ...]:
    """What the user should know of a network that was found by its shapes."""
    text = (
        f"the file does not tell one layer from another but by its place and shape: taken as {code.description}, with "
        "its strides, padding, epsilon and order of summands; --model NAME takes another network"
    )
    doubt = Doubt("network", text)
    if spec.name.endswith(".keras_file"):
        return doubt, PICTURES_UNKNOWN
    return (doubt,)


def _codes() -> tuple[Code, ...]:
    """Keras's applications and its CIFAR example (examples/cifar10_resnet.py), and the hand-signs code."""
    v1 = _row("resnet_v1_50.keras")
    v2 = _row("resnet_v2_50.keras")
    signs = _row("resnet_v1_50.signs")
    example_v1, example_v2 = _examples()
    return (
        Code("a ResNet of Keras's applications", v1, "bottleneck", "first", "shortcut"),
        Code("a ResNetV2 of Keras's applications", v2, "bottleneck", "last", "shortcut"),
        Code("a network of the hand-signs code", signs, "bottleneck", "first", "branch"),
        Code("a ResNet v1 of Keras's CIFAR example", example_v1, "basic", "first", "shortcut"),
        Code("a ResNet v2 of Keras's CIFAR example", example_v2, "bottleneck", "first", "shortcut"),
    )


def _examples() -> tuple[StackSpec, StackSpec]:
    """A network of each version as Keras's CIFAR example builds it. Their stages stand for those of the file."""
    stem = Stem(kernel=3, stride=1, width=16, pool=None, bias=True)
    norm = Norm(eps=1e-3, momentum=0.01)
    v1_stage = stage("stage1", "basic", 16, 1, stride=1)
    v2_stage = stage("stage1", "bottleneck", 16, 1, stride=1)
    v1 = ResNetV1Spec(
        name="example.keras_file",
        preprocessing="unit",
        input_size=32,
        stem=stem,
        norm=norm,
        blocks=(v1_stage,),
        conv_bias=True,
        padding="same",
        projection="bare",
    )
    v2 = ResNetV2Spec(
        name="example.keras_file",
        preprocessing="unit",
        input_size=32,
        stem=stem,
        norm=norm,
        blocks=(v2_stage,),
        conv_bias=True,
        padding="same",
        projection="first_shared",
        stride_in="first",
    )
    return v1, v2


def _row(name: str) -> StackSpec:
    """The network of that name in the catalog."""
    spec = find_spec(name)
    assert isinstance(spec, StackSpec)
    return spec


def _held(shapes: Shapes) -> Held | None:
    """The names of the file's layers by kind, in their order. None where a layer is of another kind, or too large."""
    ranks_by_layer: dict[str, dict[str, int]] = {}
    for name, shape in shapes.items():
        if max(shape, default=0) > _LONGEST_AXIS:
            return None
        layer, _, weight = name.rpartition("/")
        ranks = ranks_by_layer.setdefault(layer, {})
        ranks[weight] = len(shape)
    held: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for layer, ranks in ranks_by_layer.items():
        kind = _kind(ranks)
        if kind is None:
            return None
        held[kind].append(layer)
    if len(held["Conv2D"]) > _MOST_CONVOLUTIONS:
        return None
    if len(held["Dense"]) > 1:
        return None
    return held


def _kind(ranks: Mapping[str, int]) -> str | None:
    """The kind of a layer whose weights have these numbers of axes. None for a kind that no ResNet has."""
    weights = set(ranks)
    if weights == set(NORM_TENSORS.values()):
        return "BatchNormalization"
    if not weights <= {"kernel", "bias"}:
        return None
    axes = ranks.get("kernel")
    if axes == 4:
        return "Conv2D"
    if axes == 2:
        return "Dense"
    return None


def _spec(code: Code, held: Held, shapes: Shapes) -> StackSpec | None:
    """The network of the file's convolutions, if `code` built it. None where they make no units of that code."""
    stem, *convs = (shapes[f"{layer}/kernel"] for layer in held["Conv2D"])
    _, _, in_channels, width = stem
    units = _units(convs, width)
    kinds = {unit.kind for unit in units}
    if kinds != {code.unit}:
        return None
    classes = 0
    for layer in held["Dense"]:
        classes = shapes[f"{layer}/kernel"][1]
    fields = {
        "blocks": _blocks(units, code.strided),
        "num_classes": classes,
        "in_channels": in_channels,
        "stem": replace(code.base.stem, width=width),
    }
    try:
        spec = code.base.replaced(fields)
        return named_alike(spec, code.base)
    except SpecError:  # an axis of no elements
        return None


def _units(convs: list[tuple[int, ...]], channels: int) -> list[_Unit]:
    """The units that convolutions with these kernels make behind a stem of `channels` channels.

    Kernels are (height, width, in, out). The list is empty where a convolution does not follow or is left over.
    """
    units: list[_Unit] = []
    start = 0
    while start < len(convs):
        side, _, taken, width = convs[start]
        kind: Unit = "basic"
        last = start + 1
        if side == 1:
            kind = "bottleneck"
            last = start + 2
        if last >= len(convs) or taken != channels:
            return []
        # Here stands the branch's last convolution or the projection: both have the unit's depth.
        depth = convs[last][3]
        projects = depth != channels
        units.append(_Unit(kind, depth, width, projects))
        start = last + 1
        if projects:
            start += 1
        channels = depth
    if start != len(convs):
        return []
    return units


def _blocks(units: list[_Unit], strided: str) -> tuple[Block, ...]:
    """The stages. Each starts with a unit that projects. All but the first, or all but the last, have a stride of 2."""
    stages: list[list[_Unit]] = []
    for unit in units:
        if unit.projects or not stages:
            stages.append([])
        stages[-1].append(unit)
    blocks = []
    last = len(stages)
    for number, members in enumerate(stages, 1):
        rows: list[Row] = [(unit.depth, unit.width, 1) for unit in members]
        if strided == "first" and number > 1:
            depth, width, _ = rows[0]
            rows[0] = (depth, width, 2)
        elif strided == "last" and number < last:
            depth, width, _ = rows[-1]
            rows[-1] = (depth, width, 2)
        blocks.append(Block(f"stage{number}", members[0].kind, tuple(rows)))
    return tuple(blocks)


def _places(spec: StackSpec, network: KerasNetwork, sums: str, held: Held, shapes: Shapes) -> Places | None:
    """Where our tensors lie: the network's n-th layer of a kind is the file's n-th layer of that kind.

    None where a shape differs or an array is left over.
    """
    layers = list(network.layers)
    if sums == "branch":
        layers = _branch_first(network.layers)
    stored_names = _stored_names(layers, held)
    if stored_names is None:
        return None
    places: Places = {}
    taken: set[str] = set()
    for key in keys_of(spec):
        place = network.place(key, spec)
        if place is not None:
            layer, _, weight = place.source.rpartition("/")
            stored = f"{stored_names[layer]}/{weight}"
            place = replace(place, source=stored)
            taken.add(stored)
            if shapes.get(stored) != source_shape(key.shape, place):
                return None
        places[key.name] = place
    if taken != set(shapes):
        return None
    return places


def _stored_names(layers: list[Layer], held: Held) -> dict[str, str] | None:
    """The names of the file's layers by the network's. None where the file has more or fewer layers of a kind."""
    stored_names: dict[str, str] = {}
    for kind in _KINDS:
        ours = [layer.name for layer in layers if layer.kind == kind]
        theirs = held[kind]
        if len(ours) != len(theirs):
            return None
        pairs = zip(ours, theirs, strict=True)
        stored_names.update(pairs)
    return stored_names


def _branch_first(layers: tuple[Layer, ...]) -> list[Layer]:
    """The layers of the same network whose sums take their inputs the other way round, in Keras's order of those."""
    turned: dict[str, Layer] = {}
    for layer in layers:
        inputs = layer.inputs
        if layer.kind == "Add":
            inputs = inputs[::-1]
        turned[layer.name] = replace(layer, inputs=inputs)
    return sorted_layers(turned)
