"""What a Keras network does to its pictures before the first convolution: layers that scale them, channel by channel.

These are Keras's Rescaling and Normalization, and what `preprocess_input` of its applications leaves in a model of
Keras 2: single operations of TensorFlow with a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skipway.data.preprocessing import Preprocessing
from skipway.interchange.keras.graph import Graph, Node
from skipway.interchange.source import Source

_LEAST_DEVIATION = 1e-7  # keras.backend.epsilon(), below which Normalization does not divide
_KINDS = {"rescaling", "Normalization", "lambda"}
_REVERSED = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]  # x[..., ::-1]
_ADDED = {"__operators__.add": "y", "math.add": "y", "nn.bias_add": "bias"}


@dataclass(frozen=True)
class Scaling:
    """Counts times `factor` plus `offset`, of one number or one for each channel, which may be in `reversed` order;
    `names` are the layers that do so."""

    factor: np.ndarray
    offset: np.ndarray
    reversed: bool = False
    names: tuple[str, ...] = ()

    def times(self, factor: np.ndarray) -> Scaling:
        return replace(self, factor=self.factor * factor, offset=self.offset * factor)

    def plus(self, offset: np.ndarray) -> Scaling:
        return replace(self, offset=self.offset + offset)

    def turned(self) -> Scaling:
        return replace(self, factor=self.factor[::-1], offset=self.offset[::-1], reversed=not self.reversed)

    def of(self, rule: Preprocessing) -> Preprocessing:
        """`rule` with these values: its geometry is all that is kept."""
        factor, offset = (np.broadcast_to(one, rule.depth) for one in (self.factor, self.offset))
        alike = bool(np.all(factor == factor[0]))
        scale = float(factor[0]) if alike else 1.0
        return replace(
            rule,
            channels="L" if rule.depth == 1 else "BGR" if self.reversed else "RGB",
            scale=scale,
            mean=tuple(_rounded(one) for one in -offset / (1 if alike else factor)),
            std=(1.0,) * rule.depth if alike else tuple(_rounded(one) for one in 1 / factor),
            mean_image=None,
        )


def input_scaling(source: Source) -> Scaling | None:
    """What the layers of a network that `recognize` finds do to counts; None where the first one convolves."""
    graph = Graph(source)
    _, scaling = follow_scaling(graph, graph.start())
    return scaling if scaling.names else None


def follow_scaling(graph: Graph, start: Node) -> tuple[Node, Scaling]:
    """The layer whose value the first convolution takes, and what came of the counts by then. Raises ModelFileError."""
    node, scaling = start, Scaling(np.ones(1), np.zeros(1))
    while (user := graph.user(node)) is not None and user.kind in _KINDS:
        node, found = user, _step(graph, user, scaling)
        if found is None or not np.all(np.isfinite(found.factor) & np.isfinite(found.offset) & (found.factor != 0)):
            graph.fail(node, "changes pictures in a way that is not followed: save the part of the model behind it")
        scaling = replace(found, names=(*scaling.names, node.name))
    if user is None or user.kind != "conv":
        graph.fail(
            user or node,
            "stands before the first convolution, where pictures come: save the part of the model behind it",
        )
    return node, scaling


def _step(graph: Graph, node: Node, scaling: Scaling) -> Scaling | None:
    """What one layer makes of it; None where that is not told."""
    if node.kind == "rescaling":
        scale, offset = _numbers(node.field("scale")), _numbers(node.field("offset", default=0))
        return None if scale is None or offset is None else scaling.times(scale).plus(offset)
    if node.kind == "Normalization":
        return _normalized(graph, node, scaling)
    call = node.field("call", default={})
    if node.layer.kind == "SlicingOpLambda":
        return scaling.turned() if call.get("slice_spec") == _REVERSED else None
    return _operation(str(node.field("function")), call, scaling) if node.layer.kind == "TFOpLambda" else None


def _normalized(graph: Graph, node: Node, scaling: Scaling) -> Scaling | None:
    axis = node.field("axis", default=-1)
    stored = {name.rpartition("/")[2]: graph.source.arrays[name] for name in node.layer.arrays}
    given = []
    for field in ("mean", "variance"):
        values = _numbers(node.field(field))
        if values is None and field in stored:
            values = _numbers(stored[field].read().tolist())
        given.append(values)
    mean, variance = given
    if mean is None or variance is None or node.field("invert") or axis not in (-1, 3, [-1], [3]):
        return None
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    return scaling.plus(-mean).times(1 / deviation)


def _operation(function: str, call: Mapping[str, Any], scaling: Scaling) -> Scaling | None:
    value = _numbers(call.get(_ADDED.get(function, "y")))
    if value is None:
        return None
    if function in _ADDED:
        return scaling.plus(value)
    if function == "math.subtract":
        return scaling.plus(-value)
    if function in {"math.truediv", "math.divide"}:
        return scaling.times(1 / value) if np.all(value != 0) else None
    return scaling.times(value) if function == "math.multiply" else None


def _numbers(value: Any) -> np.ndarray | None:
    """One number, or one for each of three channels, as a vector; None for anything else."""
    try:
        array = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return array if array.size in {1, 3} and bool(np.all(np.isfinite(array))) else None


def _rounded(value: float) -> float:
    """A float32 as it was typed, without a negative zero: 103.939 and not 103.93900299."""
    return float(f"{value:.7g}") + 0.0
