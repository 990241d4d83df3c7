"""Tables of names: every tensor has one place in the source, and names and shapes give the network back."""

from __future__ import annotations

import pytest
import torch
import torchvision

from skipway.interchange.mapping import alexnet_names as alexnet
from skipway.interchange.mapping import resnet_names as resnet
from skipway.interchange.mapping.alexnet_names import infer_alexnet
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import source_shape
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.mapping.shapes import infer_stack
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec, list_models
from skipway.models.network import Spec

# Layout, scheme, and the rows that inference starts from.
STACKS: list[tuple[str, Scheme, tuple[str, ...]]] = [
    ("resnet_v1_*.torchvision", resnet.TORCHVISION, ("resnet_v1_50.torchvision",)),
    ("resnet_v1_*.torchvision", resnet.HUGGING_FACE, ("resnet_v1_50.torchvision",)),
    ("resnet_v1_*.cifar", resnet.CIFAR_TORCH, ("resnet_v1_20.cifar",)),
    ("resnet_v1_*.slim", resnet.SLIM, ("resnet_v1_50.slim",)),
    ("resnet_v1_*.keras", resnet.KERAS, ("resnet_v1_50.keras",)),
    ("resnet_v1_*.keras", resnet.keras_branches("fc1000"), ("resnet_v1_50.keras",)),
    ("resnet_v1_*.original", resnet.CAFFE, ("resnet_v1_50.original", "resnet_v1_101.original")),
    ("resnet_v1_50.signs", resnet.keras_branches("fc6"), ("resnet_v1_50.signs",)),
    ("resnet_v2_*.slim", resnet.SLIM, ("resnet_v2_50.slim",)),
    ("resnet_v2_*.keras", resnet.KERAS, ("resnet_v2_50.keras",)),
    ("resnet_v2_*.timm", resnet.TIMM_V2, ("resnet_v2_50.timm",)),
]
ROWS = [
    pytest.param(name, scheme, bases, id=f"{name}-{scheme.name}")
    for pattern, scheme, bases in STACKS
    for name in list_models(pattern)
]


def shapes_in(spec: Spec, scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file by this scheme. No two of our tensors may have one place."""
    shapes = {key.name: key.shape for key in keys_of(spec)}
    places = {name: place for name, place in scheme.places(spec).items() if place}
    assert len({place.source for place in places.values()}) == len(places)
    assert {name.rpartition(".")[2] for name in shapes if name not in places} <= {"num_batches_tracked"}
    return {place.source: source_shape(shapes[name], place) for name, place in places.items()}


@pytest.mark.parametrize(("name", "scheme", "bases"), ROWS)
def test_a_row_is_found_by_its_names(name: str, scheme: Scheme, bases: tuple[str, ...]) -> None:
    spec = find_spec(name)
    shapes = shapes_in(spec, scheme)
    found = []
    for base in bases:
        row = find_spec(base)
        assert isinstance(row, StackSpec)
        found.append(infer_stack(shapes, scheme, row))
    assert spec in found


def test_a_network_that_is_no_row_is_found() -> None:
    row = find_spec("resnet_v1_20.cifar")
    assert isinstance(row, StackSpec)
    blocks = tuple(block.__class__(block.name, block.unit, block.rows[:1]) for block in row.blocks)
    spec = row.replaced({"blocks": blocks, "num_classes": 3, "in_channels": 1, "shortcut": "projection"})
    found = infer_stack(shapes_in(spec, resnet.CIFAR_TORCH), resnet.CIFAR_TORCH, row)
    assert found == spec.replaced({"name": "resnet_v1_8.cifar"})


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("alexnet.caffe", alexnet.CAFFE), ("alexnet.caffe", alexnet.NPY), ("alexnet.owt", alexnet.TORCHVISION)],
)
def test_an_alexnet_is_found_by_its_names(name: str, scheme: Scheme) -> None:
    spec = find_spec(name)
    assert isinstance(spec, AlexNetSpec)
    assert infer_alexnet(shapes_in(spec, scheme), scheme, spec) == spec


def test_groups_are_read_from_the_arrays() -> None:
    """Some prototxts of AlexNet lack their groups of 2; the blob's 48 channels tell."""
    spec = find_spec("alexnet.caffe")
    assert isinstance(spec, AlexNetSpec)
    without = spec.replaced({"convs": tuple(row.__class__(**vars(row) | {"groups": 1}) for row in spec.convs)})
    assert infer_alexnet(shapes_in(spec, alexnet.CAFFE), alexnet.CAFFE, without) == spec


@pytest.mark.parametrize(
    ("row", "scheme", "build"),
    [
        ("resnet_v1_18.torchvision", resnet.TORCHVISION, torchvision.models.resnet18),
        ("resnet_v1_152.torchvision", resnet.TORCHVISION, torchvision.models.resnet152),
        ("alexnet.owt", alexnet.TORCHVISION, torchvision.models.alexnet),
    ],
)
def test_names_are_torchvisions(row: str, scheme: Scheme, build: type[torch.nn.Module]) -> None:
    with torch.device("meta"):
        theirs = build().state_dict()
    assert shapes_in(find_spec(row), scheme) == {name: tuple(value.shape) for name, value in theirs.items()}


def test_a_file_of_another_scheme_is_none() -> None:
    row, other = find_spec("resnet_v1_50.torchvision"), find_spec("alexnet.owt")
    assert isinstance(row, StackSpec)
    assert isinstance(other, AlexNetSpec)
    assert infer_stack(shapes_in(other, alexnet.TORCHVISION), resnet.TORCHVISION, row) is None
    assert infer_alexnet(shapes_in(row, resnet.TORCHVISION), alexnet.TORCHVISION, other) is None
