"""A Keras network as a graph of the layers that compute.

Layers that only pass a value on are left out. A padding layer becomes a part of the layer that takes its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from skipway.errors import ModelFileError
from skipway.interchange.graph import Graph, GraphError, Node
from skipway.interchange.source import Layer, WeightFile
from skipway.reporting import counted

# Keras's classes and our names of their operations.
_OPERATIONS = {
    "InputLayer": "input",
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
    # These layers are not read: a Lambda hides its function in bytecode, the others are single operations of one.
    "Lambda": "lambda",
    "TFOpLambda": "lambda",
    "SlicingOpLambda": "lambda",
    "GetItem": "lambda",
    "Pad": "lambda",
}
_ACTIVATIONS = {"relu": "relu", "softmax": "softmax"}
# In inference these layers give the value that they take. All but the last one change it in training.
_PASSING = {
    *("Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout"),
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
    *("RandomHeight", "RandomWidth", "ActivityRegularization"),
}
_SUMS = {"__operators__.add", "math.add", "add"}

Sides = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class KerasNode(Node):
    """A Keras layer that computes. `op` is our name of the operation, or the class name where we have none.

    - `class_name`: the Keras class of the layer.
    - `padding`: pixels of zeros that a ZeroPadding2D puts around the input, as (top, bottom), (left, right). None
      where no such layer comes before.
    """

    class_name: str = ""
    padding: Sides | None = None

    def attribute(self, *names: str, default: Any = None) -> Any:
        """The first of these attributes that the file states, or `default`.

        Keras 1 has other names than later versions, so a caller gives all names of one attribute.
        """
        for name in names:
            value = self.attributes.get(name)
            if value is not None:
                return value
        return default

    def pair(self, *names: str) -> tuple[int, int]:
        """An attribute of two whole numbers, where one number stands for two equal ones.

        The answer is (1, 1) where the file does not state the attribute, and (0, 0) where it states something else.
        """
        value = self.attribute(*names, default=(1, 1))
        values = [value, value]
        if isinstance(value, list | tuple):
            values = list(value)
        kinds = [type(number) for number in values]
        if kinds != [int, int]:
            return (0, 0)
        first, second = values
        return first, second


class KerasGraph(Graph[KerasNode]):
    """The computing layers of a file that describes its network, each one behind its inputs."""

    def __init__(self, source: WeightFile) -> None:
        """Build the graph of `source`. Raises ModelFileError, which names the layer that does not fit."""
        self.source = source
        computing = _ComputingLayers(source).nodes()
        ordered = _ordered(source, computing)
        super().__init__(_with_paddings(source, ordered))

    @property
    def sums(self) -> list[KerasNode]:
        """The layers that add values."""
        return [node for node in self.nodes.values() if node.op == "sum"]

    def fail(self, node: KerasNode | None, reason: str) -> NoReturn:
        """Raise ModelFileError for one layer, or for the whole network where `node` is None."""
        _refuse(self.source, node, reason)

    def start(self) -> KerasNode:
        """The only input. Raises ModelFileError where there is none, or more than one."""
        inputs = [node for node in self.nodes.values() if node.op == "input"]
        count = len(inputs)
        if count != 1:
            self.fail(None, f"has {count} inputs where it should have one")
        return inputs[0]

    def user(self, node: KerasNode) -> KerasNode | None:
        """The only layer that takes the value of `node`. None where no layer or several layers take it."""
        users = self.consumers(node)
        if len(users) != 1:
            return None
        return users[0]

    def is_last(self, node: KerasNode) -> bool:
        """Whether no layer takes the value of `node`."""
        return not self.consumers(node)


def _refuse(source: WeightFile, node: KerasNode | None, reason: str) -> NoReturn:
    """Raise ModelFileError for a layer of `source`, or for its whole network."""
    subject = "its network"
    if node is not None:
        subject = f"its {node.class_name} layer '{node.name[:80]}'"
    raise ModelFileError(
        f"{source.path}: {subject} {reason}; a file's own description is followed for ResNets of basic and "
        "bottleneck units: where it is another network of the catalog, name that one"
    )


class _ComputingLayers:
    """The layers of a file without those that only pass a value on."""

    def __init__(self, source: WeightFile) -> None:
        self._source = source
        self._layers = {layer.name: layer for layer in source.layers}
        self._picture = _picture_sides(source)
        self._origins: dict[str, str] = {}  # the layer that computes a value, by the layer that gives it

    def nodes(self) -> list[KerasNode]:
        """A node for each layer that computes, in the order of the file."""
        nodes = []
        for layer in self._layers.values():
            if self._passes(layer):
                continue
            inputs = tuple(self._origin(name) for name in layer.inputs)
            nodes.append(_node(layer, inputs))
        return nodes

    def _passes(self, layer: Layer) -> bool:
        """Whether a layer gives exactly what it takes, in inference."""
        fields = layer.fields
        if layer.kind == "InputLayer":
            return bool(layer.inputs)  # the input of a nested model
        if layer.outputs:
            return True  # a nested model, whose own layers compute
        if layer.kind == "RandomCrop":
            sides = (fields.get("height"), fields.get("width"))
            return sides == self._picture
        if layer.kind in _PASSING:
            call = fields.get("call", {})
            in_training = call.get("training") in (True, 1)
            return not in_training
        linear = ("Activation", "linear")
        return (layer.kind, fields.get("activation")) == linear

    def _origin(self, name: str) -> str:
        """The layer that computes the value of a layer: `name`, or one before it that it passes on."""
        passed: list[str] = []
        while name not in self._origins:
            layer = self._layers.get(name)
            if layer is None:
                _refuse(self._source, None, f"takes a value from '{name[:80]}', which is none of its layers")
            if not self._passes(layer):
                self._origins[name] = name
                break
            given = layer.outputs or layer.inputs
            circular = len(passed) > len(self._layers)
            if len(given) != 1 or circular:
                _refuse(self._source, _node(layer, ()), "does not pass on one value")
            passed.append(name)
            name = given[0]
        origin = self._origins[name]
        for passing in passed:
            self._origins[passing] = origin
        return origin


def _node(layer: Layer, inputs: tuple[str, ...]) -> KerasNode:
    """The node of a layer that takes the values of the nodes `inputs`."""
    operation = _operation(layer)
    return KerasNode(layer.name, operation, inputs, layer.fields, layer.arrays, layer.kind)


def _operation(layer: Layer) -> str:
    """Our name of what a layer computes; its class name where we have none."""
    fields = layer.fields
    if layer.kind == "Activation":
        activation = str(fields.get("activation"))
        return _ACTIVATIONS.get(activation, layer.kind)
    if layer.kind == "ReLU" and _is_plain_relu(fields):
        return "relu"
    if layer.kind == "Merge" and fields.get("mode") == "sum":
        return "sum"
    if layer.kind == "TFOpLambda":
        function = str(fields.get("function"))
        if function in _SUMS and len(layer.inputs) == 2:
            return "sum"
    return _OPERATIONS.get(layer.kind, layer.kind)


def _is_plain_relu(fields: Mapping[str, Any]) -> bool:
    """Whether a ReLU layer has no upper limit, no slope and no threshold."""
    limited = fields.get("max_value") is not None
    sloped = bool(fields.get("negative_slope"))
    shifted = bool(fields.get("threshold"))
    changes = [limited, sloped, shifted]
    return not any(changes)


def _picture_sides(source: WeightFile) -> tuple[Any, Any]:
    """Height and width that the input layer states, in pixels, channels last. (None, None) where none states them."""
    for layer in source.layers:
        if layer.kind != "InputLayer":
            continue
        shape = layer.fields.get("batch_input_shape") or layer.fields.get("batch_shape")
        if isinstance(shape, list) and len(shape) == 4:
            return shape[1], shape[2]
    return None, None


def _ordered(source: WeightFile, nodes: list[KerasNode]) -> list[KerasNode]:
    """The nodes, each one behind its inputs. Raises ModelFileError for layers that no unit can have."""
    graph = Graph(nodes)
    try:
        order = graph.topological_order()
    except GraphError:
        _refuse(source, None, "takes its own output as input")
    for node in nodes:
        if "calls" in node.attributes:
            _refuse(source, node, "is applied more than once")
        takes_one = node.op not in {"input", "sum"}
        if takes_one and len(node.inputs) != 1:
            values = counted(len(node.inputs), "value")
            _refuse(source, node, f"takes {values}")
    return order


def _with_paddings(source: WeightFile, ordered: list[KerasNode]) -> list[KerasNode]:
    """The nodes, with each padding layer as a part of the convolutions and pools that take its value."""
    nodes = {node.name: node for node in ordered}
    joined: set[str] = set()
    for node in ordered:
        if node.op not in {"conv", "pool"}:
            continue
        before = nodes[node.inputs[0]]
        if before.op == "padding":
            nodes[node.name] = replace(node, inputs=before.inputs, padding=_sides(source, before))
            joined.add(before.name)
    # A padding layer that another layer takes, too, remains.
    taken: set[str] = set()
    for node in nodes.values():
        taken.update(node.inputs)
    return [node for node in nodes.values() if node.name not in joined or node.name in taken]


def _sides(source: WeightFile, node: KerasNode) -> Sides:
    """Pixels that a padding layer adds: (top, bottom), (left, right). Keras allows one number for two equal ones."""
    value = node.attribute("padding", default=[[0, 0], [0, 0]])
    rows = _two_of(value)
    if rows is None:
        _refuse(source, node, "does not say how much it pads")
    sides: list[tuple[int, int]] = []
    for row in rows:
        pair = _two_of(row) or []
        kinds = [type(pixels) for pixels in pair]
        if kinds != [int, int]:
            _refuse(source, node, "does not say how much it pads")
        first, second = pair
        sides.append((first, second))
    height, width = sides
    return height, width


def _two_of(value: Any) -> list[Any] | None:
    """A list of two values, where one whole number stands for two equal ones. None for anything else."""
    if isinstance(value, int):
        return [value, value]
    if isinstance(value, list) and len(value) == 2:
        return value
    return None
