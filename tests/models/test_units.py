"""The units of the residual networks, and the shortcuts that have to change the shape of what they carry."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skipway.models import (
    BasicV1,
    BasicV2,
    BottleneckV1,
    BottleneckV2,
    Norm,
    UnitsV1,
    UnitsV2,
    convolutional_block,
    create_model,
    identity_block,
    subsample,
)
from skipway.models.blocks import Pad
from skipway.models.layers import Conv2dSame, MaxPool2d
from skipway.models.shortcuts import PadChannels, Projection, Subsample
from tests.contracts.tiny import filled, relative, tiny
from tests.parity.compare import fill


def same_weights(source: nn.Module, target: nn.Module) -> None:
    target.load_state_dict(source.state_dict())
    source.eval()
    target.eval()


def test_the_two_blocks_are_the_units_of_the_hand_signs_network() -> None:
    """`convolutional_block` opens a stage and `identity_block` goes on: two cases of one unit."""
    network = filled(tiny("resnet_v1_50.signs"))
    fields = {"norm": Norm(1e-3, 0.01), "conv_bias": True}
    first, second = network.get_submodule("stage2.unit1"), network.get_submodule("stage2.unit2")
    # stage1 gives 32 channels; stage2 has depth 64 and bottlenecks of 16
    blocks = convolutional_block(32, 64, 16, stride=2, **fields), identity_block(64, 16, **fields)
    x = torch.randn(2, 32, 9, 9)
    with torch.no_grad():
        for unit, block in zip((first, second), blocks, strict=True):
            same_weights(unit, block)
            expected = unit(x.clone())
            assert torch.equal(block(x.clone()), expected)
            x = expected
    assert x.shape == (2, 64, 5, 5)


def test_blocks_have_the_shapes_they_promise() -> None:
    x = torch.randn(2, 16, 7, 8)
    assert identity_block(16, 4)(x.clone()).shape == x.shape
    assert convolutional_block(16, 24, 4)(x.clone()).shape == (2, 24, 4, 4)
    assert convolutional_block(16, 24, 4, stride=3, stride_in="middle")(x.clone()).shape == (2, 24, 3, 3)
    assert isinstance(convolutional_block(16, 16, 4, stride=1).shortcut, Projection)  # even where the depth stays
    assert isinstance(identity_block(16, 4).shortcut, nn.Identity)


@pytest.mark.parametrize("stride", [1, 2])
def test_shortcuts_of_v1(stride: int) -> None:
    def kind(channels: int, shortcut: str) -> type[nn.Module]:
        return type(BottleneckV1(channels, (8, 4, stride), UnitsV1(shortcut=shortcut)).shortcut)  # type: ignore[arg-type]

    for shortcut, changing in (("projection", Projection), ("pad", PadChannels)):
        assert kind(8, shortcut) is (nn.Identity if stride == 1 else Subsample)
        assert kind(4, shortcut) is changing
        assert kind(12, shortcut) is changing


@pytest.mark.parametrize(("channels", "depth"), [(2, 5), (5, 2), (4, 8), (8, 4), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", ["both", "after", "before"])
def test_option_a_pads_or_cuts_where_its_field_says(channels: int, depth: int, stride: int, pad: Pad) -> None:
    x = torch.randn(2, channels, 7, 6)
    found = PadChannels(channels, depth, stride, pad)(x)
    kept = x[:, :, ::stride, ::stride]
    before = {"both": (depth - channels) // 2, "after": 0, "before": depth - channels}[pad]
    if depth >= channels:
        expected = torch.zeros(2, depth, *kept.shape[2:])
        expected[:, before : before + channels] = kept
    else:
        expected = kept[:, -before : depth - before]
    assert torch.equal(found, expected)
    assert not list(PadChannels(channels, depth, stride, pad).parameters())  # nothing is learned


@pytest.mark.parametrize("row", ["resnet_v1_20.cifar", "resnet_v2_20.cifar"])
@pytest.mark.parametrize("pad", ["both", "after", "before"])
def test_the_field_reaches_every_padded_shortcut(row: str, pad: Pad) -> None:
    padded = [one for one in create_model(row, pad=pad).modules() if isinstance(one, PadChannels)]
    assert [(one.before, one.after) for one in padded] == [
        {"both": (added // 2, added // 2), "after": (0, added), "before": (added, 0)}[pad] for added in (16, 32)
    ]


def test_a_network_may_grow_narrower_with_option_a() -> None:
    blocks = [{"name": "stage1", "unit": "basic", "rows": [(16, 8, 1), (12, 8, 2), (4, 4, 1)]}]
    network = create_model("resnet_v1_20.cifar", blocks=blocks)
    logits = network(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert not [key for key in network.state_dict() if "shortcut" in key]


@pytest.mark.parametrize("unit_type", [BottleneckV2, BasicV2])
def test_the_first_shortcut_may_share_the_pre_activation(unit_type: type[BottleneckV2] | type[BasicV2]) -> None:
    x = torch.randn(2, 8, 6, 6)
    outputs = {}
    for shared in (False, True):
        unit = unit_type(8, (8, 4, 2), UnitsV2(), shared=shared).eval()
        fill(unit)
        with torch.no_grad():
            last = unit.conv3 if isinstance(unit, BottleneckV2) else unit.conv2
            last.weight.zero_()
            last.bias.zero_()  # type: ignore[union-attr]
            outputs[shared] = unit(x.clone())
            active = F.relu(unit.preact(x))
    assert torch.equal(outputs[False], subsample(x, 2))
    assert torch.equal(outputs[True], subsample(active, 2))


def test_only_the_first_unit_of_a_stage_shares() -> None:
    network = create_model("resnet_v2_20.cifar")
    shared = [key for key, unit in network.named_modules() if getattr(unit, "shared", False)]
    assert shared == ["stage1.unit1", "stage2.unit1", "stage3.unit1"]
    assert not [key for key, unit in create_model("resnet_v2_18.timm").named_modules()
                if getattr(unit, "shared", False) and not isinstance(unit.shortcut, nn.Conv2d)]  # fmt: skip


def test_a_bare_projection_of_v1_has_no_norm() -> None:
    """Keras's CIFAR example; elsewhere a v1 projection is normalized."""
    unit = BasicV1(4, (8, 8, 2), UnitsV1(projection="bare", conv_bias=True)).eval()
    fill(unit)
    x = torch.randn(2, 4, 6, 6)
    projection = unit.shortcut
    assert isinstance(projection, nn.Conv2d)
    with torch.no_grad():
        unit.norm2.weight.zero_()
        unit.norm2.bias.zero_()  # the branch adds nothing
        assert torch.equal(unit(x.clone()), F.relu(F.conv2d(x, projection.weight, projection.bias, stride=2)))
    assert BasicV1(4, (8, 8, 2), UnitsV1(projection="bare")).get_parameter("shortcut.weight").shape == (8, 4, 1, 1)
    assert isinstance(BasicV1(8, (8, 8, 1), UnitsV1(projection="bare")).shortcut, nn.Identity)


@pytest.mark.parametrize("unit_type", [BottleneckV2, BasicV2])
@pytest.mark.parametrize(("projection", "shares"), [("shared", True), ("raw", False)])
def test_a_projection_of_v2_starts_where_it_says(
    unit_type: type[BottleneckV2] | type[BasicV2], projection: Literal["shared", "raw"], shares: bool
) -> None:
    unit = unit_type(4, (8, 4, 2), UnitsV2(projection=projection)).eval()
    fill(unit)
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        last = unit.conv3 if isinstance(unit, BottleneckV2) else unit.conv2
        last.weight.zero_()
        last.bias.zero_()  # type: ignore[union-attr]
        start = F.relu(unit.preact(x)) if shares else x
        assert torch.equal(unit(x.clone()), unit.shortcut(start))


def test_only_a_networks_first_projection_shares() -> None:
    """Keras's CIFAR example, where the first unit's pre-activation is the stem's."""
    network = create_model("resnet_v2_164.cifar", projection="first_shared")
    projecting = [unit for unit in network.modules() if isinstance(getattr(unit, "shortcut", None), nn.Conv2d)]
    assert [unit.shared for unit in projecting] == [True, False, False]


def test_biases_of_v2_before_and_behind_norms() -> None:
    for conv_bias, open_bias in ((False, True), (True, False), (True, True)):
        unit = BottleneckV2(4, (8, 4, 1), UnitsV2(conv_bias=conv_bias, open_bias=open_bias))
        found = [name.partition(".")[0] for name in unit.state_dict() if name.endswith("bias") and "norm" not in name]
        inner, outer = ["conv1", "conv2"] * conv_bias, ["conv3", "shortcut"] * open_bias
        assert found == ["preact", *inner, *outer]


@pytest.mark.parametrize("side", [7, 8])
def test_units_may_pad_like_tensorflow(side: int) -> None:
    """The strided 3x3 alone: at even sides TensorFlow pads (0, 1), and all else of a unit stays as it is."""
    x = torch.randn(2, 4, side, side)
    row = (8, 4, 2)
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (BasicV1(4, row, UnitsV1()), BasicV1(4, row, UnitsV1(padding="same"))),
        (BasicV2(4, row, UnitsV2()), BasicV2(4, row, UnitsV2(padding="same"))),
        (
            BottleneckV1(4, row, UnitsV1(stride_in="middle")),
            BottleneckV1(4, row, UnitsV1(stride_in="middle", padding="same")),
        ),
        (BottleneckV2(4, row, UnitsV2()), BottleneckV2(4, row, UnitsV2(padding="same"))),
    ]
    for symmetric, same in pairs:
        fill(symmetric)
        same_weights(symmetric, same)
        strided = [module for module in same.modules() if isinstance(module, Conv2dSame)]
        assert [conv.kernel_size for conv in strided] == [(3, 3)]
        with torch.no_grad():
            found, other = same(x.clone()), symmetric(x.clone())
        assert found.shape == other.shape
        assert torch.equal(found, other) if side % 2 else relative(found, other) > 1e-2


def test_conv2d_same_of_tensorflow_counts_the_dilation() -> None:
    conv = Conv2dSame(1, 1, 3, 1, dilation=2, bias=False)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(conv(x), F.conv2d(x, conv.weight, padding=2, dilation=2))


@pytest.mark.parametrize(("side", "pads"), [(227, (4, 4)), (224, (3, 4)), (225, (5, 5)), (226, (4, 5))])
def test_conv2d_same_of_tensorflow_pads_by_the_size(side: int, pads: tuple[int, int]) -> None:
    """TensorFlow: ceil(side / 4) outputs, the odd pixel at the end. A shape alone would not tell (3, 4) from (4, 3)."""
    before, after = pads
    outputs = -(-side // 4)
    conv = Conv2dSame(1, 2, 11, 4, bias=True)
    x = torch.randn(1, 1, side, side)
    with torch.no_grad():
        found = conv(x)
        padded = F.pad(x, (before, after, before, after))
        expected = F.conv2d(padded, conv.weight, conv.bias, stride=4)
        assert found.shape == (1, 2, outputs, outputs)
        assert torch.equal(found, expected)
        if before != after:
            shifted = F.conv2d(F.pad(x, (after, before) * 2), conv.weight, conv.bias, stride=4)
            assert relative(shifted, found) > 1e-2


def test_a_pool_that_pads_with_zeros_sees_them() -> None:
    """Keras v2 pads before any ReLU, so that a zero wins where all of a window is negative."""
    x = torch.full((1, 1, 4, 4), -5.0)
    zeros, symmetric = MaxPool2d(3, 2, "zeros")(x), MaxPool2d(3, 2, "symmetric")(x)
    assert zeros[0, 0].tolist() == [[0, 0], [0, -5]]
    assert symmetric[0, 0].tolist() == [[-5, -5], [-5, -5]]
    assert torch.equal(MaxPool2d(3, 2, "zeros")(-x), MaxPool2d(3, 2, "symmetric")(-x))
