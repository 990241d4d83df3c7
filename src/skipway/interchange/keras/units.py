"""Residual units of a Keras graph: each ends in a sum, from which its branch and its shortcut are followed back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from skipway.interchange.doubt import Doubt
from skipway.interchange.keras.graph import KerasGraph, KerasNode
from skipway.interchange.keras.layers import KerasConv, Layers
from skipway.models.blocks import Row
from skipway.models.blocks import Unit as UnitKind
from skipway.reporting import counted

# The kind of a unit and the kernels of its convolutions, by the number of its convolutions.
_KERNELS: dict[int, tuple[UnitKind, tuple[int, ...]]] = {2: ("basic", (3, 3)), 3: ("bottleneck", (1, 3, 1))}
# The layers of a branch for each of its convolutions, by the version of ResNet. Version 1 has no last ReLU.
_PATTERNS = {1: ("conv", "norm", "relu"), 2: ("norm", "relu", "conv")}
Shortcut = Literal["identity", "projection", "lambda"]

_PLACED = {"conv", "norm", "relu", "pool", "average", "lambda"}  # operations that a unit may have
_KEEPING = {"lambda", "pool", "average"}  # operations that a shortcut without weights may have


@dataclass(frozen=True)
class Unit:
    """A residual unit as read from a file.

    - `end`: its last layer, the sum.
    - `kind`: basic or bottleneck.
    - `channels`: the channels that it takes.
    - `row`: depth, width and stride.
    - `shortcut`: `identity`, `projection`, or `lambda` where its code is not read.
    - `shared`: whether the shortcut starts from the pre-activation.
    - `layers`: the layers with weights, by the names of our modules.
    """

    end: KerasNode
    kind: UnitKind
    channels: int
    row: Row
    shortcut: Shortcut
    shared: bool
    layers: Mapping[str, KerasNode]


class Units:
    """Reads the units of one graph. `doubts` is what a user should know of them."""

    def __init__(self, graph: KerasGraph, layers: Layers, version: int) -> None:
        self.doubts: list[Doubt] = []
        self._graph = graph
        self._layers = layers
        self._version = version
        self._fail = graph.fail

    def read(self, end: KerasNode, start: KerasNode, channels: int) -> Unit:
        """The unit between the value of `start`, which has `channels` channels, and the sum `end`.

        Raises ModelFileError, which names the first layer that does not fit.
        """
        branch, shortcut = self._sides(end, start)
        convs = [node for node in branch if node.op == "conv"]
        count = len(convs)
        if count not in _KERNELS:
            convolutions = counted(count, "convolution")
            self._fail(end, f"ends a branch of {convolutions}, and units have 2 or 3")
        pattern = list(_PATTERNS[self._version] * count)
        if self._version == 1:
            pattern.pop()
        self._follow(branch, pattern, end)
        read_convs = [self._layers.conv(node) for node in convs]
        kind, row = self._row(read_convs, channels)
        layers = self._named(branch, convs)
        shared = self._version == 2 and bool(shortcut) and shortcut[:2] == branch[:2]
        if shared:
            shortcut = shortcut[2:]
        found = self._shortcut(shortcut, channels, row, end, layers)
        return Unit(end, kind, channels, row, found, shared, layers)

    def _sides(self, end: KerasNode, start: KerasNode) -> tuple[list[KerasNode], list[KerasNode]]:
        """The layers of the branch and of the shortcut, from the start to the end of a unit."""
        count = len(end.inputs)
        if count != 2:
            values = counted(count, "value")
            self._fail(end, f"adds {values}, and units add two")
        sides = [self._chain(node, start, end) for node in self._graph.producers(end)]
        shortcut, branch = sorted(sides, key=_convolutions)
        for node in [*branch, *shortcut]:
            if node.op not in _PLACED:
                self._fail(node, "has no place in a unit")
        return branch, shortcut

    def _chain(self, node: KerasNode, start: KerasNode, end: KerasNode) -> list[KerasNode]:
        """The layers from `start`, which is not among them, to `node`, one of the two values that `end` adds."""
        chain: list[KerasNode] = []
        while node.name != start.name:
            if len(node.inputs) != 1:
                outside = end if node.op == "input" else node
                self._fail(outside, "does not belong to one unit after the other")
            chain.append(node)
            node = self._graph.producer(node)
        chain.reverse()
        return chain

    def _follow(self, nodes: Iterable[KerasNode], kinds: Iterable[str], end: KerasNode) -> None:
        """Raises ModelFileError where the layers before `end` are not of these kinds in this order."""
        for node, kind in zip_longest(nodes, kinds):
            if node is None:
                self._fail(end, f"stands where a {kind} belongs")
            if node.op != kind:
                expected = f"a {kind}" if kind else "the sum"
                self._fail(node, f"stands where {expected} belongs")

    def _named(self, branch: list[KerasNode], convs: list[KerasNode]) -> dict[str, KerasNode]:
        """The layers of a branch that have weights, by the names of our modules."""
        layers = {f"conv{number}": node for number, node in enumerate(convs, 1)}
        norms = [node for node in branch if node.op == "norm"]
        if self._version == 2:
            layers["preact"] = norms.pop(0)
        for number, node in enumerate(norms, 1):
            layers[f"norm{number}"] = node
        return layers

    def _row(self, convs: list[KerasConv], channels: int) -> tuple[UnitKind, Row]:
        """Kind and row of a branch that takes `channels` channels."""
        first, last = convs[0], convs[-1]
        kind, kernels = _KERNELS[len(convs)]
        self._check_sizes(kind, kernels, convs, channels)
        stride = self._stride(kind, convs)
        for conv in convs:
            field = "conv_bias"
            if self._version == 2 and conv is last:
                field = "open_bias"
            self._layers.settle(field, conv.bias, conv.node)
            self._layers.settle("padding", conv.padding, conv.node)
        return kind, (last.depth, first.depth, stride)

    def _check_sizes(self, kind: UnitKind, kernels: tuple[int, ...], convs: list[KerasConv], channels: int) -> None:
        """Raises ModelFileError where the kernels or the channels of a branch are not those of its kind."""
        given = channels
        for conv, kernel in zip(convs, kernels, strict=True):
            if conv.kernel != kernel:
                self._fail(conv.node, f"has a kernel of {conv.kernel} where {kind} units have {kernel}")
            if conv.channels != given:
                wanted = counted(conv.channels, "channel")
                self._fail(conv.node, f"takes {wanted} and gets {given}")
            given = conv.depth
        width = convs[0].depth
        middle = convs[1]
        if kind == "bottleneck" and middle.depth != width:
            self._fail(middle.node, f"has {middle.depth} channels in a bottleneck of {width}")

    def _stride(self, kind: UnitKind, convs: list[KerasConv]) -> int:
        """The stride of a branch in pixels. One convolution has it, which is not the last."""
        strided = [conv for conv in convs if conv.stride > 1]
        if not strided:
            return 1
        latest = strided[-1]
        if len(strided) > 1 or latest is convs[-1]:
            self._fail(latest.node, "has a stride, which belongs in an earlier convolution of its unit alone")
        if kind == "bottleneck":
            stride_in = "first" if latest is convs[0] else "middle"
            self._layers.settle("stride_in", stride_in, latest.node)
        return latest.stride

    def _shortcut(
        self, chain: list[KerasNode], channels: int, row: Row, end: KerasNode, layers: dict[str, KerasNode]
    ) -> Shortcut:
        """The kind of a shortcut. The layers of a projection are added to `layers`, those of the unit."""
        depth, _, stride = row
        if chain and chain[0].op == "conv":
            return self._projection(chain, channels, row, layers)
        hidden = [node for node in chain if node.op == "lambda"]
        if hidden:
            if (stride, depth) == (1, channels):
                self._fail(hidden[0], "changes a shortcut between equal shapes")
            warning = _assumption(hidden, row, channels)
            self.doubts.append(Doubt("network", warning))
        kept = (self._kept_stride(chain), channels)
        if not hidden and kept != (stride, depth):
            self._fail(end, f"adds shortcut and branch of unequal shapes ({channels} and {depth} channels)")
        if channels == depth:
            return "identity"
        return "lambda"

    def _kept_stride(self, chain: list[KerasNode]) -> int:
        """The stride of a shortcut without weights, as far as its layers are read."""
        stride = 1
        for node in chain:
            if node.op not in _KEEPING:
                self._fail(node, "stands in a shortcut")
            if node.op != "lambda":
                stride *= self._layers.subsampling(node)
        return stride

    def _projection(
        self, chain: list[KerasNode], channels: int, row: Row, layers: dict[str, KerasNode]
    ) -> Literal["projection"]:
        """Read a shortcut that convolves, and add its layers to those of the unit."""
        depth, _, stride = row
        conv = self._layers.conv(chain[0])
        sizes = (conv.kernel, conv.channels, conv.depth, conv.stride)
        if sizes != (1, channels, depth, stride):
            self._fail(conv.node, f"is no 1x1 projection of {channels} to {depth} channels with a stride of {stride}")
        if channels == depth:
            self._fail(conv.node, f"projects {channels} channels to as many, where units have an identity")
        bare = len(chain) == 1
        expected = ["conv"]
        if self._version == 1 and not bare:
            expected.append("norm")
        self._follow(chain, expected, conv.node)
        bias_field = "open_bias"
        if self._version == 1:
            bias_field = "conv_bias"
            projection = "bare" if bare else "normalized"
            self._layers.settle("projection", projection, conv.node)
        self._layers.settle(bias_field, conv.bias, conv.node)
        if bare:
            layers["shortcut"] = conv.node
        else:
            layers["shortcut.conv"] = conv.node
            layers["shortcut.norm"] = chain[1]
        return "projection"


def _convolutions(side: list[KerasNode]) -> int:
    """How many convolutions one side of a unit has."""
    operations = [node.op for node in side]
    return operations.count("conv")


def _assumption(hidden: list[KerasNode], row: Row, channels: int) -> str:
    """The warning for a shortcut through layers that are not read: what it is taken to do."""
    depth, _, stride = row
    names = ", ".join(f"'{node.name[:80]}'" for node in hidden)
    text = f"the shortcut through {names} is taken to keep every {stride}. pixel"
    if depth != channels:
        text += f" and to add {depth - channels} channels of zeros"
    return f"{text}: its code is not read"


def stages_of(units: list[Unit]) -> list[list[Unit]]:
    """The units of each stage.

    A stage starts where depth, width or kind changes. It also starts at a stride after which they stay the same: a
    stride just before a change belongs to the last unit of its stage, as in TF-Slim and in Keras's ResNet v2.
    """
    stages: list[list[Unit]] = []
    shapes = [(unit.kind, unit.row[0], unit.row[1]) for unit in units]
    for number, unit in enumerate(units):
        shape = shapes[number]
        changed = number == 0 or shape != shapes[number - 1]
        last = number == len(units) - 1
        stays = last or shapes[number + 1] == shape
        strided = unit.row[2] > 1
        if changed or (strided and stays):
            stages.append([])
        stages[-1].append(unit)
    return stages
