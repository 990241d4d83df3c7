"""Layers whose meaning differs between frameworks, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skipway.errors import SpecError
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import Stem
from skipway.models.catalog import find_spec
from skipway.models.layers import (
    LocalResponseNorm,
    MaxPool2d,
    PoolPadding,
    conv2d_same,
    neighbour_sums,
    pad_same,
    pooled_size,
    subsample,
)
from skipway.models.shortcuts import PadChannels


def sums(side: int) -> Tensor:
    """A map whose value is row plus column."""
    axis = torch.arange(side).float()
    return (axis[:, None] + axis[None, :])[None, None]


EVEN = [[14, 28, 43, 26], [28, 48, 66, 37], [43, 66, 84, 46], [26, 37, 46, 22]]
ODD = [[14, 28, 43, 58, 34], [28, 48, 66, 84, 46], [43, 66, 84, 102, 55], [58, 84, 102, 120, 64], [34, 46, 55, 64, 30]]


@pytest.mark.parametrize(
    ("side", "dense", "same", "tensorflow"),
    [
        (4, EVEN, [[14, 43], [43, 84]], [[48, 37], [37, 22]]),
        (5, ODD, [[14, 43, 34], [43, 84, 55], [34, 55, 30]], [[14, 43, 34], [43, 84, 55], [34, 55, 30]]),
    ],
)
def test_conv2d_same_at_stride_2_is_a_subsampled_stride_1(
    side: int, dense: object, same: object, tensorflow: object
) -> None:
    """TF-Slim's own numbers: on even sides its conv2d_same differs from TensorFlow's SAME by a pixel."""
    x, kernel = sums(side), sums(3)
    outputs = {}
    for stride in (1, 2):
        layer = conv2d_same(1, 1, 3, stride=stride, bias=False)
        layer.weight.data = kernel
        outputs[stride] = layer(x)
    assert outputs[1][0, 0].tolist() == dense
    assert outputs[2][0, 0].tolist() == same
    assert torch.equal(outputs[2], subsample(outputs[1], 2))
    plain = F.conv2d(pad_same(x, 3, 2, 0.0), kernel, stride=2)
    assert plain[0, 0].tolist() == tensorflow


def test_conv2d_same_has_odd_kernels_only() -> None:
    with pytest.raises(SpecError, match="kernel 4 is even"):
        conv2d_same(1, 1, 4)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [
        (224, 7, 2, 2, 3),
        (225, 7, 2, 3, 3),
        (224, 3, 2, 0, 1),
        (64, 3, 2, 0, 1),
        (299, 3, 2, 1, 1),
        (7, 2, 2, 0, 1),
        (8, 2, 2, 0, 0),
        (5, 1, 2, 0, 0),
    ],
)
def test_tensorflows_same_puts_the_odd_pixel_at_the_end(
    size: int, kernel: int, stride: int, before: int, after: int
) -> None:
    for shape in ((1, 1, size, 9), (1, 1, 9, size)):
        x = torch.ones(shape)
        padded = pad_same(x, kernel, stride, 0.0)
        axis = shape.index(size)
        line = padded.amax(5 - axis).flatten()  # the other spatial axis folded away
        assert line.tolist() == [0] * before + [1] * size + [0] * after


# Max pooling of 1, 2, ... n: each output is the last pixel that its window reaches.
RAMPS: list[tuple[PoolPadding, int, int, int, list[int]]] = [
    ("same", 4, 3, 2, [3, 4]),  # pads (0, 1)
    ("same", 5, 3, 2, [2, 4, 5]),  # pads (1, 1)
    ("same", 7, 2, 2, [2, 4, 6, 7]),
    ("same", 8, 2, 2, [2, 4, 6, 8]),
    ("same", 1, 2, 2, [1]),
    ("symmetric", 4, 3, 2, [2, 4]),
    ("symmetric", 5, 3, 2, [2, 4, 5]),
    ("valid", 4, 3, 2, [3]),
    ("valid", 5, 3, 2, [3, 5]),
    ("valid", 32, 3, 2, [3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31]),
    ("ceil", 4, 3, 2, [3, 4]),
    ("ceil", 5, 3, 2, [3, 5]),
    ("ceil", 6, 3, 2, [3, 5, 6]),
]


@pytest.mark.parametrize(("padding", "size", "kernel", "stride", "expected"), RAMPS)
def test_pooling_by_hand(padding: PoolPadding, size: int, kernel: int, stride: int, expected: list[int]) -> None:
    ramp = torch.arange(1.0, size + 1)
    pool = MaxPool2d(kernel, stride, padding)
    rows = pool(ramp[None, None, :, None].expand(1, 1, size, size))
    columns = pool(ramp[None, None, None, :].expand(1, 1, size, size))
    assert rows[0, 0, :, 0].tolist() == expected
    assert columns[0, 0, 0].tolist() == expected


@pytest.mark.parametrize("padding", ["same", "symmetric", "valid", "ceil"])
def test_padding_never_wins_over_negative_values(padding: PoolPadding) -> None:
    assert MaxPool2d(3, 2, padding)(torch.full((1, 1, 6, 6), -5.0)).max() == -5


@pytest.mark.parametrize("padding", ["same", "symmetric", "valid", "ceil"])
def test_pooled_size_is_the_size_of_what_is_pooled(padding: PoolPadding) -> None:
    for kernel in (1, 2, 3, 5):
        for stride in (1, 2, 3):
            pool = MaxPool2d(kernel, stride, padding)
            for size in range(1, 15):
                expected = pooled_size(size, kernel, stride, padding)
                if expected > 0:
                    assert pool(torch.zeros(1, 1, size, size)).shape[2:] == (expected, expected), (kernel, stride, size)
                else:
                    with pytest.raises(RuntimeError):
                        pool(torch.zeros(1, 1, size, size))


def test_pooled_sizes_of_the_sources() -> None:
    assert [pooled_size(size, 3, 2, "ceil") for size in (55, 27, 13, 113)] == [27, 13, 6, 56]
    assert [pooled_size(size, 3, 2, "valid") for size in (114, 113)] == [56, 56]
    assert pooled_size(114, 3, 2, "ceil") == 57  # Caffe's rounding and TensorFlow's part here
    assert [pooled_size(size, 2, 2, "same") for size in (28, 14, 7)] == [14, 7, 4]


@pytest.mark.parametrize(
    ("channels", "size", "alpha", "beta", "k"),
    [(96, 5, 1e-4, 0.75, 1.0), (8, 9, 0.3, 0.75, 1.0), (5, 3, 0.5, 0.6, 2.0), (3, 5, 1.0, 0.75, 2.0)],
)
def test_response_norm_is_torchs(channels: int, size: int, alpha: float, beta: float, k: float) -> None:
    x = (10 * torch.randn(2, channels, 5, 4)).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    ours = LocalResponseNorm(channels, size=size, alpha=alpha, beta=beta, k=k)(x)
    theirs = F.local_response_norm(twin, size, alpha, beta, k)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-5)


def tensorflow_lrn(x: Tensor, radius: int, bias: float, alpha: float, beta: float) -> Tensor:
    """tf.nn.local_response_normalization, as its documentation writes it: alpha is not divided by the window."""
    squares = [x[:, max(channel - radius, 0) : channel + radius + 1].square().sum(1) for channel in range(x.shape[1])]
    return x / (bias + alpha * torch.stack(squares, 1)) ** beta


@pytest.mark.parametrize(("radius", "alpha"), [(2, 2e-5), (4, 0.001 / 9), (1, 0.5)])
def test_response_norm_reads_tensorflows_alpha(radius: int, alpha: float) -> None:
    x = 30 * torch.randn(2, 12, 3, 3)
    window = 2 * radius + 1
    ours = LocalResponseNorm(12, size=window, alpha=alpha * window, beta=0.75, k=1.0)(x)
    torch.testing.assert_close(ours, tensorflow_lrn(x, radius, 1.0, alpha, 0.75), rtol=1e-5, atol=1e-6)


def test_the_response_norm_of_the_mnist_network_is_tensorflows() -> None:
    """tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75): the 4 is a radius."""
    spec = find_spec("alexnet.mnist")
    assert isinstance(spec, AlexNetSpec)
    norm = spec.norm
    x = 30 * torch.randn(2, 64, 3, 3)
    ours = LocalResponseNorm(64, size=norm.size, alpha=norm.alpha, beta=norm.beta, k=norm.k)(x)
    torch.testing.assert_close(ours, tensorflow_lrn(x, 4, 1.0, 0.001 / 9.0, 0.75), rtol=1e-5, atol=1e-6)


def test_response_norm_by_hand() -> None:
    x = torch.tensor([3.0, 1.0, 2.0, 5.0])[None, :, None, None]
    found = LocalResponseNorm(4, size=3, alpha=3.0, beta=1.0, k=2.0)(x).flatten()
    expected = [3 / (2 + 10), 1 / (2 + 14), 2 / (2 + 30), 5 / (2 + 29)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_response_norm_keeps_precision_in_half() -> None:
    """300 squared overflows fp16 and bf16 keeps 8 bits: the sum is taken in fp32, the result in the input's type."""
    x = 300 * torch.randn(1, 16, 2, 2)
    norm = LocalResponseNorm(16, size=5, alpha=1e-4, beta=0.75, k=1.0)
    for dtype, tolerance in ((torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
        half = x.to(dtype)
        assert norm(half).dtype == dtype
        torch.testing.assert_close(norm(half).float(), norm(half.float()), rtol=tolerance, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.float()))
        assert norm(x).dtype == torch.float32


def test_response_norm_carries_no_state_and_has_a_centre() -> None:
    assert not LocalResponseNorm(4, size=3, alpha=1.0, beta=0.75, k=1.0).state_dict()
    with pytest.raises(SpecError, match="window of 4 channels has no centre"):
        LocalResponseNorm(4, size=4, alpha=1.0, beta=0.75, k=1.0)


def test_response_norm_built_without_memory_can_be_filled() -> None:
    with torch.device("meta"):
        norm = LocalResponseNorm(6, size=3, alpha=0.1, beta=0.75, k=1.0)
    assert norm(torch.zeros(1, 6, 2, 2, device="meta")).shape == (1, 6, 2, 2)  # shapes can be counted there
    norm.reset_constants()
    x = torch.randn(1, 6, 2, 2)
    assert torch.equal(norm(x), LocalResponseNorm(6, size=3, alpha=0.1, beta=0.75, k=1.0)(x))


def test_padded_shortcut_puts_zeros_on_either_side() -> None:
    x = torch.arange(1.0, 9).reshape(1, 2, 2, 2)
    out = PadChannels(2, 5, 2)(x)
    assert out.flatten().tolist() == [0, 1, 5, 0, 0]
    assert PadChannels(4, 2, 1)(torch.arange(4.0)[None, :, None, None]).flatten().tolist() == [1, 2]


@pytest.mark.parametrize(("side", "before", "after"), [(224, 2, 3), (225, 3, 3)])
def test_a_stem_with_tensorflows_same_padding(side: int, before: int, after: int) -> None:
    """7x7 at stride 2: one pixel less at the top left of even pictures."""
    torch.manual_seed(1)
    conv = Stem(width=4, padding="same", bias=True).convolution(3)
    x = torch.rand(1, 3, side, side)
    padded = torch.nn.functional.pad(x, (before, after, before, after))
    expected = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride=2)
    assert torch.equal(conv(x), expected)
    assert expected.shape[2] == Stem(pool=None).size(side)


def test_response_norm_keeps_double_precision() -> None:
    x = torch.rand(1, 8, 3, 3, dtype=torch.float64) * 100
    norm = LocalResponseNorm(8, size=5, alpha=0.1, beta=0.75, k=1.0)
    norm.double()
    expected = torch.nn.functional.local_response_norm(x, 5, alpha=0.1, beta=0.75, k=1.0)
    assert (norm(x) - expected).abs().max() < 1e-7 * expected.abs().max()


@pytest.mark.parametrize("channels", [1, 2, 7, 64, 513, 600])
@pytest.mark.parametrize("size", [1, 3, 5, 9, 11, 255, 1199, 2**40 + 1])
def test_neighbour_sums_are_those_of_the_band(channels: int, size: int) -> None:
    x = torch.randn(2, channels, 3, 2).square()
    offset = torch.arange(channels)
    near = ((offset[:, None] - offset[None, :]).abs() <= size // 2).double()
    expected = torch.einsum("oc,nchw->nohw", near, x.double())
    torch.testing.assert_close(neighbour_sums(x, size).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("channels", "size"), [(64, 9), (128, 9), (256, 9), (96, 5), (256, 5), (96, 11), (192, 5)])
def test_the_channels_of_all_networks_keep_their_sums_bit_for_bit(channels: int, size: int) -> None:
    """Model files of before were answered by this one convolution."""
    x = 30 * torch.randn(2, channels, 7, 7)
    offset = torch.arange(channels)
    near = (offset[:, None] - offset[None, :]).abs() <= size // 2
    band = (near * (1e-4 / size))[:, :, None, None].float()
    scale = F.conv2d(x * x, band) + 1.0
    before = x * (scale.rsqrt() * scale.rsqrt().sqrt())
    assert torch.equal(LocalResponseNorm(channels, size=size, alpha=1e-4, beta=0.75, k=1.0)(x), before)


def test_response_norm_over_many_channels_takes_memory_in_proportion() -> None:
    norm = LocalResponseNorm(60_000, size=5, alpha=1e-2, beta=0.75, k=1.0)
    assert not list(norm.buffers())
    x = torch.randn(1, 60_000, 2, 2).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    ours, theirs = norm(x), F.local_response_norm(twin, 5, 1e-2, 0.75, 1.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    ours.sum().backward()
    theirs.sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-5)
