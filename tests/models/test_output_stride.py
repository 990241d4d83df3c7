"""Atrous convolution: `output_stride` keeps the map large, and what it computes is the strided network, only denser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skipway.models.blocks import Block, StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Network
from skipway.models.resnet_v2 import ResNetV2Spec
from tests.contracts.tiny import filled, pictures, relative, tiny

BOTTLENECKS = [
    "resnet_v1_50.slim", "resnet_v1_50.original", "resnet_v1_50.torchvision", "resnet_v1_50.keras",
    "resnet_v2_50.slim", "resnet_v2_50.keras", "resnet_v2_50.timm", "resnet_v2_164.cifar",
]  # fmt: skip


def on_meta(name: str, output_stride: int) -> Network:
    with torch.device("meta"):
        return find_spec(name).replaced({"output_stride": output_stride, "global_pool": False}).build().eval()


def map_sides(network: Network, side: int) -> list[int]:
    endpoints = network.forward_endpoints(torch.zeros(1, 3, side, side, device="meta"))
    return [endpoints[name].shape[2] for name in ("stem", "stage1", "stage2", "stage3", "stage4", "logits")]


@pytest.mark.parametrize("name", ["resnet_v1_50.slim", "resnet_v2_50.slim"])
def test_maps_stop_shrinking(name: str) -> None:
    for side, expected in ((224, {8: 28, 16: 14, 32: 7}), (321, {8: 41, 16: 21, 32: 11})):
        first = -(-side // 4)
        for output_stride, last in expected.items():
            sides = map_sides(on_meta(name, output_stride), side)
            assert sides == [first, *[max(-(-side // stride), last) for stride in (8, 16, 32, 32)], last]
    assert map_sides(on_meta(name, 4), 224) == [56] * 6


def rates(name: str, output_stride: int) -> list[list[int]]:
    """The dilation of each unit's 3x3, stage by stage; strides that became dilation must be gone."""
    network = on_meta(name, output_stride)
    found = []
    for stage in network.stages:  # type: ignore[union-attr]
        convs = [unit.conv2 for unit in network.get_submodule(stage).children()]
        assert all(conv.dilation == conv.padding for conv in convs)
        assert all(conv.dilation == (1, 1) or conv.stride == (1, 1) for conv in convs)
        found.append([conv.dilation[0] for conv in convs])
    return found


@pytest.mark.parametrize("name", ["resnet_v1_50.slim", "resnet_v2_50.slim"])
def test_with_the_stride_in_the_last_unit_the_next_stage_is_dilated(name: str) -> None:
    assert rates(name, 0) == rates(name, 32) == [[1] * 3, [1] * 4, [1] * 6, [1] * 3]
    assert rates(name, 16) == [[1] * 3, [1] * 4, [1] * 6, [2] * 3]
    assert rates(name, 8) == [[1] * 3, [1] * 4, [2] * 6, [4] * 3]
    assert rates(name, 4) == [[1] * 3, [2] * 4, [4] * 6, [8] * 3]


def test_with_the_stride_in_the_first_unit_the_next_units_are_dilated() -> None:
    assert rates("resnet_v2_50.timm", 16) == [[1] * 3, [1] * 4, [1] * 6, [1, 2, 2]]
    assert rates("resnet_v2_50.timm", 8) == [[1] * 3, [1] * 4, [1, 2, 2, 2, 2, 2], [2, 4, 4]]


def test_a_stride_before_the_3x3_dilates_its_own_unit() -> None:
    """TF-Slim has its strides in the 3x3 and dilates from the next unit on; here the 3x3 itself saw the smaller map."""
    assert rates("resnet_v1_50.original", 16) == [[1] * 3, [1] * 4, [1] * 6, [2] * 3]
    assert rates("resnet_v1_50.original", 8) == [[1] * 3, [1] * 4, [2] * 6, [4] * 3]


@pytest.mark.parametrize("side", [64, 81])
@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_dense_map_holds_the_strided_one(name: str, side: int) -> None:
    """Every n-th pixel of the atrous network's logits is a pixel of the nominal network's, for any layout."""
    spec = tiny(name, global_pool=False)
    assert isinstance(spec, StackSpec)
    nominal = filled(spec)
    x = pictures(spec, 2, side, side)
    with torch.no_grad():
        expected = nominal(x)
        total = 4 if name.endswith("cifar") else 32
        for output_stride in (1, 2) if total == 4 else (4, 8, 16):
            dense = filled(spec.replaced({"output_stride": output_stride}))
            assert {k: v.shape for k, v in dense.state_dict().items()} == {
                k: v.shape for k, v in nominal.state_dict().items()
            }
            found = dense(x)
            factor = total // output_stride
            assert found.shape[2] > expected.shape[2]
            assert relative(found[:, :, ::factor, ::factor], expected) <= 1e-5


def test_without_dilation_the_dense_map_is_another() -> None:
    """The test above can fail: the same strides left out, but no dilation in their place."""
    spec = tiny("resnet_v2_50.slim", global_pool=False)
    dense = filled(spec.replaced({"output_stride": 8}))
    for conv in [one for one in dense.modules() if isinstance(one, nn.Conv2d) and one.dilation != (1, 1)]:
        conv.dilation = conv.padding = (1, 1)
    x = pictures(spec, 1, 81, 81)
    with torch.no_grad():
        assert relative(dense(x)[:, :, ::4, ::4], filled(spec)(x)) > 1e-2


def test_rows_are_placed_as_slim_stacks_them() -> None:
    """Strides of 2 and 3 by hand: once the product is reached, each later stride multiplies the rate behind it."""
    rows = ((8, 2, 2), (8, 2, 3), (8, 2, 2), (8, 2, 1))
    spec = ResNetV2Spec(
        name="test", include_root_block=False, output_stride=2, blocks=(Block("one", "bottleneck", rows),)
    )
    assert spec.placed() == [[((8, 2, 2), 1), ((8, 2, 1), 1), ((8, 2, 1), 3), ((8, 2, 1), 6)]]
    assert spec.map_size(25) == 13
