"""docs/models.md is what the catalog says, and says all of it."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from skipway.drawing.facts import _CARRIES, facts
from skipway.drawing.page import models_page
from skipway.models.catalog import find_entry, find_spec, list_models
from skipway.models.joins import Carry
from skipway.models.network import Spec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


@cache
def page() -> str:
    return models_page()


def test_the_page_is_the_catalogs() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python scripts/models_page.py`"


@pytest.mark.parametrize("name", list_models())
def test_all_of_a_row_is_told(name: str) -> None:
    entry = find_entry(name)
    (line,) = (line for line in page().splitlines() if line.startswith(f"| `{name}` |"))
    assert f"| {entry.parameters:,} | {entry.counted_by} |" in line
    assert entry.reported in line
    for text in (entry.spec.paper, entry.section, entry.spec.source):
        assert f": {text}" in page()
    assert all(f"- {deviation}" in page() for deviation in entry.deviations)
    assert all(f"| `{one.file}` | `{name}` |" in page() for one in entry.published)


def test_what_holds_for_some_depths_names_them() -> None:
    assert "- stride: first 3x3 of the first unit of a stage (N = 18, 34)" in page()
    assert "- basic units, which the paper has for CIFAR only (N = 18, 34)" in page()
    assert "### `resnet_v1_N.slim`" in page()
    assert "### `resnet_v1_50.signs`" in page()


def test_no_line_of_the_page_is_empty_of_words() -> None:
    assert "None" not in page()
    assert "  " not in page().replace("\n\n", "\n")


@pytest.mark.parametrize(
    ("name", "point", "text"),
    [
        ("resnet_v1_50.original", "stride", "first 1x1 of the first unit of a stage"),
        ("resnet_v1_50.torchvision", "stride", "3x3 of the first unit of a stage"),
        ("resnet_v1_50.slim", "stride", "3x3 of the last unit of a stage"),
        ("resnet_v1_18.original", "shortcut where the depth changes", "zeros on both sides (option A)"),
        ("resnet_v1_50.original", "convolutions with bias", "the stem's"),
        ("resnet_v1_50.keras", "convolutions with bias", "all"),
        ("resnet_v1_50.keras", "batch normalization", "epsilon 1.001e-05, momentum 0.01 (decay 0.99)"),
        ("resnet_v2_50.slim", "stem", "64 of 7x7/2; max pool 3x3/2: TensorFlow's SAME"),
        ("resnet_v2_50.keras", "stem", "64 of 7x7/2; max pool 3x3/2: half a window of zeros on every side"),
        ("resnet_v2_110.cifar", "shortcut of a stage's first unit", "from the pre-activation, as the branch"),
        ("resnet_v2_50.timm", "picture", "224 pixels cut from 235, bicubic, RGB, counts / 255 - (0.5, 0.5, 0.5) over "
         "(0.5, 0.5, 0.5) (`timm_95`)"),
        ("plain_18", "shortcut", "none"),
        ("plain_mlp_50", "layers", "50 plain, 71 units each; ReLU"),
        ("alexnet.caffe", "conv2", "256 of 5x5/1, padding 2, 2 groups, then norm, then pool"),
        ("alexnet.mnist", "picture", "28 pixels, grey, counts / 255 (`unit`)"),
        ("alexnet.owt", "dropout", "0.5 before each hidden layer"),
        ("highway_19.cifar", "gate bias at first", "-2"),
    ],
)  # fmt: skip
def test_a_layout_in_words(name: str, point: str, text: str) -> None:
    assert facts(find_spec(name))[point] == text


def test_fields_that_no_row_uses_have_words_too() -> None:
    assert facts(find_spec("alexnet.owt").replaced({"fc_dropout": "none"}))["dropout"] == "none"
    assert facts(find_spec("highway_19.cifar").replaced({"carry": "free"}))["carry"] == "a gate of its own"
    tanh = facts(find_spec("alexnet.caffe").replaced({"conv_activation": "tanh", "activation": "sigmoid"}))
    assert tanh["behind each convolution"] == "tanh"
    assert tanh["hidden layers"] == "4096, 4096; sigmoid"
    residual = find_spec("resnet_v1_20.cifar")
    every = facts(residual.replaced({"shortcut": "projection_all"}))
    assert every["shortcut"] == "1x1 projection, normalized (option C: in every unit)"
    gated = facts(residual.replaced({"carry": "shortcut_gate"}))
    assert gated["shortcut that learns nothing"] == "1 - g of it, and the branch"
    assert gated["gate"] == "g = sigmoid(1x1 convolution of the unit's input), bias at first -6"
    assert {facts(residual.replaced({"carry": carry})).get("shortcut that learns nothing") for carry in get_args(Carry)
            } == {None, *_CARRIES.values()}  # fmt: skip


def test_an_architecture_without_words_is_noticed() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class New(Spec):
        architecture = "new"

        def smallest_input(self) -> int:
            return 1

    with pytest.raises(NotImplementedError, match="New has no words yet"):
        facts(New(name="new"))
