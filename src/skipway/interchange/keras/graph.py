"""A Keras network as a graph of the layers that compute: what only passes on is left out, padding joins its layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, NoReturn

from skipway.errors import ModelFileError
from skipway.interchange.source import Layer, Source
from skipway.reporting import counted

_KINDS = {
    "Conv2D": "conv",
    "Convolution2D": "conv",
    "BatchNormalization": "norm",
    "BatchNormalizationV1": "norm",
    "BatchNormalizationV2": "norm",
    "SyncBatchNormalization": "norm",
    "MaxPooling2D": "pool",
    "AveragePooling2D": "average",
    "GlobalAveragePooling2D": "global average",
    "Add": "sum",
    "ZeroPadding2D": "padding",
    "Flatten": "flatten",
    "Dense": "dense",
    "Softmax": "softmax",
    "Rescaling": "rescaling",
    # What these do is not read: a Lambda hides it in bytecode, the others are single operations of such a function.
    "Lambda": "lambda",
    "TFOpLambda": "lambda",
    "SlicingOpLambda": "lambda",
    "GetItem": "lambda",
    "Pad": "lambda",
}
# In inference these give what they take; all but the last do something in training.
_PASSING = {
    *("Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout"),
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
    *("RandomHeight", "RandomWidth", "ActivityRegularization"),
}
_SUMS = {"__operators__.add", "math.add", "add"}

Sides = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Node:
    """A layer that computes: `kind` in our words, or Keras's own where we have none; `padding` is that of a
    ZeroPadding2D before it, (top, bottom), (left, right)."""

    layer: Layer
    kind: str
    inputs: tuple[str, ...]
    padding: Sides | None = None

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def describe(self) -> str:
        """Kind and name, for messages."""
        return f"{self.layer.kind} layer '{self.layer.name[:80]}'"

    def field(self, *names: str, default: Any = None) -> Any:
        """The first of these fields that the file states: Keras 1 has other names than its successors."""
        return next((self.layer.fields[name] for name in names if self.layer.fields.get(name) is not None), default)

    def pair(self, *names: str) -> tuple[int, int]:
        """A field of two equal numbers, or of one; (0, 0) where it is neither."""
        value = self.field(*names, default=(1, 1))
        values = list(value) if isinstance(value, list | tuple) else [value, value]
        whole = len(values) == 2 and all(type(one) is int for one in values)
        return (values[0], values[1]) if whole else (0, 0)


class Graph:
    """The nodes of a file that describes its network, by name and in an order in which each follows its inputs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._layers = {layer.name: layer for layer in source.layers}
        self._origins: dict[str, str] = {}
        self.nodes = self._joined(self._sorted(dict(self._computing())))
        self._users: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)

    @property
    def sums(self) -> list[Node]:
        """The layers that add two values."""
        return [node for node in self.nodes.values() if node.kind == "sum"]

    def fail(self, node: Node | None, told: str) -> NoReturn:
        """Refuse the file for one of its layers, or as a whole."""
        subject = "its network" if node is None else f"its {node.told}"
        raise ModelFileError(
            f"{self.source.path}: {subject} {told}; a file's own description is followed for ResNets of basic and "
            "bottleneck units: where it is another network of the catalog, name that one"
        )

    def start(self) -> Node:
        """The input."""
        found = [node for node in self.nodes.values() if node.kind == "input"]
        if len(found) != 1:
            self.fail(None, f"has {len(found)} inputs where it should have one")
        return found[0]

    def user(self, node: Node) -> Node | None:
        """The only layer that takes a value, None where there is none or several do."""
        users = self._users.get(node.name, [])
        return users[0] if len(users) == 1 else None

    def last(self, node: Node) -> bool:
        """Whether no layer takes this value."""
        return not self._users.get(node.name)

    def _computing(self) -> Iterator[tuple[str, Node]]:
        for layer in self._layers.values():
            if not self._passes(layer):
                inputs = tuple(self._origin(name) for name in layer.inputs)
                yield layer.name, Node(layer, _kind(layer), inputs)

    def _passes(self, layer: Layer) -> bool:
        if layer.kind == "InputLayer":
            return bool(layer.inputs)
        if layer.outputs:
            return True
        if layer.kind == "RandomCrop":
            return (layer.fields.get("height"), layer.fields.get("width")) == self._picture()
        if layer.kind in _PASSING:  # but where the code calls it as in training
            return layer.fields.get("call", {}).get("training") not in (True, 1)
        return layer.kind == "Activation" and layer.fields.get("activation") == "linear"

    def _picture(self) -> tuple[Any, Any]:
        """Height and width that the input layer states, channels last."""
        for layer in self._layers.values():
            shape = layer.fields.get("batch_input_shape") or layer.fields.get("batch_shape")
            if layer.kind == "InputLayer" and isinstance(shape, list) and len(shape) == 4:
                return shape[1], shape[2]
        return None, None

    def _origin(self, name: str) -> str:
        """The layer that computes a value, behind nested models and what passes it on."""
        passed: list[str] = []
        while name not in self._origins:
            layer = self._layers.get(name)
            if layer is None:
                self.fail(None, f"takes a value from '{name[:80]}', which is none of its layers")
            if not self._passes(layer):
                self._origins[name] = name
                break
            given = layer.outputs or layer.inputs
            if len(given) != 1 or len(passed) > len(self._layers):
                self.fail(Node(layer, layer.kind, ()), "does not pass on one value")
            passed.append(name)
            name = given[0]
        self._origins.update(dict.fromkeys(passed, self._origins[name]))
        return self._origins[name]

    def _sorted(self, nodes: Mapping[str, Node]) -> dict[str, Node]:
        try:
            order = list(TopologicalSorter({name: node.inputs for name, node in nodes.items()}).static_order())
        except CycleError:
            self.fail(None, "takes its own output as input")
        for node in nodes.values():
            if "calls" in node.layer.fields:
                self.fail(node, "is applied more than once")
            if node.kind not in {"input", "sum"} and len(node.inputs) != 1:
                self.fail(node, f"takes {counted(len(node.inputs), 'value')}")
        return {name: nodes[name] for name in order}

    def _joined(self, nodes: dict[str, Node]) -> dict[str, Node]:
        """Paddings as a part of the convolutions and pools that take them."""
        joined: set[str] = set()
        for name, node in nodes.items():
            before = nodes[node.inputs[0]] if node.kind in {"conv", "pool"} else None
            if before is not None and before.kind == "padding":
                nodes[name] = replace(node, inputs=before.inputs, padding=self._sides(before))
                joined.add(before.name)
        taken = {name for node in nodes.values() for name in node.inputs}
        return {name: node for name, node in nodes.items() if name not in joined or name in taken}

    def _sides(self, node: Node) -> Sides:
        value = node.field("padding", default=[[0, 0], [0, 0]])
        rows = [value, value] if isinstance(value, int) else value
        if not isinstance(rows, list) or len(rows) != 2:
            self.fail(node, "does not say how much it pads")
        top, left = ([one, one] if isinstance(one, int) else one for one in rows)
        if not all(isinstance(one, list) and len(one) == 2 and all(type(n) is int for n in one) for one in (top, left)):
            self.fail(node, "does not say how much it pads")
        return (top[0], top[1]), (left[0], left[1])


def _kind(layer: Layer) -> str:
    """A layer's kind in our words."""
    fields = layer.fields
    match layer.kind:
        case "InputLayer":
            return "input"
        case "Activation":
            known = {"relu": "relu", "softmax": "softmax"}
            return known.get(str(fields.get("activation")), layer.kind)
        case "ReLU":
            plain = fields.get("max_value") is None and not fields.get("negative_slope") and not fields.get("threshold")
            return "relu" if plain else layer.kind
        case "Merge":
            return "sum" if fields.get("mode") == "sum" else layer.kind
        case "TFOpLambda" if fields.get("function") in _SUMS and len(layer.inputs) == 2:
            return "sum"
    return _KINDS.get(layer.kind, layer.kind)
