"""Layers whose meaning differs between frameworks, each with the difference spelled out."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PoolPadding = Literal["valid", "same", "symmetric", "ceil"]


def conv2d_same(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, bias: bool = True, groups: int = 1
) -> nn.Conv2d:
    """Convolution padded by `kernel - 1` pixels in total whatever the stride, odd kernels only.

    At stride 1 this is every framework's SAME. At stride 2 it differs from TensorFlow's SAME, which pads less at the
    top left for even sizes (source: `conv2d_same` of TF-Slim's nets/resnet_utils.py).
    """
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} is even: the padding could not be symmetric")
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias, groups=groups)


def subsample(x: Tensor, factor: int) -> Tensor:
    """Every `factor`-th pixel of (N, C, H, W): a 1x1 max pool with that stride (source: TF-Slim's resnet_utils.py)."""
    return x if factor == 1 else x[:, :, ::factor, ::factor]


def pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """TensorFlow's SAME: just enough padding for ceil(size / stride) outputs, the odd pixel at the bottom right."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


class MaxPool2d(nn.Module):
    """Max pooling of (N, C, H, W) with a stated padding.

    `valid`: none, floor (TensorFlow VALID). `same`: TensorFlow SAME, padded with -inf. `symmetric`: kernel // 2 on
    every side, -inf (torchvision). `ceil`: none, but a last partial window counts (Caffe).
    """

    def __init__(self, kernel: int, stride: int, padding: PoolPadding) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        if self.padding == "same":
            return F.max_pool2d(pad_same(x, self.kernel, self.stride, float("-inf")), self.kernel, self.stride)
        pad = self.kernel // 2 if self.padding == "symmetric" else 0
        return F.max_pool2d(x, self.kernel, self.stride, pad, ceil_mode=self.padding == "ceil")

    def extra_repr(self) -> str:
        return f"{self.kernel}, stride={self.stride}, padding={self.padding!r}"


def pooled_size(size: int, kernel: int, stride: int, padding: PoolPadding) -> int:
    """Output side in pixels of MaxPool2d for an input side; 0 or less when no window fits."""
    if padding == "same":
        return -(-size // stride)
    if padding == "symmetric":
        return (size + 2 * (kernel // 2) - kernel) // stride + 1
    if padding == "ceil":
        windows = -(-(size - kernel) // stride) + 1
        return windows - ((windows - 1) * stride >= size)  # a window that would start outside is left out
    return (size - kernel) // stride + 1


class LocalResponseNorm(nn.Module):
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta (AlexNet, section 3.3).

    `alpha` is Caffe's and torch's, divided by the window. The paper and TensorFlow do not divide: their
    `depth_radius=r, alpha=a` is `size=2r+1, alpha=a*(2r+1)` here.

    The window sum is a 1x1 convolution with a banded matrix: on CPUs several times faster than the padded 3-D average
    pool behind `F.local_response_norm`, and its gradient comes for free.
    """

    band: Tensor

    def __init__(self, channels: int, *, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"window {size} is even: it has no centre channel")
        self.channels = channels
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.register_buffer("band", None, persistent=False)
        self.reset_constants()

    def reset_constants(self) -> None:
        """Fill what the state dict does not carry; a network built on the meta device calls this again."""
        offset = torch.arange(self.channels, device="cpu" if self.band is not None else None)
        near = (offset[:, None] - offset[None, :]).abs() <= self.size // 2
        self.band = (near * (self.alpha / self.size))[:, :, None, None].float()

    def forward(self, x: Tensor) -> Tensor:
        # The squares of half-precision activations overflow or lose the small terms: this part stays in fp32.
        kind = "cpu" if x.device.type == "meta" else x.device.type  # autocast does not know meta
        with torch.autocast(kind, enabled=False):
            wide = x.float()
            scale = F.conv2d(wide * wide, self.band.float()) + self.k
            # 0.75 is what every source uses; two square roots are far cheaper than a power.
            factor = scale.rsqrt() * scale.rsqrt().sqrt() if self.beta == 0.75 else scale.pow(-self.beta)
            return (wide * factor).to(x.dtype)

    def extra_repr(self) -> str:
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
