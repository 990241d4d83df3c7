"""Layers whose meaning differs between frameworks, each with the difference spelled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError

PoolPadding = Literal["valid", "same", "symmetric", "zeros", "ceil"]
Activation = Literal["relu", "tanh", "sigmoid"]

# Up to so many channels response normalization sums by a matrix of channels x channels: 1 MiB at the most.
BANDED_CHANNELS = 512

ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def conv2d_same(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, rate: int = 1, bias: bool = True
) -> nn.Conv2d:
    """Convolution (N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)), odd kernels only.

    The padding is `rate * (kernel - 1)` pixels in total, half on either side, at any stride; `rate` is the dilation. At
    stride 1 this is every framework's SAME. At stride 2 it differs from TensorFlow's SAME, which pads less at the top
    left for even sizes (source: `conv2d_same` of TF-Slim's nets/resnet_utils.py). Raises SpecError for numbers below 1
    and for even kernels.
    """
    for number in (in_channels, out_channels, kernel, stride, rate):
        if type(number) is not int or number < 1:
            sizes = f"{in_channels} to {out_channels} channels, kernel {kernel}, stride {stride}, rate {rate}"
            raise SpecError(f"a convolution cannot have {sizes}; give whole numbers of 1 or more")
    if kernel % 2 == 0:
        raise SpecError(f"kernel {kernel} is even: the padding could not be symmetric; give an odd one")
    padding = rate * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation=rate, bias=bias)


class Conv2dSame(nn.Conv2d):
    """Convolution with TensorFlow's own SAME padding, which depends on the picture's size (`pad_same`)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        window = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        padded = pad_same(input, window, self.stride[0], 0.0)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def subsample(x: Tensor, factor: int) -> Tensor:
    """Every `factor`-th pixel of (N, C, H, W): a 1x1 max pool with that stride (source: TF-Slim's resnet_utils.py).

    Raises SpecError for a factor below 1.
    """
    if factor < 1:
        raise SpecError(f"cannot keep every {factor}-th pixel; give 1 or more")
    if factor == 1:
        return x
    return x[:, :, ::factor, ::factor]


def pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """TensorFlow's SAME: just enough padding for ceil(size / stride) outputs, the odd pixel at the bottom right.

    `x` is (N, C, H, W), padded with `value`; `kernel` is the window's side in pixels, its dilation included.
    """
    height, width = x.shape[2], x.shape[3]
    pads: list[int] = []
    # Left, right, top, bottom, as torch orders them.
    for size in (width, height):
        outputs = -(-size // stride)
        needed = (outputs - 1) * stride + kernel
        total = max(needed - size, 0)
        before = total // 2
        pads += [before, total - before]
    if not any(pads):
        return x
    return F.pad(x, pads, value=value)


def classified(x: Tensor, linear: nn.Linear) -> Tensor:
    """`linear` on features (N, C), or on every pixel of a map (N, C, H, W)."""
    if x.ndim == 2:
        return linear(x)
    kernel = linear.weight[:, :, None, None]
    return F.conv2d(x, kernel, linear.bias)


class MaxPool2d(nn.Module):
    """Max pooling of (N, C, H, W) with a stated padding.

    `valid`: none, floor (TensorFlow VALID). `same`: TensorFlow SAME, padded with -inf. `symmetric`: kernel // 2 on
    every side, -inf (torchvision). `zeros`: the same pixels, but zeros, which win over negative values (Keras v2).
    `ceil`: none, but a last partial window counts (Caffe). Raises SpecError for any other padding, and for sizes below
    1.
    """

    def __init__(self, kernel: int, stride: int, padding: PoolPadding) -> None:
        super().__init__()
        paddings = get_args(PoolPadding)
        if padding not in paddings or min(kernel, stride) < 1:
            raise SpecError(
                f"cannot pool {kernel} pixels at stride {stride} with padding '{padding}'; give sizes of 1 or more "
                f"and one of {', '.join(paddings)}"
            )
        self.kernel = kernel
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, `pooled_size` of H, `pooled_size` of W)."""
        if self.padding == "same":
            x = pad_same(x, self.kernel, self.stride, float("-inf"))
            return F.max_pool2d(x, self.kernel, self.stride)
        half = self.kernel // 2
        if self.padding == "zeros":
            x = F.pad(x, (half, half, half, half))
            return F.max_pool2d(x, self.kernel, self.stride)
        if self.padding == "symmetric":
            return F.max_pool2d(x, self.kernel, self.stride, half)
        counts_last = self.padding == "ceil"
        return F.max_pool2d(x, self.kernel, self.stride, ceil_mode=counts_last)

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f"{self.kernel}, stride={self.stride}, padding={self.padding!r}"


def pooled_size(size: int, kernel: int, stride: int, padding: PoolPadding) -> int:
    """Output side in pixels of MaxPool2d for an input side; 0 or less when no window fits."""
    if padding == "same":
        return -(-size // stride)
    if padding in {"symmetric", "zeros"}:
        padded = size + 2 * (kernel // 2)
        return (padded - kernel) // stride + 1
    if padding == "ceil":
        windows = -(-(size - kernel) // stride) + 1
        last_start = (windows - 1) * stride
        if last_start >= size:  # a window that would start outside is left out
            windows -= 1
        return windows
    return (size - kernel) // stride + 1


class BatchStatisticsNorm2d(nn.BatchNorm2d):
    """Batch normalization of (N, C, H, W) that uses the batch's statistics in evaluation, too.

    Evaluation neither uses nor changes the running statistics. A single value of a channel becomes the channel's bias,
    as in Keras; torch's own layer refuses it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if self.training:
            return super().forward(x)
        # Not F.batch_norm, which refuses that single value.
        return torch.batch_norm(
            x,
            self.weight,
            self.bias,
            None,
            None,
            training=True,
            momentum=0.0,
            eps=self.eps,
            cudnn_enabled=torch.backends.cudnn.enabled,
        )


def neighbour_sums(x: Tensor, size: int) -> Tensor:
    """For each channel of (N, C, H, W) the sum over the `size` channels around it; beyond the ends lie zeros.

    `size` is odd. Sums of 1, 2, 4... neighbours are made by doubling, and the window is the sum of some of those: that
    takes log2(size) additions a value. Running totals would take fewer, but their differences lose the small terms.
    """
    channels = x.shape[1]
    half = min(size // 2, channels - 1)  # a wider window holds nothing more
    width = 2 * half + 1
    # `doubled` holds at i the sum of `span` channels from i on.
    doubled = F.pad(x, (0, 0, 0, 0, half, half))
    span, start = 1, 0
    total: Tensor | None = None
    while span <= width:
        if width & span:
            part = doubled[:, start : start + channels]
            if total is None:
                total = part
            else:
                total = total + part
            start += span
        if 2 * span <= width:
            doubled = doubled[:, :-span] + doubled[:, span:]
        span *= 2
    assert total is not None, "an odd window has a bit of 1"
    return total


class LocalResponseNorm(nn.Module):
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta (AlexNet, section 3.3).

    `alpha` is Caffe's and torch's, divided by the window. The paper and TensorFlow do not divide: their
    `depth_radius=r, alpha=a` is `size=2r+1, alpha=a*(2r+1)` here.

    Up to `BANDED_CHANNELS` the window sum is a 1x1 convolution with a banded matrix: on CPUs several times faster than
    the padded 3-D average pool behind `F.local_response_norm`, and its gradient comes for free. Its memory and time
    grow with the square of the channels; above, sums of neighbours are doubled instead (`neighbour_sums`).
    """

    band: Tensor | None

    def __init__(self, channels: int, *, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise SpecError(f"a window of {size} channels has no centre; give an odd number")
        self.channels = channels
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.register_buffer("band", None, persistent=False)
        self.reset_constants()

    def reset_constants(self) -> None:
        """Fill the matrix, which the state dict leaves out. Call it again for a network built on the meta device."""
        if self.channels > BANDED_CHANNELS:
            return
        device = None
        if self._buffers["band"] is not None:
            device = "cpu"  # this is the second call, and the first may have been on the meta device
        elif torch.get_default_device().type == "meta":
            # Nothing is to be computed yet, for which torch would load its compiler: 150 MB.
            self.band = torch.empty(self.channels, self.channels, 1, 1)
            return
        channel = torch.arange(self.channels, device=device)
        distance = (channel[:, None] - channel[None, :]).abs()
        near = distance <= self.size // 2
        matrix = near * (self.alpha / self.size)
        self.band = matrix[:, :, None, None].float()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape and type."""
        device = x.device.type
        if device == "meta":
            device = "cpu"  # autocast does not know meta
        # The squares of half-precision activations overflow or lose the small terms: this part stays in fp32.
        with torch.autocast(device, enabled=False):
            wide = x
            if x.dtype != torch.float64:
                wide = x.float()
            scale = self._scale(wide)
            if self.beta == 0.75:
                # This is what every source uses; two square roots are far cheaper than a power.
                factor = scale.rsqrt() * scale.rsqrt().sqrt()
            else:
                factor = scale.pow(-self.beta)
            normalized = wide * factor
            return normalized.to(x.dtype)

    def _scale(self, x: Tensor) -> Tensor:
        """k + alpha / size * sum of squares, of the shape of `x`."""
        if self.band is None:
            sums = neighbour_sums(x * x, self.size)
            return sums * (self.alpha / self.size) + self.k
        band = self.band.to(x.dtype)
        return F.conv2d(x * x, band) + self.k

    def extra_repr(self) -> str:
        """The constants, for printing."""
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
