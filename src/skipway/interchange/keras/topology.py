"""The ResNet in a Keras file, found by its graph: layers may be called anything, and stand in any order.

Every residual unit ends in a sum. Followed back from there to where the unit starts, one side is the branch of
convolutions, which gives kind, depth, width and stride, and the other side is the shortcut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skipway.interchange.doubt import PICTURES_UNKNOWN, Doubt
from skipway.interchange.keras.graph import KerasGraph, KerasNode
from skipway.interchange.keras.input import follow_scaling
from skipway.interchange.keras.layers import Layers
from skipway.interchange.keras.units import Unit, Units, stages_of
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.source import WeightFile
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
    """A network found in a file.

    - `spec`: the network.
    - `places`: for each of our keys its array in the file. None where the file has none: for a batch counter, or for a
      scale (1) or shift (0) that the source does without.
    - `doubts`: what a user should know.
    """

    spec: StackSpec
    places: dict[str, Place | None]
    doubts: tuple[Doubt, ...]


def recognize(source: WeightFile) -> Recognized | None:
    """The ResNet that a file's layers describe, None where they describe no residual network (or nothing).

    Raises ModelFileError, naming the first layer that does not fit, for a residual network that is not one of ours.
    """
    if not source.layers:
        return None
    graph = KerasGraph(source)
    if not graph.sums:
        return None
    reading = _Reading(graph)
    return reading.recognized()


class _Reading:
    """One walk through a graph, from its input to its classifier."""

    def __init__(self, graph: KerasGraph) -> None:
        self._graph = graph
        self._layers = Layers(graph)
        self._fail = graph.fail
        self._version = _version(graph)
        self._units = Units(graph, self._layers, self._version)
        self._found: dict[str, KerasNode] = {}  # by the name of our module
        self._doubts: list[Doubt] = []
        self._passed: set[str] = set()  # layers that prepare pictures
        self._scaled = False

    def recognized(self) -> Recognized:
        """The network of the graph. Raises ModelFileError, which names the first layer that does not fit."""
        fields = self._fields()
        built: StackSpec
        if self._version == 1:
            built = ResNetV1Spec(**fields)
        else:
            built = ResNetV2Spec(**fields)
        spec = _named(built)
        if spec.name not in CATALOG and not self._scaled:
            self._doubts.append(PICTURES_UNKNOWN)
        self._check_all_found()
        places = self._places(spec)
        doubts = (*self._units.doubts, *self._doubts)
        return Recognized(spec, places, doubts)

    def _fields(self) -> dict[str, Any]:
        """The fields of the network's spec."""
        start = self._graph.start()
        side = self._layers.side(start)
        fields: dict[str, Any] = {"name": "found", "preprocessing": "unit", "input_size": side}
        node, stem, fields["in_channels"] = self._stem(start)
        fields["stem"] = stem
        node, units = self._all_units(node, stem.width)
        fields["blocks"] = self._blocks(units)
        fields |= self._shortcuts(units)
        if self._version == 2:
            node = self._tail(node)
        fields |= self._head(node, fields)
        fields |= self._layers.settled()
        fields["norm"] = self._norm()
        return fields

    def _next(self, node: KerasNode, operation: str) -> KerasNode:
        """The only user of a value. Raises ModelFileError where it is not of that operation."""
        user = self._graph.user(node)
        if user is None:
            self._fail(node, f"is not followed by one layer, a {operation}")
        if user.op != operation:
            self._fail(user, f"stands where a {operation} belongs")
        return user

    def _stem(self, start: KerasNode) -> tuple[KerasNode, Stem, int]:
        """The layer whose value the first unit takes, the stem, and the number of channels of a picture."""
        start, scaling = follow_scaling(self._graph, start)
        self._scaled = bool(scaling.names)
        self._passed.update(scaling.names)
        node = self._next(start, "conv")
        self._found["stem.conv"] = node
        conv = self._layers.conv(node)
        rectified = self._version == 1
        if rectified:
            norm = self._next(node, "norm")
            self._found["stem.norm"] = norm
            node = self._next(norm, "relu")
        pool = None
        user = self._graph.user(node)
        if user is not None and user.op == "pool":
            pool = self._layers.stem_pool(user, rectified=rectified)
            node = user
        padding = conv.padding or "symmetric"
        stem = Stem(conv.kernel, conv.stride, conv.depth, pool, padding=padding, bias=conv.bias)
        return node, stem, conv.channels

    def _all_units(self, start: KerasNode, channels: int) -> tuple[KerasNode, list[Unit]]:
        """The layer whose value the head takes, and the units between `start` and it."""
        node = start
        units: list[Unit] = []
        for end in self._graph.sums:
            unit = self._units.read(end, node, channels)
            units.append(unit)
            channels = unit.row[0]
            node = end
            if self._version == 1:
                node = self._next(end, "relu")
        return node, units

    def _blocks(self, units: list[Unit]) -> tuple[Block, ...]:
        """The stages. The layers of their units are kept by the names of our modules."""
        blocks = []
        for stage, members in enumerate(stages_of(units), 1):
            name = f"stage{stage}"
            for number, unit in enumerate(members, 1):
                for layer, node in unit.layers.items():
                    self._found[f"{name}.unit{number}.{layer}"] = node
                if self._version == 2 and unit.shortcut != "projection":
                    self._settle_shared(unit, first=number == 1)
            rows = tuple(unit.row for unit in members)
            blocks.append(Block(name, members[0].kind, rows))
        return tuple(blocks)

    def _settle_shared(self, unit: Unit, *, first: bool) -> None:
        """Keep where a shortcut of version 2 starts. `first` says whether the unit is the first of its stage."""
        if first:
            start = "shared" if unit.shared else "raw"
            self._layers.settle("first_shortcut", start, unit.end)
        elif unit.shared:
            self._fail(unit.end, "adds the pre-activation, as only the first unit of a stage does")

    def _shortcuts(self, units: list[Unit]) -> dict[str, str]:
        """The fields of shortcuts that change the depth. A network has one kind of them."""
        projecting: list[Unit] = []
        for unit in units:
            if unit.channels == unit.row[0]:
                continue
            shortcut = "pad"
            if unit.shortcut == "projection":
                shortcut = "projection"
                projecting.append(unit)
            self._layers.settle("shortcut", shortcut, unit.end)
        if self._version == 1 or not projecting:
            return {}
        projection = self._projection(projecting, units[0])
        return {"projection": projection}

    def _projection(self, projecting: list[Unit], first: Unit) -> str:
        """Where the projections of version 2 start. `first` is the first unit of the network."""
        sharing = [unit for unit in projecting if unit.shared]
        if len(sharing) == len(projecting):
            return "shared"
        for unit in sharing:
            if unit is not first:
                self._fail(unit.layers["shortcut"], "takes the pre-activation, where projections before it do not")
        if first.shared:
            return "first_shared"
        return "raw"

    def _tail(self, node: KerasNode) -> KerasNode:
        """The last ReLU of a network of version 2, behind its last normalization."""
        norm = self._next(node, "norm")
        self._found["postnorm"] = norm
        return self._next(norm, "relu")

    def _head(self, node: KerasNode, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of pooling and classifier. `fields` are those of the layers before."""
        if self._graph.is_last(node):
            return {"num_classes": 0, "global_pool": False}
        head: dict[str, Any] = {"num_classes": 0}
        user = self._graph.user(node)
        if user is not None and user.op == "average":
            head["head"] = self._average_head(user, fields)
            node = self._next(user, "flatten")
        else:
            node = self._next(node, "global average")
            user = self._graph.user(node)
            if user is not None and user.op == "flatten":
                node = user
        if self._graph.is_last(node):
            return head
        dense = self._next(node, "dense")
        self._found["logits"] = dense
        self._check_end(dense)
        head["num_classes"] = self._layers.classes(dense)
        return head

    def _average_head(self, pool: KerasNode, fields: Mapping[str, Any]) -> str:
        """The head that an average pool makes on the last map of the network with these fields."""
        body = ResNetV1Spec(
            name=fields["name"], blocks=fields["blocks"], stem=fields["stem"], input_size=fields["input_size"]
        )
        side = body.map_size(body.input_size)
        return self._layers.average(pool, side)

    def _check_end(self, dense: KerasNode) -> None:
        """Raises ModelFileError where the classifier does not end the network, or ends it in something else."""
        activation = dense.attribute("activation", default="linear")
        binary = activation == "sigmoid" and self._layers.classes(dense) == 1
        if activation not in _SOFTMAX and not binary:
            stated = str(activation)[:40]
            self._fail(dense, f"ends in {stated}, and ours in a softmax")
        node = dense
        if not self._graph.is_last(node):
            node = self._next(node, "softmax")
        if not self._graph.is_last(node):
            self._fail(node, "is not the last layer")

    def _norm(self) -> Norm:
        """The setting of all normalizations. Where their decays differ, the most frequent one is taken."""
        norms = [node for node in self._found.values() if node.op == "norm"]
        decays: Counter[float] = Counter()
        incomplete = False
        for node in norms:
            self._layers.check_norm(node)
            momentum = node.attribute("momentum", default=0.99)
            decays[float(momentum)] += 1
            if node.attribute("scale") is False or node.attribute("center") is False:
                incomplete = True
        if len(decays) > 1:
            text = f"its normalizations have {len(decays)} decays; the most frequent is taken for all"
            self._doubts.append(Doubt("network", text))
        if incomplete:
            text = "its normalizations do without scale or shift: ours have 1 and 0 there"
            self._doubts.append(Doubt("network", text))
        decay, _ = decays.most_common(1)[0]
        epsilon = self._layers.epsilon(norms)
        return Norm(epsilon, round(1 - decay, 12))

    def _check_all_found(self) -> None:
        """Raises ModelFileError for weights that no layer of ours has."""
        known = {node.name for node in self._found.values()}
        known |= self._passed
        for node in self._graph.nodes.values():
            if node.arrays and node.name not in known:
                self._fail(node, "belongs to no unit")

    def _places(self, spec: StackSpec) -> dict[str, Place | None]:
        """Where each of our tensors lies in the file."""
        places: dict[str, Place | None] = {}
        for key in keys_of(spec):
            module = key.name.rpartition(".")[0]
            node = self._found[module]
            places[key.name] = self._layers.place(node, key, spec)
        return places


def _version(graph: KerasGraph) -> int:
    """The version of the ResNet. Version 1 normalizes the values that a sum adds, version 2 does not."""
    for end in graph.sums:
        operations = [node.op for node in graph.producers(end)]
        if "norm" in operations:
            return 1
    return 2


def _named(spec: StackSpec) -> StackSpec:
    """The row of the catalog that is built as `spec`, with its name and its way to prepare pictures.

    Where there is no such row, `spec` gets a name of its own.
    """
    built = _built(spec)
    measured = {field: getattr(spec, field) for field in _MEASURED}
    for entry in CATALOG.values():
        if type(entry.spec) is type(spec) and _built(entry.spec) == built:
            return entry.spec.replaced(measured)
    weighted = 2  # the stem and the classifier
    for block in spec.blocks:
        convolutions = 3 if block.unit == "bottleneck" else 2
        weighted += convolutions * len(block.rows)
    name = f"{spec.architecture}_{weighted}.keras_file"
    return spec.replaced({"name": name})


def _built(spec: Spec) -> dict[str, Any]:
    """The fields that say how a network is built, without those for its pictures and classes."""
    others = _PROVENANCE | _MEASURED
    return {name: value for name, value in vars(spec).items() if name not in others}
