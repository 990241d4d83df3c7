"""A layer in numbers: its tensors in a model file, and the cost of one picture."""

from __future__ import annotations

from dataclasses import dataclass

from skipway.models.layers import BANDED_CHANNELS, PoolPadding, pooled_size

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Map:
    """The shape of a layer's result for one picture."""

    channels: int
    side: int  # pixels; the map of each channel is square

    @property
    def values(self) -> int:
        """How many numbers the result has."""
        return self.channels * self.side**2


@dataclass(frozen=True)
class LayerCost:
    """A layer of a network, and its cost for one picture."""

    name: str  # the path of the module in its network
    tensors: tuple[tuple[str, Shape], ...]  # names and shapes in the state dict
    result: Map
    scratch: int = 0  # numbers that it holds while it runs, beside its input and its result
    operations: int = 0  # multiplications and additions of a convolution or linear layer, without its bias
    comparisons: int = 0  # of a max pool
    constants: int = 0  # numbers that it computes once and that no file holds


def convolution(
    name: str, given: Map, result: Map, kernel: int, *, groups: int = 1, bias: bool = True, scratch: int = 0
) -> LayerCost:
    """A convolution.

    Arguments:
        name: the path of the module.
        given, result: its input and its result.
        kernel: pixels a side of its square window.
        groups: of channels.
        bias: whether it has one.
        scratch: numbers that it holds beside its input and its result.
    """
    channels_of_group = given.channels // groups
    weight_shape = (result.channels, channels_of_group, kernel, kernel)
    tensors: tuple[tuple[str, Shape], ...] = ((f"{name}.weight", weight_shape),)
    if bias:
        bias_shape = (result.channels,)
        tensors += ((f"{name}.bias", bias_shape),)
    operations = 2 * result.values * channels_of_group * kernel**2
    return LayerCost(name, tensors, result, scratch, operations)


def linear(name: str, features: int, width: int, pixels: int = 1) -> LayerCost:
    """A fully connected layer from `features` to `width` values, applied to each of so many pixels."""
    tensors = ((f"{name}.weight", (width, features)), (f"{name}.bias", (width,)))
    # The result keeps the arrangement of its pixels. Only the number of its values matters here.
    result = Map(width * pixels, 1)
    return LayerCost(name, tensors, result, operations=2 * features * width * pixels)


def batch_norm(name: str, given: Map) -> LayerCost:
    """Batch normalization: scale, shift, running mean, running variance, number of batches."""
    shape = (given.channels,)
    tensors: list[tuple[str, Shape]] = []
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        tensors.append((f"{name}.{tensor}", shape))
    tensors.append((f"{name}.num_batches_tracked", ()))
    return LayerCost(name, tuple(tensors), given)


def max_pool(name: str, given: Map, kernel: int, stride: int, padding: PoolPadding) -> LayerCost:
    """A max pool; see `models.layers.MaxPool2d` for the paddings."""
    side = pooled_size(given.side, kernel, stride, padding)
    result = Map(given.channels, max(side, 0))
    scratch = 0
    if padding == "same":
        scratch = same_padded(given, kernel, stride)
    if padding == "zeros":
        border = kernel // 2
        padded = Map(given.channels, given.side + 2 * border)
        scratch = padded.values
    return LayerCost(name, (), result, scratch, comparisons=result.values * kernel**2)


def response_norm(name: str, given: Map) -> LayerCost:
    """Local response normalization, which holds the squares, their sums and the factors beside the map."""
    constants = 0
    if given.channels <= BANDED_CHANNELS:
        constants = given.channels**2
    return LayerCost(name, (), given, scratch=3 * given.values, constants=constants)


def same_padded(given: Map, window: int, stride: int) -> int:
    """The numbers of the copy that TensorFlow's SAME padding makes of a map; 0 where it adds nothing."""
    windows = -(-given.side // stride)
    covered = (windows - 1) * stride + window
    added = covered - given.side
    if added <= 0:
        return 0
    padded = Map(given.channels, given.side + added)
    return padded.values
