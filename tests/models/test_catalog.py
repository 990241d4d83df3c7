"""The table of networks: names, sizes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from skipway.data.preprocessing import preset
from skipway.errors import ModelFileError, SkipwayError, SpecError, UnknownNameError
from skipway.models.alexnet import AlexNetSpec, Conv, Pool, ResponseNorm
from skipway.models.blocks import Block, Stem
from skipway.models.catalog import ALIASES, CATALOG, create_model, find_spec, list_models, spec_from_dict
from skipway.models.network import Network, Spec


def counted(spec: Spec) -> tuple[int, int]:
    """Trainable numbers and running statistics, without taking memory."""
    with torch.device("meta"):
        network = spec.build()
    statistics = sum(buffer.numel() for name, buffer in network.named_buffers() if "running_" in name)
    return sum(one.numel() for one in network.parameters() if one.requires_grad), statistics


@pytest.mark.parametrize(
    ("name", "trainable", "statistics"),
    [
        ("alexnet.caffe", 60_965_224, 0),
        ("alexnet.mnist", 5_624_842, 0),
        ("resnet_v1_18.torchvision", 11_689_512, 9_600),
        ("resnet_v1_20.cifar", 269_722, 1_376),
        ("resnet_v1_50.signs", 23_546_886, 53_120),
        ("resnet_v2_50.slim", 25_570_409, 45_440),
    ],
)
def test_sizes_are_the_sources(name: str, trainable: int, statistics: int) -> None:
    assert counted(find_spec(name)) == (trainable, statistics)


@pytest.mark.parametrize("name", list_models())
def test_a_spec_survives_json(name: str) -> None:
    spec = find_spec(name)
    plain = json.loads(json.dumps(spec.to_dict()))
    assert next(iter(plain)) == "architecture"
    assert spec_from_dict(plain) == spec
    changed = spec.replaced({"num_classes": 3})
    assert changed != spec
    assert spec_from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize("name", list_models())
def test_a_row_says_where_it_comes_from(name: str) -> None:
    spec = find_spec(name)
    assert spec.name == name
    assert 2012 <= spec.year <= 2020
    assert spec.paper
    assert spec.source
    assert preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1).depth == spec.in_channels


def test_names() -> None:
    assert sorted(list_models()) == sorted(CATALOG)
    assert list_models("alexnet.*") == [name for name in list_models() if name.startswith("alexnet.")]
    assert list_models("nothing*") == []
    for alias, name in ALIASES.items():
        assert alias == name.split(".")[0]
        assert find_spec(alias) is find_spec(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet_v1_50.sings", "resnet_v1_50.signs"), ("AlexNet.Cafe", "alexnet.caffe"), ("resnet_v2_5", "resnet_v2_50")],
)
def test_an_unknown_model_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"unknown model '{name}'; the nearest: .*\b{nearest}") as caught:
        create_model(name)
    assert "skipway models" in str(caught.value)


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown field of alexnet\.mnist 'num_clases'; the nearest: num_classes"
    ):
        create_model("alexnet.mnist", num_clases=3)


@pytest.mark.parametrize("name", list_models())
def test_a_picture_too_small_is_refused_with_the_smallest(name: str) -> None:
    spec = find_spec(name)
    smallest = spec.smallest_input()
    message = rf"cannot take pictures of {smallest - 1} pixels a side; the smallest is {smallest}$"
    with pytest.raises(SpecError, match=message):
        spec.replaced({"input_size": smallest - 1})
    with torch.device("meta"):
        network = spec.replaced({"input_size": smallest}).build()
        network.eval()
        network(torch.zeros(1, spec.in_channels, smallest, smallest))


def test_the_smallest_pictures_by_hand() -> None:
    assert find_spec("alexnet.caffe").smallest_input() == 39
    assert find_spec("resnet_v1_50.signs").smallest_input() == 37  # 19, 9, 9, 5, 3, 2
    assert find_spec("alexnet.mnist").smallest_input() == 1


BLOCK = Block("stage1", "bottleneck", ((8, 4, 1),))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("alexnet.mnist", {"num_classes": -1}, "num_classes is -1; give 1 or more, or 0"),
        ("alexnet.mnist", {"in_channels": 0}, "in_channels is 0; give 1 for grey or 3"),
        ("alexnet.mnist", {"dropout": 1.0}, "dropout is 1.0; give the rate that drops"),
        ("alexnet.mnist", {"hidden": (0,)}, "size below 1"),
        ("alexnet.mnist", {"pool": Pool(0, 2)}, "size below 1"),
        ("alexnet.mnist", {"norm": ResponseNorm(size=4)}, "window is 4 channels; give an odd number"),
        ("alexnet.mnist", {"convs": (Conv(8, 3, stride=0),)}, "conv1 has a size below 1"),
        ("alexnet.mnist", {"convs": (Conv(8, 3, groups=0),)}, "conv1 has a size below 1"),
        ("alexnet.caffe", {"in_channels": 1, "convs": (Conv(8, 3), Conv(9, 3, groups=2))}, "conv2 cannot split 8"),
        ("alexnet.mnist", {"convs": (Conv(8, 5000),)}, "the smallest is"),
        ("resnet_v1_20.cifar", {"blocks": ()}, "needs a block"),
        ("resnet_v1_20.cifar", {"blocks": (Block("stage1", "basic", ()),)}, "every block a row"),
        ("resnet_v1_20.cifar", {"blocks": (Block("stage1", "basic", ((8, 8, 0),)),)}, "holds a number below 1"),
        ("resnet_v1_20.cifar", {"stem": Stem(kernel=4)}, "odd kernel"),
        ("resnet_v1_50.signs", {"global_pool": False}, "keep global_pool=True"),
        ("plain_20.cifar", {"blocks": (Block("stage1", "bottleneck", ((8, 8, 1),)),)}, "units of kind 'bottleneck'"),
    ],
)
def test_networks_that_cannot_exist(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        create_model(name, **fields)
    assert name in str(caught.value)


def test_an_unknown_initialization_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown initialization 'kaiming'"):
        create_model("resnet_v1_20.cifar", initialization="kaiming")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "vgg"}, "architecture 'vgg' is not one"),
        ({"architecture": None}, "architecture 'None' is not one"),
        ({"num_classes": "6"}, "num_classes is '6'; it must be a whole number"),
        ({"num_classes": -6}, "num_classes is -6"),
        ({"colour": 1}, "unknown key of the spec of resnet_v1 'colour'"),
        ({"shortcut": "none"}, "it must be one of projection, pad"),
        ({"blocks": [["stage1", "basic", []]]}, r"blocks\[0\] is .*; it must be a table"),
        ({"blocks": [{"name": "stage1", "unit": "basic", "rows": [[8, 8]]}]}, "has 2 items; it must have 3"),
        ({"stem": {"kernel": 3, "pool": "full"}}, "it must be one of valid, same"),
    ],
)
def test_a_foreign_spec_is_a_model_file_error(change: dict[str, object], message: str) -> None:
    plain = json.loads(json.dumps(find_spec("resnet_v1_20.cifar").to_dict())) | change
    with pytest.raises(ModelFileError, match=message):
        spec_from_dict(plain)


def test_a_spec_without_a_field_is_a_model_file_error() -> None:
    plain = find_spec("resnet_v1_20.cifar").to_dict()
    del plain["blocks"]
    with pytest.raises(ModelFileError, match="blocks"):
        spec_from_dict(plain)
    with pytest.raises(SkipwayError):
        spec_from_dict({})


def test_specs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        find_spec("alexnet.mnist").num_classes = 3  # type: ignore[misc]


def test_fields_change_the_network() -> None:
    network = create_model("alexnet.mnist", num_classes=4, in_channels=3, hidden=(16,), input_size=20)
    assert isinstance(network, Network)
    assert network(torch.zeros(2, 3, 20, 20)).shape == (2, 4)
    spec = find_spec("alexnet.mnist")
    assert isinstance(spec, AlexNetSpec)
    bare = create_model("alexnet.mnist", hidden=(), input_size=8).eval()  # a classifier right on the map
    assert bare(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
