"""What single Keras layers say about the units that they make: sizes, strides, padding, and where their weights are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from skipway.interchange.keras.graph import Graph, Node, Sides
from skipway.interchange.mapping.keys import Key
from skipway.interchange.mapping.layouts import Layout, Place
from skipway.interchange.mapping.scheme import NORM_TENSORS
from skipway.models.blocks import Padding, StackSpec
from skipway.models.layers import PoolPadding

_DEFAULT_SIDE = 224


@dataclass(frozen=True)
class Conv:
    """A convolution: its sizes, and its padding where its kernel and stride make that a question."""

    node: Node
    kernel: int
    channels: int
    depth: int
    stride: int
    bias: bool
    padding: Padding | None


class Layers:
    """Reads layers of one graph, and holds what all of them have to agree on."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._fail = graph.fail
        notes = graph.source.notes
        self._first = notes.get("data_format") == "channels_first"
        turned = notes.get("kernel_layout", "HWIO")
        self._turned = turned == "OIHW" or (turned == "unknown" and self._first)
        self._settled: dict[str, Any] = {}
        if notes.get("backend") == "theano":
            self._fail(
                None, "was written with Theano, whose kernels are turned; save it with TensorFlow as the backend"
            )

    def settle(self, field: str, value: Any, node: Node) -> None:
        """Keep a field of all units. Raises ModelFileError where a layer differs from those before it; None is open."""
        if value is not None and self._settled.setdefault(field, value) != value:
            self._fail(node, f"differs from the layers before it: its {field} is {value!r}, theirs another")

    def settled(self) -> dict[str, Any]:
        """The fields kept so far."""
        return dict(self._settled)

    def side(self, start: Node) -> int:
        """Side in pixels of the square picture that an input layer takes."""
        shape = start.field("batch_input_shape", "batch_shape", default=[None] * 4)
        if not isinstance(shape, list) or len(shape) != 4:
            self._fail(start, f"takes values of shape {str(shape)[:60]}, and not pictures")
        height, width = shape[2:] if self._first else shape[1:3]
        if height != width:
            self._fail(start, f"takes pictures of {height} x {width} pixels, which are not square")
        return height if isinstance(height, int) else _DEFAULT_SIDE

    def shape(self, node: Node, weight: str) -> tuple[int, ...]:
        """Shape of one of a layer's weights, () where it has none of that name."""
        array = self._graph.source.arrays.get(self._array(node, weight))
        return () if array is None else array.shape

    def conv(self, node: Node) -> Conv:
        """A convolution of the kind that units have. Raises ModelFileError for any other."""
        shape = self.shape(node, "kernel")
        if len(shape) != 4:
            self._fail(node, "has no weights in the file")
        height, width, channels, depth = (shape[2], shape[3], shape[1], shape[0]) if self._turned else shape
        strides, rates = node.pair("strides", "subsample"), node.pair("dilation_rate")
        if height != width or height % 2 == 0 or strides[0] != strides[1] or strides[0] < 1:
            self._fail(node, f"has a kernel of {height} x {width} and strides of {strides}: ours are odd and square")
        if rates != (1, 1) or node.field("groups", default=1) != 1:
            self._fail(node, "is dilated or grouped")
        if node.field("activation", default="linear") != "linear":
            self._fail(node, "has an activation of its own, where units normalize first")
        padding = self._padding(node, height, strides[0])
        return Conv(node, height, channels, depth, strides[0], bool(self.shape(node, "bias")), padding)

    def _padding(self, node: Node, kernel: int, stride: int) -> Padding | None:
        """None where symmetric padding and TensorFlow's SAME are one: without a stride, or for single pixels."""
        border = node.field("padding", "border_mode", default="valid")
        half: Sides = ((kernel // 2, kernel // 2),) * 2
        if border == "same" and node.padding is None:
            return "same" if stride > 1 and kernel > 1 else None
        if border != "valid" or (node.padding or ((0, 0), (0, 0))) != half:
            self._fail(node, f"pads neither alike on both sides ({half[0][0]} pixels) nor as 'same' does")
        return "symmetric" if stride > 1 and kernel > 1 else None

    def stem_pool(self, node: Node, *, rectified: bool) -> PoolPadding:
        """How the stem's 3x3 max pool of stride 2 pads; behind a ReLU zeros are as good as nothing."""
        if (node.pair("pool_size"), node.pair("strides")) != ((3, 3), (2, 2)):
            self._fail(node, "is not 3x3 with a stride of 2, as a stem's is")
        border = node.field("padding", "border_mode", default="valid")
        if border == "same" and node.padding is None:
            return "same"
        if border == "valid" and node.padding == ((1, 1), (1, 1)):
            return "symmetric" if rectified else "zeros"
        if border != "valid" or node.padding is not None:
            self._fail(node, "pads as no stem does")
        return "valid"

    def subsampling(self, node: Node) -> int:
        """The stride of a pool over single pixels, which keeps every so many of them."""
        stride = node.pair("strides")
        if node.pair("pool_size") != (1, 1) or stride[0] != stride[1] or stride[0] < 1 or node.padding is not None:
            self._fail(node, "pools more than single pixels in a shortcut")
        return stride[0]

    def average(self, node: Node, side: int) -> Literal["global", "average_2_flatten"]:
        """What an average pool over the last map of that side amounts to."""
        window, strides = node.pair("pool_size"), node.pair("strides")
        whole = node.field("padding", "border_mode", default="valid") == "valid" or side % 2 == 0
        if window == strides == (2, 2) and whole:
            return "average_2_flatten"
        if window != (side, side):
            self._fail(node, f"averages {window[0]} x {window[1]} of {side} x {side} pixels: ours 2 x 2, or all")
        return "global"

    def classes(self, node: Node) -> int:
        """Number of classes that a dense layer tells apart."""
        shape = self.shape(node, "kernel")
        if len(shape) != 2 or not self.shape(node, "bias"):
            self._fail(node, "has no weights in the file, or no bias")
        return shape[1]

    def check_norm(self, node: Node) -> None:
        """Raises ModelFileError for a normalization of anything but channels."""
        axis = node.field("axis", default=-1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in ((1, -3) if self._first else (3, -1)):
            self._fail(node, f"normalizes along axis {axis}, which is not that of the channels")
        if not self.shape(node, "moving_mean"):
            self._fail(node, "has no statistics in the file")

    def epsilon(self, norms: Iterable[Node]) -> float:
        """The one epsilon of all normalizations."""
        for node in norms:
            self.settle("epsilon", float(node.field("epsilon", default=1e-3)), node)
        return float(self._settled.pop("epsilon"))

    def place(self, node: Node, key: Key, spec: StackSpec) -> Place | None:
        """Where one of our tensors lies in its layer."""
        weight = (
            NORM_TENSORS.get(key.tensor) if key.kind == "norm" else {"weight": "kernel"}.get(key.tensor, key.tensor)
        )
        if weight is None or not self.shape(node, weight):
            return None
        if weight != "kernel":
            return Place(self._array(node, weight))
        if key.kind == "conv":
            return Place(self._array(node, weight), "same" if self._turned else "hwio")
        side = spec.flattened(spec.input_size)
        layout: Layout = "hwc_io" if side and not self._first else "io"
        shape = (spec.blocks[-1].rows[-1][0], side, side) if layout == "hwc_io" else (0, 0, 0)
        return Place(self._array(node, weight), layout, map_shape=shape)

    def _array(self, node: Node, weight: str) -> str:
        """The name of one of a layer's arrays, '' where it has none such."""
        return next((name for name in node.layer.arrays if name.rpartition("/")[2] == weight), "")
