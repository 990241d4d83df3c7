"""A network as Caffe's layers, in the order and by the names of the released prototxts: the content of a `.prototxt`.

Pooling is Caffe's own, which counts a last partial window. The last layer is a softmax called `prob`; the logits are
the layer before it.
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
    """The layers of an AlexNet or of a ResNet v1; `arrays` are the names of its blobs, `<layer>/<index>`.

    Only a layer with the blob `<layer>/1` has a bias.
    """
    graph = _Graph(arrays)
    if isinstance(spec, AlexNetSpec):
        _alexnet(graph, spec)
    else:
        assert isinstance(spec, StackSpec)
        _resnet(graph, spec)
    return graph.layers


class _Graph:
    """A chain of layers; `top` is the blob that the next layer takes, and `arrays` are the names of all blobs of
    weights.
    """

    def __init__(self, arrays: Collection[str]) -> None:
        self.arrays = arrays
        self.layers: list[Layer] = []
        self.top = DATA

    def add(self, name: str, kind: str, *inputs: str, **fields: Any) -> str:
        """Append a layer that writes a blob of its own name, from `inputs` or else from `top`. Returns that name."""
        taken = inputs or (self.top,)
        self._append(name, kind, taken, name, fields)
        return name

    def change(self, name: str, kind: str, **fields: Any) -> None:
        """Append a layer that works in place, on the blob that it takes."""
        self._append(name, kind, (self.top,), self.top, fields)

    def _append(self, name: str, kind: str, inputs: tuple[str, ...], top: str, fields: dict[str, Any]) -> None:
        possible = [f"{name}/{index}" for index in range(3)]  # no layer of these networks has more
        own = tuple(array for array in possible if array in self.arrays)
        layer = Layer(name, kind, inputs, (top,), own, fields)
        self.layers.append(layer)
        self.top = top

    def convolve(
        self, name: str, depth: int, kernel: int, stride: int, pad: int, *, groups: int = 1, start: str = ""
    ) -> str:
        """Append a convolution of the blob `start` or else of `top`, with a bias where there is an array for it.

        `depth` are its output channels; `kernel`, `stride` and `pad` are in pixels. Returns the name of its blob.
        """
        fields: dict[str, Any] = {"num_output": depth, "kernel_size": (kernel,), "pad": (pad,), "stride": (stride,)}
        if groups > 1:
            fields["group"] = groups
        if f"{name}/1" not in self.arrays:
            fields["bias_term"] = False
        return self.add(name, "Convolution", start or self.top, convolution_param=fields)

    def pool(self, name: str, kernel: int, stride: int) -> None:
        """Append a max pool, also of a last partial window. `kernel` and `stride` are in pixels."""
        settings = {"pool": "MAX", "kernel_size": kernel, "stride": stride}
        self.add(name, "Pooling", pooling_param=settings)

    def classify(self, name: str, classes: int) -> None:
        """Append the linear layer of the logits and their softmax; nothing for a network of no classes."""
        if not classes:
            return
        self.add(name, "InnerProduct", inner_product_param={"num_output": classes})
        self.add("prob", "Softmax")


def _alexnet(graph: _Graph, spec: AlexNetSpec) -> None:
    for number, row in enumerate(spec.convs, 1):
        padding = 0 if row.padding == "same" else row.padding
        graph.convolve(f"conv{number}", row.depth, row.kernel, row.stride, padding, groups=row.groups)
        graph.change(f"relu{number}", "ReLU")
        _norm_and_pool(graph, spec, number, row)
    number = len(spec.convs)
    for width in spec.hidden:
        number += 1
        graph.add(f"fc{number}", "InnerProduct", inner_product_param={"num_output": width})
        graph.change(f"relu{number}", "ReLU")
        graph.change(f"drop{number}", "Dropout", dropout_param={"dropout_ratio": spec.dropout})
    graph.classify(f"fc{number + 1}", spec.num_classes)


def _norm_and_pool(graph: _Graph, spec: AlexNetSpec, number: int, row: Conv) -> None:
    """Append the normalization and the pool after the convolution of that number, in the order of its row."""
    norm = {"local_size": spec.norm.size, "alpha": spec.norm.alpha, "beta": spec.norm.beta}
    if spec.norm.k != 1:  # readers older than the field take 1
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
    last_pool = f"pool{len(spec.blocks) + 1}"
    graph.add(last_pool, "Pooling", pooling_param={"pool": "AVE", "global_pooling": True})
    graph.classify(f"fc{spec.num_classes}", spec.num_classes)


def _unit(graph: _Graph, spec: StackSpec, at: tuple[int, int], row: Row, channels: int) -> None:
    """Append a residual unit: the shortcut first, as the prototxts have it, then the branch and their sum.

    `at` is its stage and its place in it, both from 1. `row` is its depth, the width of its first convolutions and its
    stride; `channels` are those that it takes.
    """
    stage, unit = at
    depth, width, stride = row
    name = unit_name(spec, stage, unit)
    start = graph.top
    shortcut = start
    if channels != depth:
        shortcut = _convolved(graph, spec, f"{name}_branch1", (depth, 1, stride), start)
    elif stride > 1:
        graph.pool(f"pool{name}", 1, stride)  # windows of one pixel: every `stride`-th pixel is kept
        shortcut = graph.top
    if spec.blocks[stage - 1].unit == "bottleneck":
        convs = [(width, 1, stride), (width, 3, 1), (depth, 1, 1)]
    else:
        convs = [(width, 3, stride), (depth, 3, 1)]
    graph.top = start
    for index, conv in enumerate(convs):
        branch = f"{name}_branch2{'abc'[index]}"
        _convolved(graph, spec, branch, conv, graph.top)
        if index < len(convs) - 1:  # the last one is activated after the sum
            graph.change(f"res{branch}_relu", "ReLU")
    graph.add(f"res{name}", "Eltwise", shortcut, graph.top, eltwise_param={"operation": "SUM"})
    graph.change(f"res{name}_relu", "ReLU")


def _convolved(graph: _Graph, spec: StackSpec, name: str, conv: tuple[int, int, int], start: str) -> str:
    """Append a normalized convolution of (depth, kernel, stride) from the blob `start`.

    Returns the name of its blob.
    """
    depth, kernel, stride = conv
    blob = graph.convolve(f"res{name}", depth, kernel, stride, kernel // 2, start=start)
    _normalize(graph, f"bn{name}", f"scale{name}", spec)
    return blob


def _normalize(graph: _Graph, norm: str, scale: str, spec: StackSpec) -> None:
    """Append the two layers of a batch normalization: by the running statistics, and by the learned scale and bias."""
    statistics = {"use_global_stats": True, "eps": spec.norm.eps}
    graph.change(norm, "BatchNorm", batch_norm_param=statistics)
    graph.change(scale, "Scale", scale_param={"bias_term": True})
