"""Counts of networks, against the sources' own numbers and counts by hand."""

from __future__ import annotations

import math

import pytest

from skipway.drawing import model_rows, models_table, summarize
from skipway.errors import SpecError, UnknownNameError
from skipway.models.catalog import create_model, find_spec, list_models


def convolution(kernel: int, channels: int, depth: int, side: int) -> int:
    """Multiplications and additions of a convolution whose map has `side` x `side` pixels."""
    return 2 * kernel * kernel * channels * depth * side * side


def test_hand_signs_network_has_the_counts_of_keras() -> None:
    found = summarize("resnet_v1_50.signs")
    assert (found.total, found.trainable, found.statistics) == (23_600_006, 23_546_886, 53_120)
    assert found.input_shape == (3, 64, 64)


def test_operations_of_the_cifar_network_by_hand() -> None:
    stem = convolution(3, 3, 16, 32)
    stage1 = 6 * convolution(3, 16, 16, 32)
    stage2 = convolution(3, 16, 32, 16) + 5 * convolution(3, 32, 32, 16)
    stage3 = convolution(3, 32, 64, 8) + 5 * convolution(3, 64, 64, 8)
    found = summarize("resnet_v1_20.cifar")
    assert found.flops == stem + stage1 + stage2 + stage3 + 2 * 64 * 10 == 81_102_080


def test_operations_of_the_mnist_network_by_hand() -> None:
    """Response normalization does not count, though ours computes it as a convolution."""
    convs = convolution(3, 1, 64, 28) + convolution(3, 64, 128, 14) + convolution(3, 128, 256, 7)
    linear = 2 * (256 * 4 * 4 * 1024 + 1024 * 1024 + 1024 * 10)
    assert summarize("alexnet.mnist").flops == convs + linear


def test_operations_of_alexnet_by_hand() -> None:
    """Groups of two halve the second, fourth and fifth convolution."""
    convs = (
        convolution(11, 3, 96, 55)
        + convolution(5, 48, 256, 27)
        + convolution(3, 256, 384, 13)
        + convolution(3, 192, 384, 13)
        + convolution(3, 192, 256, 13)
    )
    linear = 2 * (256 * 6 * 6 * 4096 + 4096 * 4096 + 4096 * 1000)
    found = summarize("alexnet.caffe")
    assert found.flops == convs + linear
    assert found.total == 60_965_224


@pytest.mark.parametrize("name", list_models())
def test_counts_are_those_of_the_built_network(name: str) -> None:
    found = summarize(name)
    fields = {"num_classes": 3} if find_spec(name).num_classes > 100 else {}
    network = create_model(name, **fields)
    smaller = summarize(name, **fields)
    assert smaller.trainable == sum(one.numel() for one in network.parameters())
    statistics = [one for key, one in network.named_buffers() if key.endswith(("running_mean", "running_var"))]
    assert smaller.statistics == sum(one.numel() for one in statistics)
    assert found.total == found.trainable + found.statistics
    assert sum(row.parameters for row in found.layers) == found.trainable
    assert found.layers[-1].name == "logits"
    assert found.layers[-1].shape == (find_spec(name).num_classes,)


def test_summary_as_plain_values() -> None:
    plain = summarize("resnet_v1_20", num_classes=7).to_dict()
    assert plain.keys() == {"name", "input", "trainable", "statistics", "total", "flops", "layers"}
    assert plain["name"] == "resnet_v1_20.cifar"
    assert plain["input"] == [3, 32, 32]
    assert plain["layers"][0] == {"name": "stem", "shape": [16, 32, 32], "parameters": 3 * 9 * 16 + 32}
    assert plain["layers"][-1] == {"name": "logits", "shape": [7], "parameters": 64 * 7 + 7}


def test_summary_as_text_has_a_line_a_unit() -> None:
    found = summarize("resnet_v1_20.cifar")
    lines = found.told().splitlines()
    assert lines[0] == "resnet_v1_20.cifar, input 3 x 32 x 32"
    assert len(lines) == 1 + len(found.layers) + 1
    assert lines[-1].startswith(f"total {found.total:,} = {found.trainable:,} trainable")
    assert "0.081 GFLOPs" in lines[-1]


def test_no_classifier_no_classes() -> None:
    found = summarize("resnet_v1_20.cifar", num_classes=0)
    assert found.layers[-1].name == "stage3.unit3"
    with pytest.raises(SpecError):
        summarize("resnet_v1_20.cifar", num_classes=-1)


def test_an_unknown_network_has_its_nearest_named() -> None:
    with pytest.raises(UnknownNameError, match=r"nearest: resnet_v1_50\.signs"):
        summarize("resnet_v1_50.sigs")


def test_rows_of_the_table() -> None:
    rows = model_rows()
    assert [row["name"] for row in rows] == list_models()
    assert all(row.keys() == {"name", "total", "flops", "year", "source"} for row in rows)
    assert all(row["total"] > 0 and row["flops"] > 0 and 2012 <= row["year"] <= 2020 for row in rows)
    assert all(math.isfinite(row["flops"]) and row["source"] for row in rows)
    lines = models_table(rows).splitlines()
    assert len(lines) == len(rows) + 1
    assert all(row["name"] in line for row, line in zip(rows, lines[1:], strict=True))


def test_a_pattern_chooses_rows() -> None:
    assert {row["name"] for row in model_rows("alexnet.*")} == set(list_models("alexnet.*")) != set()
    assert model_rows("no such network") == []
    assert len(models_table([]).splitlines()) == 1
