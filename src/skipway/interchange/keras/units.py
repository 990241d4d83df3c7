"""Residual units of a Keras graph: each ends in a sum, from which its branch and its shortcut are followed back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from skipway.interchange.keras.graph import Graph, Node
from skipway.interchange.keras.layers import Conv, Layers
from skipway.models.blocks import Row
from skipway.models.blocks import Unit as UnitKind
from skipway.reporting import counted

_KERNELS: dict[int, tuple[UnitKind, tuple[int, ...]]] = {2: ("basic", (3, 3)), 3: ("bottleneck", (1, 3, 1))}
_PATTERNS = {1: ("conv", "norm", "relu"), 2: ("norm", "relu", "conv")}
Shortcut = Literal["identity", "projection", "lambda"]

_PLACED = {"conv", "norm", "relu", "pool", "average", "lambda"}


@dataclass(frozen=True)
class Unit:
    """A residual unit as read: its last layer, its row, its shortcut, and its layers under our names.

    `shortcut` is `identity`, `projection` or `lambda`; `shared` where it starts from the pre-activation.
    """

    end: Node
    kind: UnitKind
    channels: int
    row: Row
    shortcut: Shortcut
    shared: bool
    layers: Mapping[str, Node]


class Units:
    """Reads the units of one graph. `warnings` is what a user should know of them."""

    def __init__(self, graph: Graph, layers: Layers, version: int) -> None:
        self.warnings: list[str] = []
        self._graph = graph
        self._layers = layers
        self._version = version
        self._fail = graph.fail

    def read(self, end: Node, start: Node, channels: int) -> Unit:
        """The unit that ends in a sum."""
        if len(end.inputs) != 2:
            self._fail(end, f"adds {counted(len(end.inputs), 'value')}, and units add two")
        sides = [self._chain(self._graph.nodes[name], start, end) for name in end.inputs]
        shortcut, branch = sorted(sides, key=lambda side: sum(node.kind == "conv" for node in side))
        if odd := [node for node in [*branch, *shortcut] if node.kind not in _PLACED]:
            self._fail(odd[0], "has no place in a unit")
        convs = [node for node in branch if node.kind == "conv"]
        if len(convs) not in _KERNELS:
            self._fail(end, f"ends a branch of {counted(len(convs), 'convolution')}, and units have 2 or 3")
        pattern = list(_PATTERNS[self._version] * len(convs))
        self._follow(branch, pattern[:-1] if self._version == 1 else pattern, end)
        kind, row = self._row([self._layers.conv(node) for node in convs], channels)
        layers = {f"conv{number}": node for number, node in enumerate(convs, 1)}
        norms = [node for node in branch if node.kind == "norm"]
        first = 1 if self._version == 1 else 0
        layers |= {f"norm{number}" if number else "preact": node for number, node in enumerate(norms, first)}
        shared = self._version == 2 and bool(shortcut) and shortcut[:2] == branch[:2]
        told = self._shortcut(shortcut[2:] if shared else shortcut, channels, row, end, layers)
        return Unit(end, kind, channels, row, told, shared, layers)

    def _chain(self, node: Node, start: Node, end: Node) -> list[Node]:
        """The layers from a unit's start, which is not among them, to one of the two values that its sum adds."""
        chain: list[Node] = []
        while node.name != start.name:
            if len(node.inputs) != 1:
                self._fail(end if node.kind == "input" else node, "does not belong to one unit after the other")
            chain.append(node)
            node = self._graph.nodes[node.inputs[0]]
        return chain[::-1]

    def _follow(self, nodes: Iterable[Node], kinds: Iterable[str], end: Node) -> None:
        for node, kind in zip_longest(nodes, kinds):
            if node is None:
                self._fail(end, f"stands where a {kind} belongs")
            if node.kind != kind:
                self._fail(node, f"stands where {f'a {kind}' if kind else 'the sum'} belongs")

    def _row(self, convs: list[Conv], channels: int) -> tuple[UnitKind, Row]:
        """Kind and row of a branch."""
        kind, kernels = _KERNELS[len(convs)]
        given = channels
        for conv, kernel in zip(convs, kernels, strict=True):
            if conv.kernel != kernel:
                self._fail(conv.node, f"has a kernel of {conv.kernel} where {kind} units have {kernel}")
            if conv.channels != given:
                self._fail(conv.node, f"takes {conv.channels} channels and gets {given}")
            given = conv.depth
        if kind == "bottleneck" and convs[1].depth != convs[0].depth:
            self._fail(convs[1].node, f"has {convs[1].depth} channels in a bottleneck of {convs[0].depth}")
        strided = [index for index, conv in enumerate(convs) if conv.stride > 1]
        if len(strided) > 1 or (strided and strided[0] >= len(convs) - 1):
            self._fail(
                convs[strided[-1]].node, "has a stride, which belongs in an earlier convolution of its unit alone"
            )
        if strided and kind == "bottleneck":
            self._layers.settle("stride_in", ("first", "middle")[strided[0]], convs[strided[0]].node)
        for conv in convs:
            open_end = self._version == 2 and conv is convs[-1]
            self._layers.settle("open_bias" if open_end else "conv_bias", conv.bias, conv.node)
            self._layers.settle("padding", conv.padding, conv.node)
        return kind, (convs[-1].depth, convs[0].depth, convs[strided[0]].stride if strided else 1)

    def _shortcut(self, chain: list[Node], channels: int, row: Row, end: Node, layers: dict[str, Node]) -> Shortcut:
        """What a shortcut is; a projection's layers are added to the unit's."""
        depth, _, stride = row
        if chain and chain[0].kind == "conv":
            return self._projection(chain, channels, row, layers)
        if hidden := [node for node in chain if node.kind == "lambda"]:
            if (stride, depth) == (1, channels):
                self._fail(hidden[0], "changes a shortcut between equal shapes")
            self.warnings.append(_guess(hidden, row, channels))
        stepped = 1
        for node in chain:
            if node.kind not in {"lambda", "pool", "average"}:
                self._fail(node, "stands in a shortcut")
            stepped *= 1 if node.kind == "lambda" else self._layers.subsampling(node)
        if not hidden and (stepped, depth) != (stride, channels):
            self._fail(end, f"adds shortcut and branch of unequal shapes ({channels} and {depth} channels)")
        return "lambda" if channels != depth else "identity"

    def _projection(self, chain: list[Node], channels: int, row: Row, layers: dict[str, Node]) -> Shortcut:
        depth, _, stride = row
        conv = self._layers.conv(chain[0])
        if (conv.kernel, conv.channels, conv.depth, conv.stride) != (1, channels, depth, stride):
            self._fail(conv.node, f"is no 1x1 projection of {channels} to {depth} channels with a stride of {stride}")
        if channels == depth:
            self._fail(conv.node, f"projects {channels} channels to as many, where units have an identity")
        bare = len(chain) == 1
        self._follow(chain, ["conv"] if bare else ["conv", "norm"] if self._version == 1 else ["conv"], conv.node)
        if self._version == 1:
            self._layers.settle("projection", "bare" if bare else "normalized", conv.node)
        self._layers.settle("conv_bias" if self._version == 1 else "open_bias", conv.bias, conv.node)
        layers |= {"shortcut": conv.node} if bare else {"shortcut.conv": conv.node, "shortcut.norm": chain[1]}
        return "projection"


def _guess(hidden: list[Node], row: Row, channels: int) -> str:
    """What is taken for granted of a shortcut through layers that are not read."""
    depth, _, stride = row
    names = ", ".join(f"'{node.name[:80]}'" for node in hidden)
    told = f"the shortcut through {names} is taken to keep every {stride}. pixel"
    if depth != channels:
        told += f" and to add {depth - channels} channels of zeros"
    return f"{told}: its code is not read"


def stages_of(units: list[Unit]) -> list[list[Unit]]:
    """Stages of units: a new one starts where depth, width or kind changes, and at a stride after which they stay.

    A stride just before a change is TF-Slim's and Keras's v2, in the last unit of its stage.
    """
    stages: list[list[Unit]] = []
    for number, unit in enumerate(units):
        following = units[number + 1] if number + 1 < len(units) else unit
        changed = not stages or _shape(unit) != _shape(stages[-1][-1])
        if changed or (unit.row[2] > 1 and _shape(following) == _shape(unit)):
            stages.append([])
        stages[-1].append(unit)
    return stages


def _shape(unit: Unit) -> tuple[UnitKind, int, int]:
    return unit.kind, unit.row[0], unit.row[1]
