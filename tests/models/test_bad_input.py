"""What cannot be built or taken in is refused at once, with a message that names the fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from skipway.data.presets import PRESETS
from skipway.errors import ModelFileError, SkipwayError, SpecError, UnknownNameError
from skipway.models import (
    AlexNetSpec,
    Block,
    Conv,
    Gates,
    HighwayStage,
    LocalResponseNorm,
    MaxPool2d,
    Norm,
    ResNetV1Spec,
    ResponseNorm,
    Stem,
    conv2d_same,
    convolutional_block,
    create_model,
    dense_unit,
    identity_block,
    stage,
    subsample,
)
from skipway.models.catalog import find_spec, spec_from_dict
from skipway.models.network import Convention
from skipway.models.resnet_v2 import UnitsV2

CIFAR = "resnet_v1_20.cifar"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet_v1_50.tensorflow", ["resnet_v1_50.slim", "layouts original, torchvision, keras, slim, signs"]),
        ("resnet_v2_34.slim", ["resnet_v2_34.timm", "layouts timm"]),
        ("resnet50", ["resnet_v1_50", "resnet_v2_50"]),
        ("ResNet_v1_50", ["resnet_v1_50"]),
        ("ResNet_v1_50.Slim", ["resnet_v1_50.slim"]),
        ("alexnet.", ["layouts caffe, caffenet"]),
        ("vgg16", ["skipway models"]),
        ("", ["alexnet.caffe", "skipway models"]),
        ("highway_mlp", ["N layers, from 1 to 9999"]),
        ("highway_mlp_0", ["N layers, from 1 to 9999"]),
        ("highway_mlp_007", ["N layers, from 1 to 9999"]),
        ("highway_mlp_99999", ["N layers, from 1 to 9999"]),
        ("plain_mlp_007", ["N layers, from 1 to 9999"]),
        ("resnet_v1_50.slim\n", ["resnet_v1_50.slim"]),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name: str, said: list[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        create_model(name)
    assert all(part in str(caught.value) for part in said), caught.value


def refused(name: str, fields: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(SkipwayError, match=message) as caught:
        create_model(name, **fields)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["alexnet.mnist", "highway_mlp_10", "highway_19.cifar", "plain_18", CIFAR])
@pytest.mark.parametrize("field", ["num_classes", "in_channels", "input_size"])
@pytest.mark.parametrize("value", [-1, "6", True, 2.5, None, float("nan"), 2**63])
def test_counts_are_whole_numbers(name: str, field: str, value: object) -> None:
    if value == -1:
        refused(name, {field: value}, "give 1|the smallest is")
    else:
        refused(name, {field: value}, rf"{field} is {value!r}; it must be a (whole|finite)? ?number")


@pytest.mark.parametrize("name", ["alexnet.mnist", "highway_mlp_10", "highway_19.cifar", "plain_18", CIFAR])
def test_zero_of_something_that_is_needed(name: str) -> None:
    refused(name, {"in_channels": 0}, "in_channels is 0; give 1 for grey or 3 for colour")
    refused(name, {"input_size": 0}, r"cannot take pictures of 0 pixels a side; the smallest is \d+$")
    assert create_model("highway_mlp_10", num_classes=0).logits is None  # zero classes mean: no classifier


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (CIFAR, {"weight_decay": -1e-4}, "weight_decay is -0.0001; give 0 or more"),
        (CIFAR, {"shortcut": "none"}, "shortcut is 'none'; it must be one of projection, pad"),
        (CIFAR, {"pad": "left"}, "pad is 'left'; it must be one of after, both, before"),
        (CIFAR, {"stride_in": "lst"}, "stride_in is 'lst'; it must be one of first, middle"),
        (CIFAR, {"head": "flatten"}, "head is 'flatten'; it must be one of global, average_2_flatten"),
        (CIFAR, {"global_pool": 0}, "global_pool is 0; it must be true or false"),
        (CIFAR, {"norm": Norm(eps=0.0)}, "eps above 0"),
        (CIFAR, {"norm": Norm(momentum=1.5)}, "momentum .* from 0 to 1"),
        (CIFAR, {"norm": None}, "norm is None; it must be a table of fields"),
        (CIFAR, {"stem": Stem(stride=0)}, "stride and width of 1 or more"),
        (CIFAR, {"stem": Stem(pool="full")}, "pool is 'full'; it must be one of valid"),  # type: ignore[arg-type]
        (CIFAR, {"stem": {"kernl": 3}}, "unknown key of .*stem 'kernl'; the nearest: kernel"),
        (CIFAR, {"blocks": Block("stage1", "basic", ((8, 8, 1),))}, "blocks is .*; it must be a list"),
        (CIFAR, {"output_stride": 2}, "output_stride needs bottleneck units; leave it at 0"),
        ("plain_18", {"output_stride": 8}, "output_stride needs bottleneck units; leave it at 0"),
        ("resnet_v1_50.slim", {"output_stride": 3}, "3 is never reached; give one of 4, 8, 16, 32"),
        ("resnet_v2_50.slim", {"output_stride": 64}, "64 is never reached; give one of 4, 8, 16, 32"),
        ("resnet_v2_50.slim", {"output_stride": -1}, "-1 is never reached"),
        ("resnet_v2_50.slim", {"output_stride": 32, "include_root_block": False}, "give one of 1, 2, 4, 8"),
        ("resnet_v1_50.signs", {"global_pool": False}, "keep global_pool=True"),
        ("resnet_v1_50.signs", {"input_size": 36}, "of 36 pixels a side; the smallest is 37"),
        ("plain_18", {"shortcut": "pad"}, "unknown field of plain_18 'shortcut'"),
        ("alexnet.caffe", {"convs": (Conv(8, 3, after=("pool", "pool")),)}, "conv1 has pool, pool after it"),
        ("alexnet.caffe", {"convs": (Conv(8, 3, padding=-1),)}, "0 or more of padding"),
        ("alexnet.caffe", {"convs": (Conv(8, 3, padding="valid"),)}, "padding is 'valid'"),  # type: ignore[arg-type]
        ("alexnet.caffe", {"convs": (Conv(8, 3, groups=3),)}, "conv1 cannot split 3 channels into 3 groups"),
        ("alexnet.caffe", {"in_channels": 4, "convs": (Conv(8, 3, groups=3),)}, "conv1 cannot split 4 channels"),
        ("alexnet.caffe", {"convs": (Conv(8, 5000),), "input_size": 4500}, "the smallest is 5000"),
        ("alexnet.caffe", {"convs": (Conv(8, 2**62),) * 3}, "the smallest is"),
        ("alexnet.caffe", {"hidden": 4096}, "hidden is 4096; it must be a list"),
        ("alexnet.caffe", {"norm": ResponseNorm(k=0.0)}, "give a k above 0"),
        ("alexnet.caffe", {"norm": ResponseNorm(alpha=-1.0)}, "give a k above 0, the others 0 or more"),
        ("alexnet.caffe", {"norm": ResponseNorm(size=-1)}, "give an odd number"),
        ("alexnet.caffe", {"average_to": -1}, "average_to is -1"),
        ("highway_mlp_10", {"layers": 0}, "layers is 0 and width 50; give 1 or more of each"),
        ("highway_mlp_10", {"carry": "none"}, "carry is 'none'; it must be one of coupled, free"),
        ("highway_mlp_10", {"gate_bias": float("inf")}, "it must be a finite number"),
        ("highway_19.cifar", {"stages": ()}, "needs at least one stage"),
        ("highway_19.cifar", {"stages": (HighwayStage(8, (2,)),)}, "stage1 needs a depth of 1 or more and odd kernels"),
        ("highway_19.cifar", {"stages": (HighwayStage(8, (3,)),) * 7}, "of 32 pixels a side; the smallest is 64"),
        ("highway_19.cifar", {"last_width": 0}, "last_width is 0; give 1 or more"),
        ("highway_19.cifar", {"dropout": 1.0}, "from 0 to below 1"),
    ],
)
def test_fields_that_contradict_each_other_or_their_type(name: str, fields: dict[str, object], message: str) -> None:
    refused(name, fields, message)


NAMES = [
    "", "a b", "a.b", "1st", "stem", "postnorm", "pre_logits", "logits", "predictions", "spec", "head", "training",
    "forward", "walk", "stages", "train", "float", "parameters", "check", "global_pool", "_modules", "__class__",
    "state_dict", "unit_types", "smallest_input",
]  # fmt: skip


@pytest.mark.parametrize("block", NAMES)
@pytest.mark.parametrize("name", [CIFAR, "resnet_v2_20.cifar", "plain_20.cifar"])
def test_a_block_cannot_take_a_name_that_means_something_else(name: str, block: str) -> None:
    refused(name, {"blocks": (Block(block, "basic", ((8, 8, 1),)),)}, f"'{block}'.* stage1")


def test_two_blocks_cannot_share_a_name() -> None:
    refused(CIFAR, {"blocks": (Block("one", "basic", ((8, 8, 1),)),) * 2}, "cannot be called 'one'; give each its own")


@pytest.mark.parametrize("unit", ["dense", "", None, 1])
def test_unknown_kinds_of_units(unit: object) -> None:
    refused(CIFAR, {"blocks": (Block("stage1", unit, ((8, 8, 1),)),)}, "unit is .*; it must be one of bottleneck")  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [(8, 8), (8, 8, 1, 1), (8, 8, 0), (8, -8, 1), (0, 8, 1), (8, 8, 1.0), (8, 8, True)])
def test_rows_that_describe_no_unit(row: tuple[int, int, int]) -> None:
    refused(CIFAR, {"blocks": (Block("stage1", "basic", (row,)),)}, "items; it must have 3|number below 1|whole number")


def test_a_network_has_a_name() -> None:
    with pytest.raises(SpecError, match="name is empty; give one"):
        AlexNetSpec(name="", convs=(Conv(8, 3),))
    with pytest.raises(SpecError, match="name is None; it must be a text"):
        create_model(CIFAR, name=None)
    assert create_model(CIFAR, name="mine").spec.name == "mine"


def test_lists_and_tables_become_what_a_spec_holds() -> None:
    """As JSON and TOML have them; a spec equals what its file gives back."""
    blocks = [Block("stage1", "basic", [[8, 8, 1]])]  # type: ignore[arg-type, list-item]
    spec = find_spec(CIFAR).replaced({"blocks": blocks, "stem": {"kernel": 3, "width": 8}, "weight_decay": 1})
    assert isinstance(spec, ResNetV1Spec)
    assert spec.blocks == (Block("stage1", "basic", ((8, 8, 1),)),)
    assert spec.stem == Stem(kernel=3, width=8)
    assert isinstance(spec.weight_decay, float)
    assert hash(spec) == hash(spec_from_dict(spec.to_dict()))
    assert spec.build().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("architecture", [[], {}, 5, "", "ResNet_v1"])
def test_an_architecture_that_is_none(architecture: object) -> None:
    with pytest.raises(ModelFileError, match=f"architecture '{re.escape(str(architecture))}' is not one"):
        spec_from_dict({"architecture": architecture})


def test_parts_refuse_what_makes_no_sense() -> None:
    with pytest.raises(SpecError, match="stride_in is 'lst'; it must be one of first, middle"):
        identity_block(16, 4, stride_in="lst")
    with pytest.raises(SpecError, match="norm: eps is 'small'; it must be a number"):
        convolutional_block(8, 16, 4, norm=Norm(eps="small"))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="stride 0, rate 1; give whole numbers of 1 or more"):
        convolutional_block(8, 16, 4, stride=0)
    with pytest.raises(SpecError, match="shortcut is 'none'; it must be one of"):
        UnitsV2(shortcut="none")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="carry is 'open'; it must be one of"):
        Gates(carry="open")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="kernel -1, stride 1, rate 1; give whole numbers"):
        conv2d_same(3, 8, -1)
    with pytest.raises(SpecError, match="rate 0; give whole numbers"):
        conv2d_same(3, 8, 3, rate=0)
    with pytest.raises(SpecError, match=r"padding 'full'.* one of valid, same"):
        MaxPool2d(3, 2, "full")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="cannot pool 3 pixels at stride 0"):
        MaxPool2d(3, 0, "same")
    with pytest.raises(SpecError, match="window of -1 channels has no centre"):
        LocalResponseNorm(4, size=-1, alpha=1.0, beta=0.75, k=1.0)
    with pytest.raises(SpecError, match="stage1: 0 units"):
        stage("stage1", "basic", 8, 0, stride=1)
    with pytest.raises(SpecError, match="give 1 or more, and first or last"):
        stage("stage1", "basic", 8, 2, stride=1, strided_unit="lst")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("alexnet.mnist", (1, 3, 28, 28), r"takes pictures \(N, 1, H, W\), and these are \(1, 3, 28, 28\)"),
        (CIFAR, (1, 1, 32, 32), r"takes pictures \(N, 3, H, W\), and these are \(1, 1, 32, 32\)"),
        (CIFAR, (3, 32, 32), r"takes pictures \(N, 3, H, W\), and these are \(3, 32, 32\)"),
        (CIFAR, (1, 32, 32, 3), r"these are \(1, 32, 32, 3\)"),
        ("highway_19.cifar", (1, 3, 3, 32), "of 3 x 32 pixels; the smallest side is 4"),
        ("alexnet.mnist", (1, 1, 40, 28), "built for pictures of 28 pixels a side, and these have 40 x 28; resize"),
        ("highway_mlp_10", (1, 1, 27, 28), "built for pictures of 28 pixels a side, and these have 27 x 28; resize"),
    ],
)
def test_pictures_that_do_not_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    with torch.device("meta"):
        network = create_model(name).eval()
        for run in (network, network.forward_endpoints):
            with pytest.raises(SpecError, match=message):
                run(torch.zeros(shape))


def test_pictures_of_bytes_are_not_ready() -> None:
    with pytest.raises(SpecError, match=r"takes numbers with a fraction, and these are torch\.uint8; preprocess them"):
        create_model(CIFAR)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: identity_block("64", 16), "cannot have 64 to 16 channels"),
        (lambda: identity_block(64.0, 16), "cannot have 64.0 to 16 channels"),
        (lambda: identity_block(64, 16, conv_bais=True), "unknown field of identity_block 'conv_bais'; .* conv_bias"),
        (lambda: convolutional_block(64, 16, 4, strid_in="first"), "unknown field of convolutional_block"),
        (lambda: subsample(torch.zeros(1, 1, 4, 4), 0), "cannot keep every 0-th pixel"),
        (lambda: dense_unit(0, Gates()), "cannot have 0 features"),
        (lambda: create_model(None), "unknown model 'None'"),
        (
            lambda: create_model("resnet_v1_20.cifar", preprocessing="nope"),
            "preprocessing is 'nope'; it must be one of",
        ),
        (lambda: create_model("resnet_v1_20.cifar")([1.0]), "takes a tensor, and this is list"),
        (lambda: create_model("alexnet.mnist", norm=ResponseNorm(beta=-1.0)), "give a k above 0"),
        (lambda: ResNetV1Spec(name="mine", blocks=(Block("walk", "basic", ((8, 8, 1),)),)), "cannot be called 'walk'"),
    ],
)
def test_public_parts_refuse_what_they_cannot_be(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SkipwayError, match=message):
        make()


def test_the_conventions_are_the_presets() -> None:
    """Networks cannot see the table of preprocessings; their field lists the same names."""
    assert set(get_args(Convention)) == set(PRESETS)
