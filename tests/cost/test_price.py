"""The arithmetic says what building says: tensors by name, shape and order, operations, and the peak of a pass."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
import torch

from skipway.cost import layers_of, price_of
from skipway.drawing.counting import count
from skipway.drawing.tracing import on_meta
from skipway.models.alexnet import AlexNetSpec, Conv, Pool
from skipway.models.blocks import Norm, Stem
from skipway.models.catalog import CATALOG, find_spec
from skipway.models.network import Spec

V1, V2 = find_spec("resnet_v1_50.original"), find_spec("resnet_v2_50.slim")
SMALL = find_spec("resnet_v1_20.cifar")
VARIED: tuple[Spec, ...] = (
    *(V1.replaced({"shortcut": one}) for one in ("pad", "projection_all")),
    *(V1.replaced({"carry": one}) for one in ("scale", "exclusive_gate", "shortcut_gate", "dropout")),
    V1.replaced({"projection": "bare", "conv_bias": True, "padding": "same"}),
    V1.replaced({"output_stride": 8, "global_pool": False}),
    V1.replaced({"include_root_block": False, "num_classes": 0}),
    V1.replaced({"stem": Stem(5, 3, 32, "zeros", padding="same", bias=True), "norm": Norm(statistics="batch")}),
    SMALL.replaced({"carry": "exclusive_gate", "shortcut": "projection"}),
    *(V2.replaced({"projection": one, "conv_bias": True}) for one in ("raw", "first_shared")),
    V2.replaced({"shortcut": "pad", "open_bias": False, "first_shortcut": "shared", "stride_in": "first"}),
    V2.replaced({"output_stride": 16, "stem": Stem(pool=None)}),
    find_spec("plain_20.cifar").replaced({"num_classes": 0}),
    find_spec("highway_mlp_4").replaced({"carry": "free", "num_classes": 0}),
    find_spec("plain_mlp_1"),
    find_spec("highway_19.cifar").replaced({"carry": "free", "global_pool": False}),
    AlexNetSpec(
        name="odd",
        input_size=63,
        in_channels=4,
        num_classes=0,
        convs=(Conv(8, 5, 2, "same", 2, ("dropout", "norm", "pool")), Conv(600, 3, padding=2, after=("norm",))),
        hidden=(),
        pool=Pool(4, 3, "zeros"),
        average_to=3,
    ),
)
ROWS = [find_spec(name) for name in CATALOG if "1001" not in name]


def shapes(spec: Spec) -> list[tuple[str, tuple[int, ...]]]:
    return [one for layer in layers_of(spec) for one in layer.tensors]


@pytest.mark.parametrize("spec", [*ROWS, *VARIED], ids=lambda spec: spec.name)
def test_the_tensors_are_those_of_the_network(spec: Spec) -> None:
    built = [(name, tuple(tensor.shape)) for name, tensor in on_meta(spec).state_dict().items()]
    assert shapes(spec) == built
    price = price_of(spec)
    assert price.tensors == len(built)
    assert price.numbers == sum(torch.Size(shape).numel() for _, shape in built)


@pytest.mark.parametrize("spec", [one for one in [*ROWS[::4], *VARIED] if one.num_classes], ids=lambda spec: spec.name)
def test_the_operations_are_those_of_the_summary(spec: Spec) -> None:
    assert price_of(spec).operations == count(spec).flops


def test_the_layers_of_an_endless_network_come_one_by_one() -> None:
    endless = replace(find_spec("plain_mlp_4"), layers=10**15)
    began = time.perf_counter()
    first = list(itertools.islice(layers_of(endless), 3))
    assert [one.name for one in first] == ["stem", "unit1.transform", "unit2.transform"]
    assert time.perf_counter() - began < 0.1


def test_what_no_tensor_shows_has_its_price() -> None:
    alexnet = find_spec("alexnet.mnist")
    bare = replace(alexnet, hidden=(), num_classes=0)
    assert price_of(replace(bare, average_to=10**6)).peak > 10**14
    wide_window = replace(alexnet.pool, kernel=10**5, padding="same")
    assert price_of(replace(bare, pool=wide_window)).peak > 10**11
    assert price_of(replace(bare, pool=replace(wide_window, padding="symmetric"))).comparisons > 10**11
    padded = replace(bare.convs[0], padding=10**6)
    assert price_of(replace(bare, convs=(padded, *bare.convs[1:]))).peak > 10**12


def test_response_norm_is_no_longer_charged_by_the_square() -> None:
    def constants(channels: int) -> int:
        convs = (Conv(channels, 1, after=("norm",)),)
        return price_of(AlexNetSpec(name="x", input_size=8, num_classes=2, convs=convs, hidden=())).constants

    assert constants(96) == 96**2
    assert constants(60_000) == 0
