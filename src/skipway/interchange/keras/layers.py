"""What single Keras layers say about the units that they make: sizes, strides, padding, and where their weights are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from skipway.interchange.keras.graph import KerasGraph, KerasNode, Sides
from skipway.interchange.mapping.keys import Key
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.mapping.scheme import NORM_TENSORS
from skipway.models.blocks import Padding, StackSpec
from skipway.models.layers import PoolPadding

_DEFAULT_SIDE = 224  # pixels
_NO_PADDING: Sides = ((0, 0), (0, 0))


@dataclass(frozen=True)
class KerasConv:
    """A convolution.

    - `node`: its layer.
    - `kernel`: the side of its kernel, in pixels.
    - `channels`, `depth`: the channels that it takes and gives.
    - `stride`: its stride, in pixels.
    - `bias`: whether it has a bias.
    - `padding`: how it pads. None where kernel and stride leave no choice.
    """

    node: KerasNode
    kernel: int
    channels: int
    depth: int
    stride: int
    bias: bool
    padding: Padding | None


class Layers:
    """Reads the layers of one graph, and keeps the settings that all of them must share."""

    def __init__(self, graph: KerasGraph) -> None:
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

    def settle(self, field: str, value: Any, node: KerasNode) -> None:
        """Keep a field that all units share. The value None leaves the field open.

        Raises ModelFileError where a layer has another value than the layers before it.
        """
        if value is None:
            return
        before = self._settled.setdefault(field, value)
        if before != value:
            self._fail(node, f"differs from the layers before it: its {field} is {value!r}, theirs another")

    def settled(self) -> dict[str, Any]:
        """The fields kept so far."""
        return dict(self._settled)

    def side(self, start: KerasNode) -> int:
        """Side in pixels of the square picture that an input layer takes; 224 where it takes pictures of any size.

        Raises ModelFileError where it takes no square pictures.
        """
        shape = start.attribute("batch_input_shape", "batch_shape", default=[None] * 4)
        if not isinstance(shape, list) or len(shape) != 4:
            stated = str(shape)[:60]
            self._fail(start, f"takes values of shape {stated}, and not pictures")
        sides = shape[2:] if self._first else shape[1:3]
        height, width = sides
        if height != width:
            self._fail(start, f"takes pictures of {height} x {width} pixels, which are not square")
        if not isinstance(height, int):
            return _DEFAULT_SIDE
        return height

    def shape(self, node: KerasNode, weight: str) -> tuple[int, ...]:
        """Shape of the weight of that name of a layer. () where the layer has no such weight."""
        name = self._array(node, weight)
        array = self._graph.source.arrays.get(name)
        if array is None:
            return ()
        return array.shape

    def conv(self, node: KerasNode) -> KerasConv:
        """A convolution as units have them. Raises ModelFileError for any other."""
        height, width, channels, depth = self._kernel(node)
        strides = node.pair("strides", "subsample")
        rates = node.pair("dilation_rate")
        groups = node.attribute("groups", default=1)
        activation = node.attribute("activation", default="linear")
        stride = strides[0]
        square = (height, stride) == (width, strides[1])
        even = height % 2 == 0
        if not square or even or stride < 1:
            self._fail(node, f"has a kernel of {height} x {width} and strides of {strides}: ours are odd and square")
        if rates != (1, 1) or groups != 1:
            self._fail(node, "is dilated or grouped")
        if activation != "linear":
            self._fail(node, "has an activation of its own, where units normalize first")
        padding = self._padding(node, height, stride)
        bias = bool(self.shape(node, "bias"))
        return KerasConv(node, height, channels, depth, stride, bias, padding)

    def _kernel(self, node: KerasNode) -> tuple[int, int, int, int]:
        """The shape of a convolution's kernel as (height, width, in, out), whatever its layout in the file."""
        shape = self.shape(node, "kernel")
        if len(shape) != 4:
            self._fail(node, "has no weights in the file")
        if self._turned:
            depth, channels, height, width = shape
            return height, width, channels, depth
        height, width, channels, depth = shape
        return height, width, channels, depth

    def _padding(self, node: KerasNode, kernel: int, stride: int) -> Padding | None:
        """How a convolution pads.

        None where symmetric padding and TensorFlow's SAME are equal: without a stride, or for a kernel of one pixel.
        """
        border = _border(node)
        half = kernel // 2
        symmetric: Sides = ((half, half), (half, half))
        padding: Padding
        if border == "same" and node.padding is None:
            padding = "same"
        elif border == "valid" and (node.padding or _NO_PADDING) == symmetric:
            padding = "symmetric"
        else:
            self._fail(node, f"pads neither alike on both sides ({half} pixels) nor as 'same' does")
        if stride == 1 or kernel == 1:
            return None
        return padding

    def stem_pool(self, node: KerasNode, *, rectified: bool) -> PoolPadding:
        """How the stem's 3x3 max pool of stride 2 pads. Raises ModelFileError for any other pool.

        `rectified` says whether a ReLU comes before: zeros then never are the maximum, as if there were no padding.
        """
        size = node.pair("pool_size")
        strides = node.pair("strides")
        if (size, strides) != ((3, 3), (2, 2)):
            self._fail(node, "is not 3x3 with a stride of 2, as a stem's is")
        padded = (_border(node), node.padding)
        if padded == ("same", None):
            return "same"
        if padded == ("valid", None):
            return "valid"
        if padded != ("valid", ((1, 1), (1, 1))):
            self._fail(node, "pads as no stem does")
        if rectified:
            return "symmetric"
        return "zeros"

    def subsampling(self, node: KerasNode) -> int:
        """The stride in pixels of a pool over single pixels. Raises ModelFileError for any other pool."""
        size = node.pair("pool_size")
        strides = node.pair("strides")
        stride = strides[0]
        single = size == (1, 1) and node.padding is None
        equal = strides == (stride, stride)
        if not single or not equal or stride < 1:
            self._fail(node, "pools more than single pixels in a shortcut")
        return stride

    def average(self, node: KerasNode, side: int) -> Literal["global", "average_2_flatten"]:
        """The head that an average pool makes on the last map, whose side is `side` pixels.

        Raises ModelFileError for a pool that averages neither 2 x 2 pixels nor the whole map.
        """
        window = node.pair("pool_size")
        strides = node.pair("strides")
        # With "valid" a last odd row would be left out, with "same" it would be averaged alone.
        fits = _border(node) == "valid" or side % 2 == 0
        halves = (window, strides) == ((2, 2), (2, 2))
        if halves and fits:
            return "average_2_flatten"
        if window != (side, side):
            self._fail(node, f"averages {window[0]} x {window[1]} of {side} x {side} pixels: ours 2 x 2, or all")
        return "global"

    def classes(self, node: KerasNode) -> int:
        """Number of classes of a dense layer. Raises ModelFileError where it has no weights or no bias."""
        kernel = self.shape(node, "kernel")
        bias = self.shape(node, "bias")
        if len(kernel) != 2 or not bias:
            self._fail(node, "has no weights in the file, or no bias")
        return kernel[1]

    def check_norm(self, node: KerasNode) -> None:
        """Raises ModelFileError for a normalization of anything but channels, or for one without statistics."""
        axis = node.attribute("axis", default=-1)
        if isinstance(axis, list) and len(axis) == 1:
            axis = axis[0]
        channel_axes = (1, -3) if self._first else (3, -1)
        if axis not in channel_axes:
            self._fail(node, f"normalizes along axis {axis}, which is not that of the channels")
        if not self.shape(node, "moving_mean"):
            self._fail(node, "has no statistics in the file")

    def epsilon(self, norms: Iterable[KerasNode]) -> float:
        """The epsilon that all normalizations share. Raises ModelFileError where they differ."""
        for node in norms:
            stated = node.attribute("epsilon", default=1e-3)
            self.settle("epsilon", float(stated), node)
        epsilon = self._settled.pop("epsilon")
        return float(epsilon)

    def place(self, node: KerasNode, key: Key, spec: StackSpec) -> Place | None:
        """Where the tensor `key` of a network `spec` lies in the layer `node`. None where the layer lacks it."""
        weight = _weight_name(key)
        if weight is None or not self.shape(node, weight):
            return None
        name = self._array(node, weight)
        if weight != "kernel":
            return Place(name)
        if key.kind == "conv":
            layout: Literal["same", "hwio"] = "same" if self._turned else "hwio"
            return Place(name, layout)
        side = spec.flattened(spec.input_size)
        if not side or self._first:
            return Place(name, "io")
        # The classifier takes a flattened map with its channels last.
        last_row = spec.blocks[-1].rows[-1]
        return Place(name, "hwc_io", map_shape=(last_row[0], side, side))

    def _array(self, node: KerasNode, weight: str) -> str:
        """The full name of the weight of that name of a layer. "" where the layer has no such weight."""
        for name in node.arrays:
            leaf = name.rpartition("/")[2]
            if leaf == weight:
                return name
        return ""


def _weight_name(key: Key) -> str | None:
    """Keras's name for the tensor `key`. None for a batch counter, which Keras does not have."""
    if key.kind == "norm":
        return NORM_TENSORS.get(key.tensor)
    if key.tensor == "weight":
        return "kernel"
    return key.tensor


def _border(node: KerasNode) -> Any:
    """How a layer treats the border of its input: "valid" is without padding."""
    return node.attribute("padding", "border_mode", default="valid")
