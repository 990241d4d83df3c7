"""One layer in numbers: the tensors that a file holds of it, and what it makes of one picture."""

from __future__ import annotations

from dataclasses import dataclass

from skipway.models.layers import BANDED_CHANNELS, PoolPadding, pooled_size

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Map:
    """What a layer gives for one picture: `channels` squares of `side` values a side."""

    channels: int
    side: int

    @property
    def values(self) -> int:
        """How many numbers that are."""
        return self.channels * self.side**2


@dataclass(frozen=True)
class Layer:
    """`name` is the module's place in its network, `tensors` are the names and shapes in its state dict.

    For one picture it gives the map `result`, and holds `scratch` more numbers while it runs. `operations` are the
    multiplications and additions of a convolution or linear layer (biases left out), `comparisons` those of a max pool,
    `constants` the numbers that it computes once and that no file holds.
    """

    name: str
    tensors: tuple[tuple[str, Shape], ...]
    result: Map
    scratch: int = 0
    operations: int = 0
    comparisons: int = 0
    constants: int = 0


def convolution(
    name: str, given: Map, result: Map, kernel: int, *, groups: int = 1, bias: bool = True, scratch: int = 0
) -> Layer:
    """A convolution with a square window of `kernel` pixels a side."""
    weight = (result.channels, given.channels // groups, kernel, kernel)
    tensors: tuple[tuple[str, Shape], ...] = ((f"{name}.weight", weight),)
    if bias:
        tensors += ((f"{name}.bias", (result.channels,)),)
    operations = 2 * result.values * (given.channels // groups) * kernel**2
    return Layer(name, tensors, result, scratch, operations)


def linear(name: str, features: int, width: int, pixels: int = 1) -> Layer:
    """A fully connected layer, applied to so many pixels."""
    tensors = ((f"{name}.weight", (width, features)), (f"{name}.bias", (width,)))
    # A map of features keeps its pixels; as many numbers as values are what counts here.
    return Layer(name, tensors, Map(width * pixels, 1), operations=2 * features * width * pixels)


def batch_norm(name: str, given: Map) -> Layer:
    """Batch normalization: scale, shift, running mean, running variance, number of batches."""
    channels = (given.channels,)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = (*((f"{name}.{one}", channels) for one in names), (f"{name}.num_batches_tracked", ()))
    return Layer(name, tensors, given)


def max_pool(name: str, given: Map, kernel: int, stride: int, padding: PoolPadding) -> Layer:
    """A max pool; see `models.layers.MaxPool2d` for the paddings."""
    result = Map(given.channels, max(pooled_size(given.side, kernel, stride, padding), 0))
    scratch = 0
    if padding == "same":
        scratch = same_padded(given, kernel, stride)
    if padding == "zeros":
        scratch = Map(given.channels, given.side + 2 * (kernel // 2)).values
    return Layer(name, (), result, scratch, comparisons=result.values * kernel**2)


def response_norm(name: str, given: Map) -> Layer:
    """Local response normalization: the squares, their sums and the factors beside the map."""
    constants = given.channels**2 if given.channels <= BANDED_CHANNELS else 0
    return Layer(name, (), given, scratch=3 * given.values, constants=constants)


def same_padded(given: Map, window: int, stride: int) -> int:
    """Numbers of the copy that TensorFlow's SAME padding makes of a map, 0 where it adds nothing."""
    added = max((-(-given.side // stride) - 1) * stride + window - given.side, 0)
    return Map(given.channels, given.side + added).values if added else 0
