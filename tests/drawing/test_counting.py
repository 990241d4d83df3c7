"""The fast counts of whole networks, against the slow ones; the memory of training, against real tensors."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from skipway.drawing.counting import activation_bytes, count, saved_bytes, shortened
from skipway.drawing.tracing import on_meta, trace
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.blocks import Block
from skipway.models.catalog import find_entry, find_spec, list_models
from skipway.models.highway import HighwayMLPSpec
from skipway.models.joins import Carry
from skipway.models.network import Spec


@pytest.mark.parametrize("name", list_models())
def test_fast_counts_are_those_of_the_whole_network(name: str) -> None:
    entry = find_entry(name)
    network = on_meta(entry.spec)
    trainable = sum(one.numel() for one in network.parameters())
    statistics = sum(one.numel() for key, one in network.named_buffers() if "running_" in key)
    found = count(entry.spec)
    assert trainable == found.trainable == entry.parameters
    assert statistics == found.statistics
    assert found.flops == sum(one.flops for one in trace(network).values()) > 0


def test_equal_units_stand_for_each_other() -> None:
    short, times = shortened(find_spec("resnet_v2_1001.cifar"))
    assert times == {"stage1.unit2": 110, "stage2.unit2": 110, "stage3.unit2": 110}
    assert [len(block.rows) for block in short.blocks] == [2, 2, 2]  # type: ignore[attr-defined]
    assert shortened(find_spec("highway_mlp_100"))[1] == {"unit2": 98}
    assert shortened(find_spec("plain_mlp_100"))[1] == {"unit2": 98}
    assert shortened(find_spec("highway_mlp_3"))[1] == {}
    assert shortened(find_spec("alexnet.caffe")) == (find_spec("alexnet.caffe"), {})


@pytest.mark.parametrize(
    "rows",
    [
        ((8, 4, 1), (8, 4, 1), (8, 4, 1), (8, 4, 2)),  # the last has a stride
        ((8, 4, 2), (8, 4, 2), (8, 4, 2)),  # every one has
        ((8, 4, 1), (8, 2, 1), (8, 2, 1), (8, 4, 1), (8, 4, 1), (8, 4, 1)),  # two runs
        ((16, 4, 1), (8, 4, 1), (8, 4, 1), (8, 4, 1)),  # the second projects, too
        ((8, 4, 1),),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"output_stride": 1}])
def test_odd_stages_are_counted_right(rows: tuple[tuple[int, int, int], ...], fields: dict[str, int]) -> None:
    for name in ("resnet_v1_50.slim", "resnet_v2_50.slim"):
        spec = find_spec(name).replaced(
            {"blocks": (Block("a", "bottleneck", rows), Block("b", "bottleneck", rows)), "input_size": 64}
        )
        if fields:
            spec = spec.replaced({"output_stride": 4 * max(stride for _, _, stride in rows)})
        network = on_meta(spec)
        found = count(spec)
        assert found.trainable == sum(one.numel() for one in network.parameters())
        assert activation_bytes(spec, 2) == sum(saved_bytes(network.train(), 2).values())
        assert found.flops == sum(one.flops for one in trace(network).values())


def really_saved(spec: Spec, batch_size: int) -> int:
    """Bytes of the storages, each once, that a real training pass keeps."""
    network = spec.build().train()
    own = {one.data_ptr() for one in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value
        return value

    pictures = torch.rand(batch_size, spec.in_channels, spec.input_size, spec.input_size)
    with saved_tensors_hooks(keep, lambda value: value):
        logits = network(pictures)
    assert logits.requires_grad
    return sum(one.untyped_storage().nbytes() for key, one in kept.items() if key not in own)


@pytest.mark.parametrize(
    "name",
    [
        "resnet_v1_20.cifar",
        "resnet_v2_20.cifar",
        "plain_32.cifar",
        "alexnet.mnist",
        "highway_19.cifar",
        "highway_mlp_5",
        "plain_mlp_5",
    ],
)
def test_the_memory_is_that_of_a_real_pass(name: str) -> None:
    spec = find_spec(name)
    assert activation_bytes(spec, 3) == really_saved(spec, 3)
    assert activation_bytes(spec, 4) == really_saved(spec, 4)


@pytest.mark.parametrize(
    "fields", [{"shortcut": "projection_all"}, *({"carry": carry} for carry in get_args(Carry)[1:])]
)
def test_odd_shortcuts_are_counted_right(fields: dict[str, Any]) -> None:
    spec = find_spec("resnet_v1_20.cifar").replaced(fields)
    network, found = on_meta(spec), count(spec)
    assert found.trainable == sum(one.numel() for one in network.parameters())
    assert found.flops == sum(one.flops for one in trace(network).values())
    assert activation_bytes(spec, 3) == really_saved(spec, 3)


def test_the_memory_by_hand() -> None:
    """A picture of 8 x 8, a convolution of 4 channels with its ReLU, a classifier on the flattened map."""
    spec = AlexNetSpec(
        name="hand", in_channels=1, input_size=8, num_classes=2, convs=(Conv(4, 3, padding=1),), hidden=()
    )
    for batch in (1, 2, 7, 10**9):
        assert activation_bytes(spec, batch) == 4 * batch * (64 + 4 * 64)
    dense = HighwayMLPSpec(name="dense", in_channels=1, input_size=8, num_classes=2, layers=1, width=5)
    assert activation_bytes(dense, 1) == 4 * (64 + 5)


def test_one_picture_on_a_map_of_one_pixel_is_no_hindrance() -> None:
    """Batch normalization cannot train on it; the figure is still that of the line through larger batches."""
    spec = find_spec("resnet_v1_18.torchvision").replaced({"input_size": 32})
    one, two, three = (activation_bytes(spec, batch) for batch in (1, 2, 3))
    assert 0 < one < two
    assert three - two == two - one
