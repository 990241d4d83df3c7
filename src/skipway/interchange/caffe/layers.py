"""A network as Caffe's layers, in the order and by the names of the released prototxts: what a `.prototxt` says.

Pooling is Caffe's own, which counts a last partial window. The classifier ends in a softmax called `prob`; its logits
are the layer before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from skipway.interchange.mapping.resnet_names import unit_name
from skipway.interchange.source import Layer
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.blocks import Row, StackSpec
from skipway.models.network import Spec

DATA = "data"  # the blob that pictures come in


def layers_of(spec: Spec, arrays: Collection[str]) -> list[Layer]:
    """The layers of an AlexNet or of a ResNet v1; `arrays` are the names of its blobs, `<layer>/<index>`."""
    graph = _Graph(arrays)
    if isinstance(spec, AlexNetSpec):
        _alexnet(graph, spec)
    else:
        assert isinstance(spec, StackSpec)
        _resnet(graph, spec)
    return graph.layers


class _Graph:
    """Layers appended to a chain; `top` is the blob that the next one takes."""

    def __init__(self, arrays: Collection[str]) -> None:
        self.arrays = arrays
        self.layers: list[Layer] = []
        self.top = DATA

    def add(self, name: str, kind: str, *inputs: str, **fields: Any) -> str:
        """A layer with a blob of its own name. Returns that name."""
        self._append(name, kind, inputs or (self.top,), name, fields)
        return name

    def change(self, name: str, kind: str, **fields: Any) -> None:
        """A layer that works in place, on the blob that it takes."""
        self._append(name, kind, (self.top,), self.top, fields)

    def _append(self, name: str, kind: str, inputs: tuple[str, ...], top: str, fields: dict[str, Any]) -> None:
        own = tuple(f"{name}/{index}" for index in range(3) if f"{name}/{index}" in self.arrays)
        self.layers.append(Layer(name, kind, inputs, (top,), own, fields))
        self.top = top

    def convolve(
        self, name: str, depth: int, kernel: int, stride: int, pad: int, *, groups: int = 1, start: str = ""
    ) -> str:
        """A convolution, with a bias where there is an array for it."""
        fields: dict[str, Any] = {"num_output": depth, "kernel_size": (kernel,), "pad": (pad,), "stride": (stride,)}
        if groups > 1:
            fields["group"] = groups
        if f"{name}/1" not in self.arrays:
            fields["bias_term"] = False
        return self.add(name, "Convolution", start or self.top, convolution_param=fields)

    def pool(self, name: str, kernel: int, stride: int) -> None:
        """The largest of each window, also of a last partial one."""
        self.add(name, "Pooling", pooling_param={"pool": "MAX", "kernel_size": kernel, "stride": stride})

    def classify(self, name: str, classes: int) -> None:
        """Logits, and their softmax."""
        if classes:
            self.add(name, "InnerProduct", inner_product_param={"num_output": classes})
            self.add("prob", "Softmax")


def _alexnet(graph: _Graph, spec: AlexNetSpec) -> None:
    for number, row in enumerate(spec.convs, 1):
        padding = 0 if row.padding == "same" else row.padding
        graph.convolve(f"conv{number}", row.depth, row.kernel, row.stride, padding, groups=row.groups)
        graph.change(f"relu{number}", "ReLU")
        _after(graph, spec, number, row)
    widths = enumerate(spec.hidden, len(spec.convs) + 1)
    for number, width in widths:
        graph.add(f"fc{number}", "InnerProduct", inner_product_param={"num_output": width})
        graph.change(f"relu{number}", "ReLU")
        graph.change(f"drop{number}", "Dropout", dropout_param={"dropout_ratio": spec.dropout})
    graph.classify(f"fc{len(spec.convs) + len(spec.hidden) + 1}", spec.num_classes)


def _after(graph: _Graph, spec: AlexNetSpec, number: int, row: Conv) -> None:
    norm = {"local_size": spec.norm.size, "alpha": spec.norm.alpha, "beta": spec.norm.beta}
    if spec.norm.k != 1:  # readers older than the field know no other
        norm["k"] = spec.norm.k
    for kind in row.after:
        if kind == "norm":
            graph.add(f"norm{number}", "LRN", lrn_param=norm)
        elif kind == "pool":
            graph.pool(f"pool{number}", spec.pool.kernel, spec.pool.stride)


def _resnet(graph: _Graph, spec: StackSpec) -> None:
    stem = spec.stem
    graph.convolve("conv1", stem.width, stem.kernel, stem.stride, stem.kernel // 2)
    _normalize(graph, "bn_conv1", "scale_conv1", spec)
    graph.change("conv1_relu", "ReLU")
    if stem.pool is not None:
        graph.pool("pool1", 3, 2)
    channels = spec.stem_channels()
    for stage, block in enumerate(spec.blocks, 1):
        for unit, row in enumerate(block.rows, 1):
            _unit(graph, spec, (stage, unit), row, channels)
            channels = row[0]
    graph.add(f"pool{len(spec.blocks) + 1}", "Pooling", pooling_param={"pool": "AVE", "global_pooling": True})
    graph.classify(f"fc{spec.num_classes}", spec.num_classes)


def _unit(graph: _Graph, spec: StackSpec, at: tuple[int, int], row: Row, channels: int) -> None:
    """The shortcut first, as the prototxts have it, then the branch and their sum."""
    stage, unit = at
    depth, width, stride = row
    shortcut = start = graph.top
    whole = unit_name(spec, stage, unit)
    if channels != depth:
        shortcut = _convolved(graph, spec, f"{whole}_branch1", (depth, 1, stride), start)
    elif stride > 1:
        graph.pool(f"pool{whole}", 1, stride)  # of one pixel: every `stride`-th is kept
        shortcut = graph.top
    bottleneck = spec.blocks[stage - 1].unit == "bottleneck"
    convs = [(width, 1, stride), (width, 3, 1), (depth, 1, 1)] if bottleneck else [(width, 3, stride), (depth, 3, 1)]
    graph.top = start
    for letter, conv in zip("abc", convs, strict=False):
        name = f"{whole}_branch2{letter}"
        _convolved(graph, spec, name, conv, graph.top)
        if conv is not convs[-1]:
            graph.change(f"res{name}_relu", "ReLU")
    graph.add(f"res{whole}", "Eltwise", shortcut, graph.top, eltwise_param={"operation": "SUM"})
    graph.change(f"res{whole}_relu", "ReLU")


def _convolved(graph: _Graph, spec: StackSpec, name: str, conv: tuple[int, int, int], start: str) -> str:
    """A normalized convolution of (depth, kernel, stride) from the blob `start`."""
    depth, kernel, stride = conv
    blob = graph.convolve(f"res{name}", depth, kernel, stride, kernel // 2, start=start)
    _normalize(graph, f"bn{name}", f"scale{name}", spec)
    return blob


def _normalize(graph: _Graph, norm: str, scale: str, spec: StackSpec) -> None:
    graph.change(norm, "BatchNorm", batch_norm_param={"use_global_stats": True, "eps": spec.norm.eps})
    graph.change(scale, "Scale", scale_param={"bias_term": True})
