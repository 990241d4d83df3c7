"""The ResNet in a Keras file, found by its graph: layers may be called anything, and stand in any order.

Every residual unit ends in a sum. Followed back from there to where the unit starts, one side is the branch of
convolutions, which tells kind, depth, width and stride, and the other the shortcut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skipway.interchange.doubt import PICTURES_UNKNOWN, Doubt
from skipway.interchange.keras.graph import Graph, Node
from skipway.interchange.keras.input import follow_scaling
from skipway.interchange.keras.layers import Layers
from skipway.interchange.keras.units import Unit, Units, stages_of
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.source import Source
from skipway.models.blocks import Block, Norm, StackSpec, Stem
from skipway.models.catalog import CATALOG
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

_PROVENANCE = {"name", "preprocessing", "initialization", "weight_decay", "year", "paper", "source"}
_MEASURED = {"num_classes", "in_channels", "input_size"}
_SOFTMAX = {"linear", "softmax"}


@dataclass(frozen=True)
class Recognized:
    """A network found in a file. `places`: for each of our keys its array in the file, or None where there is none: a
    batch counter, or a scale (1) or shift (0) that the source does without."""

    spec: StackSpec
    places: dict[str, Place | None]
    doubts: tuple[Doubt, ...]


def recognize(source: Source) -> Recognized | None:
    """The ResNet that a file's layers describe, None where they describe no residual network (or nothing).

    Raises ModelFileError, naming the first layer that does not fit, for a residual network that is not one of ours.
    """
    if not source.layers:
        return None
    graph = Graph(source)
    return _Reading(graph).recognized() if graph.sums else None


class _Reading:
    """One walk through a graph, from its input to its classifier."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._layers = Layers(graph)
        self._fail = graph.fail
        self._version = 1 if any(graph.nodes[name].kind == "norm" for node in graph.sums for name in node.inputs) else 2
        self._units = Units(graph, self._layers, self._version)
        self._found: dict[str, Node] = {}  # by the name of our module
        self._doubts: list[Doubt] = []
        self._passed: set[str] = set()  # layers that prepare pictures
        self._scaled = False

    def recognized(self) -> Recognized:
        """Read it all."""
        start = self._graph.start()
        fields: dict[str, Any] = {"name": "found", "preprocessing": "unit", "input_size": self._layers.side(start)}
        node, fields["stem"], fields["in_channels"] = self._stem(start)
        channels = fields["stem"].width
        units: list[Unit] = []
        for end in self._graph.sums:
            units.append(self._units.read(end, node, channels))
            node, channels = self._after(end), units[-1].row[0]
        fields["blocks"] = self._blocks(units)
        fields |= self._shortcuts(units)
        if self._version == 2:
            node = self._tail(node)
        fields |= self._head(node, fields)
        fields |= self._layers.settled()
        fields["norm"] = self._norm()
        spec = _named(ResNetV1Spec(**fields) if self._version == 1 else ResNetV2Spec(**fields))
        if spec.name not in CATALOG and not self._scaled:
            self._doubts.append(PICTURES_UNKNOWN)
        self._check_all_found()
        return Recognized(spec, self._places(spec), (*self._units.doubts, *self._doubts))

    def _next(self, node: Node, kind: str) -> Node:
        """The only user of a value, of that kind."""
        user = self._graph.user(node)
        if user is None:
            self._fail(node, f"is not followed by one layer, a {kind}")
        if user.kind != kind:
            self._fail(user, f"stands where a {kind} belongs")
        return user

    def _stem(self, start: Node) -> tuple[Node, Stem, int]:
        """The value that the first unit takes, the stem, and the channels of a picture."""
        start, scaling = follow_scaling(self._graph, start)
        self._scaled = bool(scaling.names)
        self._passed.update(scaling.names)
        node = self._next(start, "conv")
        self._found["stem.conv"] = node
        conv = self._layers.conv(node)
        if self._version == 1:
            self._found["stem.norm"] = self._next(node, "norm")
            node = self._next(self._found["stem.norm"], "relu")
        pool = None
        user = self._graph.user(node)
        if user is not None and user.kind == "pool":
            pool = self._layers.stem_pool(user, rectified=self._version == 1)
            node = user
        stem = Stem(conv.kernel, conv.stride, conv.depth, pool, padding=conv.padding or "symmetric", bias=conv.bias)
        return node, stem, conv.channels

    def _after(self, end: Node) -> Node:
        return self._next(end, "relu") if self._version == 1 else end

    def _blocks(self, units: list[Unit]) -> tuple[Block, ...]:
        """The stages, whose layers are found under our names."""
        blocks = []
        for stage, members in enumerate(stages_of(units), 1):
            for number, unit in enumerate(members, 1):
                self._found |= {f"stage{stage}.unit{number}.{layer}": node for layer, node in unit.layers.items()}
                if self._version == 2 and unit.shortcut != "projection":
                    self._share(unit, first=number == 1)
            blocks.append(Block(f"stage{stage}", members[0].kind, tuple(unit.row for unit in members)))
        return tuple(blocks)

    def _share(self, unit: Unit, *, first: bool) -> None:
        if first:
            self._layers.settle("first_shortcut", "shared" if unit.shared else "raw", unit.end)
        elif unit.shared:
            self._fail(unit.end, "adds the pre-activation, as only the first unit of a stage does")

    def _shortcuts(self, units: list[Unit]) -> dict[str, str]:
        """The fields of shortcuts that change the depth, one kind for all of a network."""
        changing = [unit for unit in units if unit.channels != unit.row[0]]
        for unit in changing:
            self._layers.settle("shortcut", "pad" if unit.shortcut == "lambda" else "projection", unit.end)
        projecting = [unit for unit in changing if unit.shortcut == "projection"]
        if self._version == 1 or not projecting:
            return {}
        if all(unit.shared for unit in projecting):
            return {"projection": "shared"}
        odd = next((unit for unit in projecting if unit.shared and unit is not units[0]), None)
        if odd is not None:
            self._fail(odd.layers["shortcut"], "takes the pre-activation, where projections before it do not")
        return {"projection": "first_shared" if units[0].shared else "raw"}

    def _tail(self, node: Node) -> Node:
        self._found["postnorm"] = self._next(node, "norm")
        return self._next(self._found["postnorm"], "relu")

    def _head(self, node: Node, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Pooling and classifier."""
        head: dict[str, Any] = {"num_classes": 0}
        if self._graph.last(node):
            return head | {"global_pool": False}
        user = self._graph.user(node)
        if user is not None and user.kind == "average":
            body = ResNetV1Spec(**{name: fields[name] for name in ("name", "blocks", "stem", "input_size")})
            head["head"] = self._layers.average(user, body.map_size(body.input_size))
            node = self._next(user, "flatten")
        else:
            node = self._next(node, "global average")
            user = self._graph.user(node)
            node = user if user is not None and user.kind == "flatten" else node
        if self._graph.last(node):
            return head
        node = self._found["logits"] = self._next(node, "dense")
        activation = node.field("activation", default="linear")
        binary = activation == "sigmoid" and self._layers.classes(node) == 1
        if activation not in _SOFTMAX and not binary:
            self._fail(node, f"ends in {str(activation)[:40]}, and ours in a softmax")
        if not self._graph.last(node):
            node = self._next(node, "softmax")
        if not self._graph.last(node):
            self._fail(node, "is not the last layer")
        return head | {"num_classes": self._layers.classes(self._found["logits"])}

    def _norm(self) -> Norm:
        norms = [node for node in self._found.values() if node.kind == "norm"]
        for node in norms:
            self._layers.check_norm(node)
        decays = Counter(float(node.field("momentum", default=0.99)) for node in norms)
        if len(decays) > 1:
            text = f"its normalizations have {len(decays)} decays; the most frequent is taken for all"
            self._doubts.append(Doubt("network", text))
        if any(node.field("scale") is False or node.field("center") is False for node in norms):
            text = "its normalizations do without scale or shift: ours have 1 and 0 there"
            self._doubts.append(Doubt("network", text))
        decay = decays.most_common(1)[0][0]
        return Norm(self._layers.epsilon(norms), round(1 - decay, 12))

    def _check_all_found(self) -> None:
        """Raises ModelFileError for weights that no layer of ours has."""
        known = {node.name for node in self._found.values()} | self._passed
        for node in self._graph.nodes.values():
            if node.layer.arrays and node.name not in known:
                self._fail(node, "belongs to no unit")

    def _places(self, spec: StackSpec) -> dict[str, Place | None]:
        return {
            key.name: self._layers.place(self._found[key.name.rpartition(".")[0]], key, spec) for key in keys_of(spec)
        }


def _named(spec: StackSpec) -> StackSpec:
    """With the name and the picture convention of the row of the catalog that is built alike, or a name of its own."""
    for entry in CATALOG.values():
        measured = {field: getattr(spec, field) for field in _MEASURED}
        if type(entry.spec) is type(spec) and _built(entry.spec) == _built(spec):
            return entry.spec.replaced(measured)
    convolutions = 1 + sum((3 if block.unit == "bottleneck" else 2) * len(block.rows) for block in spec.blocks)
    return spec.replaced({"name": f"{spec.architecture}_{convolutions + 1}.keras_file"})


def _built(spec: Spec) -> dict[str, Any]:
    """The fields that tell how a network is built, other than for which pictures and classes."""
    return {name: value for name, value in vars(spec).items() if name not in _PROVENANCE | _MEASURED}
