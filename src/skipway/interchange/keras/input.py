"""What a Keras network does to its pictures before the first convolution: layers that scale them, channel by channel.

These are Keras's Rescaling and Normalization, and what `preprocess_input` of its applications leaves in a model of
Keras 2: single operations of TensorFlow with a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from skipway.data.preprocessing import Preprocessing
from skipway.interchange.keras.graph import KerasGraph, KerasNode
from skipway.interchange.source import WeightFile

_LEAST_DEVIATION = 1e-7  # keras.backend.epsilon(), below which Normalization does not divide
_OPERATIONS = {"rescaling", "Normalization", "lambda"}
_REVERSED = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]  # x[..., ::-1]
# The operations that add a constant, and the argument that is the constant.
_ADDED = {"__operators__.add": "y", "math.add": "y", "nn.bias_add": "bias"}
_CHANNEL_AXES = (-1, 3, [-1], [3])


@dataclass(frozen=True)
class InputScaling:
    """Values of a picture: counts from 0 to 255, times `factor`, plus `offset`.

    - `factor`, `offset`: one number, or one number for each channel.
    - `reversed`: whether the channels are in reversed order.
    - `names`: the layers that scale.
    """

    factor: np.ndarray
    offset: np.ndarray
    reversed: bool = False
    names: tuple[str, ...] = ()

    def times(self, factor: np.ndarray) -> InputScaling:
        """This scaling, followed by a multiplication."""
        return replace(self, factor=self.factor * factor, offset=self.offset * factor)

    def plus(self, offset: np.ndarray) -> InputScaling:
        """This scaling, followed by an addition."""
        return replace(self, offset=self.offset + offset)

    def turned(self) -> InputScaling:
        """This scaling, followed by a reversal of the channels."""
        return replace(self, factor=self.factor[::-1], offset=self.offset[::-1], reversed=not self.reversed)

    def is_usable(self) -> bool:
        """Whether all numbers are finite and no factor is zero."""
        finite = np.isfinite(self.factor) & np.isfinite(self.offset)
        usable = finite & (self.factor != 0)
        return bool(np.all(usable))

    def of(self, rule: Preprocessing) -> Preprocessing:
        """`rule` with the values of this scaling: only the geometry of `rule` is kept."""
        factor = np.broadcast_to(self.factor, rule.depth)
        offset = np.broadcast_to(self.offset, rule.depth)
        alike = bool(np.all(factor == factor[0]))
        if alike:
            scale = float(factor[0])
            means = -offset
            std = (1.0,) * rule.depth
        else:
            scale = 1.0
            means = -offset / factor
            std = _rounded(1 / factor)
        channels: Literal["RGB", "BGR", "L"] = "RGB"
        if rule.depth == 1:
            channels = "L"
        elif self.reversed:
            channels = "BGR"
        mean = _rounded(means)
        return replace(rule, channels=channels, scale=scale, mean=mean, std=std, mean_image=None)


def input_scaling(source: WeightFile) -> InputScaling | None:
    """What the layers of a network that `recognize` finds do to pictures. None where the first layer is a convolution.

    Raises ModelFileError where a layer before the first convolution is not known.
    """
    graph = KerasGraph(source)
    start = graph.start()
    _, scaling = follow_scaling(graph, start)
    if not scaling.names:
        return None
    return scaling


def follow_scaling(graph: KerasGraph, start: KerasNode) -> tuple[KerasNode, InputScaling]:
    """Follow the layers between the input `start` and the first convolution.

    Gives the layer whose value the first convolution takes, and the scaling up to there. Raises ModelFileError where
    a layer between them is not known.
    """
    node = start
    scaling = InputScaling(np.ones(1), np.zeros(1))
    user = graph.user(node)
    while user is not None and user.op in _OPERATIONS:
        node = user
        found = _step(graph, node, scaling)
        if found is None or not found.is_usable():
            graph.fail(node, "changes pictures in a way that is not followed: save the part of the model behind it")
        names = (*scaling.names, node.name)
        scaling = replace(found, names=names)
        user = graph.user(node)
    if user is None or user.op != "conv":
        graph.fail(
            user or node,
            "stands before the first convolution, where pictures come: save the part of the model behind it",
        )
    return node, scaling


def _step(graph: KerasGraph, node: KerasNode, scaling: InputScaling) -> InputScaling | None:
    """The scaling after one more layer. None where it is not known what the layer does."""
    if node.op == "rescaling":
        return _rescaled(node, scaling)
    if node.op == "Normalization":
        return _normalized(graph, node, scaling)
    call = node.attribute("call", default={})
    if node.class_name == "SlicingOpLambda":
        if call.get("slice_spec") == _REVERSED:
            return scaling.turned()
        return None
    if node.class_name == "TFOpLambda":
        function = str(node.attribute("function"))
        return _operated(function, call, scaling)
    return None


def _rescaled(node: KerasNode, scaling: InputScaling) -> InputScaling | None:
    """The scaling after a Rescaling layer."""
    stated_scale = node.attribute("scale")
    stated_offset = node.attribute("offset", default=0)
    scale = _numbers(stated_scale)
    offset = _numbers(stated_offset)
    if scale is None or offset is None:
        return None
    return scaling.times(scale).plus(offset)


def _normalized(graph: KerasGraph, node: KerasNode, scaling: InputScaling) -> InputScaling | None:
    """The scaling after a Normalization layer, whose statistics are attributes or stored arrays."""
    mean = _statistic(graph, node, "mean")
    variance = _statistic(graph, node, "variance")
    if mean is None or variance is None:
        return None
    axis = node.attribute("axis", default=-1)
    if axis not in _CHANNEL_AXES:
        return None
    if node.attribute("invert"):
        return None
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    factor = 1 / deviation
    return scaling.plus(-mean).times(factor)


def _statistic(graph: KerasGraph, node: KerasNode, name: str) -> np.ndarray | None:
    """The mean or the variance of a Normalization layer, as a vector. None where the file has no usable one."""
    stated = node.attribute(name)
    values = _numbers(stated)
    if values is not None:
        return values
    stored = None
    for full in node.arrays:
        leaf = full.rpartition("/")[2]
        if leaf == name:
            stored = graph.source.arrays[full]
    if stored is None:
        return None
    numbers = stored.read().tolist()
    return _numbers(numbers)


def _operated(function: str, call: Mapping[str, Any], scaling: InputScaling) -> InputScaling | None:
    """The scaling after an operation of TensorFlow with a constant. None for any other operation."""
    argument = _ADDED.get(function, "y")
    value = _numbers(call.get(argument))
    if value is None:
        return None
    if function in _ADDED:
        return scaling.plus(value)
    if function == "math.subtract":
        return scaling.plus(-value)
    if function == "math.multiply":
        return scaling.times(value)
    divides = function in {"math.truediv", "math.divide"}
    if divides and np.all(value != 0):
        factor = 1 / value
        return scaling.times(factor)
    return None


def _numbers(value: Any) -> np.ndarray | None:
    """One number, or one number for each of three channels, as a vector. None for anything else."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    vector = array.reshape(-1)
    if vector.size not in {1, 3}:
        return None
    finite = np.isfinite(vector)
    if not np.all(finite):
        return None
    return vector


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    """Float32 numbers as they were typed, without a negative zero: 103.939 and not 103.93900299."""
    rounded = []
    for value in values:
        typed = f"{value:.7g}"
        rounded.append(float(typed) + 0.0)
    return tuple(rounded)
