"""Counts of networks, against the sources' own numbers and counts by hand."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from skipway.drawing.summary import Row, Summary, summarize
from skipway.errors import SpecError, UnknownNameError
from skipway.models.catalog import find_spec


def convolution(kernel: int, channels: int, depth: int, side: int) -> int:
    """Multiplications and additions of a convolution whose map has `side` x `side` pixels."""
    return 2 * kernel * kernel * channels * depth * side * side


def test_hand_signs_network_has_the_counts_of_keras() -> None:
    found = summarize("resnet_v1_50.signs")
    assert (found.total, found.trainable, found.statistics) == (23_600_006, 23_546_886, 53_120)
    assert found.input_shape == (3, 64, 64)


def test_operations_of_the_cifar_network_by_hand() -> None:
    stem = convolution(3, 3, 16, 32)
    unit = 2 * convolution(3, 16, 16, 32)
    stage2 = convolution(3, 16, 32, 16) + 5 * convolution(3, 32, 32, 16)
    stage3 = convolution(3, 32, 64, 8) + 5 * convolution(3, 64, 64, 8)
    found = summarize("resnet_v1_20.cifar")
    assert found.flops == stem + 3 * unit + stage2 + stage3 + 2 * 64 * 10 == 81_102_080
    assert [row.flops for row in found.layers[:4]] == [stem, unit, unit, unit]
    assert found.layers[-1].flops == 2 * 64 * 10


def test_operations_of_the_mnist_network_by_hand() -> None:
    """Response normalization does not count, though ours computes it as a convolution."""
    convs = [convolution(3, 1, 64, 28), convolution(3, 64, 128, 14), convolution(3, 128, 256, 7)]
    linear = [2 * 256 * 4 * 4 * 1024, 2 * 1024 * 1024, 2 * 1024 * 10]
    assert [row.flops for row in summarize("alexnet.mnist").layers] == convs + linear


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


@pytest.mark.parametrize(
    "name",
    ["alexnet.tflearn", "highway_32.cifar", "highway_mlp_20", "plain_18", "resnet_v1_34.original", "resnet_v2_50.slim"],
)
def test_the_rows_add_up(name: str) -> None:
    found = summarize(name)
    assert sum(row.parameters for row in found.layers) == found.trainable
    assert sum(row.flops for row in found.layers) == found.flops
    assert found.layers[-1].name == "logits"
    assert found.layers[-1].shape == (find_spec(name).num_classes,)
    assert all(row.whole for row in found.layers[-1:])
    sizes = [row.receptive_field for row in found.layers]
    assert sizes == sorted(sizes)


def test_summary_as_plain_values() -> None:
    plain = json.loads(json.dumps(summarize("resnet_v1_20", num_classes=7, batch_size=4).to_dict()))
    assert list(plain) == [
        "name",
        "input",
        "trainable",
        "statistics",
        "total",
        "flops",
        "batch_size",
        "activation_bytes",
        "layers",
    ]
    assert plain["name"] == "resnet_v1_20.cifar"
    assert plain["input"] == [3, 32, 32]
    assert plain["batch_size"] == 4
    assert plain["layers"][0] == {
        "name": "stem",
        "shape": [16, 32, 32],
        "parameters": 3 * 9 * 16 + 32,
        "flops": convolution(3, 3, 16, 32),
        "receptive_field": 3,
        "stride": 1,
    }
    assert plain["layers"][-1]["name"] == "logits"
    assert plain["layers"][-1]["parameters"] == 64 * 7 + 7
    assert len(plain["layers"]) == 1 + 9 + 1


def test_summary_as_text_folds_equal_units() -> None:
    lines = summarize("resnet_v1_20.cifar").describe().splitlines()
    assert lines[0] == "resnet_v1_20.cifar, input 3 x 32 x 32"
    assert [re.sub(r"  +", "|", line.strip()) for line in lines[1:9]] == [
        "unit|output|parameters|MFLOPs|sees",
        "stem|16 x 32 x 32|464|0.88|3",
        "stage1.unit1-3 x3|16 x 32 x 32|4,672|9.44|7-15",
        "stage2.unit1|32 x 16 x 16|13,952|7.08|21",
        "stage2.unit2-3 x2|32 x 16 x 16|18,560|9.44|29-37",
        "stage3.unit1|64 x 8 x 8|55,552|7.08|49",
        "stage3.unit2-3 x2|64 x 8 x 8|73,984|9.44|65-81",
        "logits|10|650|0.00|all",
    ]
    assert len({len(line) for line in lines[1:9]}) == 1
    assert lines[9] == "total 271,098 = 269,722 trainable + 1,376 statistics; 0.081 GFLOPs a picture"
    assert lines[10].startswith("training on 1 picture at once keeps ")
    assert lines[11].startswith("xN: ")


def test_what_differs_is_not_folded() -> None:
    def row(name: str, parameters: int, side: int = 4) -> Row:
        return Row(name, (8, side, side), parameters, 100, 3, 1, whole=False)

    def told(*rows: Row) -> list[str]:
        lines = Summary("x", (3, 4, 4), 1, 0, 100, rows, 1, 2**20).describe().splitlines()
        return [line.split()[0] for line in lines[2 : 2 + len(rows)] if line.startswith("  ")]

    assert told(row("a.unit9", 1), row("a.unit10", 1), row("a.unit11", 1)) == ["a.unit9-11"]
    assert told(row("a.unit1", 1), row("a.unit2", 2)) == ["a.unit1", "a.unit2"]
    assert told(row("a.unit1", 1), row("a.unit2", 1, 2)) == ["a.unit1", "a.unit2"]
    assert told(row("a.unit1", 1), row("b.unit2", 1)) == ["a.unit1", "b.unit2"]


def test_memory_in_words() -> None:
    def told(count: int, batch: int) -> str:
        return Summary("x", (3, 4, 4), 1, 0, 100, (Row("a", (1,), 1, 1, 1, 1, whole=True),), batch, count).describe()

    assert "training on 1,024 pictures at once keeps 1.5 GiB of activations" in told(3 * 2**29, 1024)
    assert "training on 1 picture at once keeps 2.0 MiB" in told(2**21, 1)
    assert "keeps 1.0 KiB" in told(2**10, 1)
    assert "keeps 1,000 bytes" in told(1000, 1)
    assert "xN" not in told(1000, 1)


def test_size_of_pictures_and_batch() -> None:
    small, large = summarize("resnet_v1_18.torchvision"), summarize("resnet_v1_18.torchvision", image_size=448)
    assert large.input_shape == (3, 448, 448)
    assert large.layers[0].shape == (64, 112, 112)
    assert small.trainable == large.trainable
    assert [row.flops for row in large.layers[:-1]] == [4 * row.flops for row in small.layers[:-1]]
    assert large.layers[-1] == dataclasses.replace(
        small.layers[-1], receptive_field=small.layers[-1].receptive_field + 7 * 32
    )
    assert 3.99 < large.activation_bytes / small.activation_bytes < 4
    batch = summarize("resnet_v1_18.torchvision", batch_size=10).activation_bytes
    # The fp32 means and variances of a batch are no larger for more pictures.
    assert batch == 10 * small.activation_bytes - 9 * 4 * small.statistics
    with pytest.raises(SpecError, match="the smallest is 39"):
        summarize("alexnet.caffe", image_size=38)


def test_no_classifier_no_classes() -> None:
    found = summarize("resnet_v1_20.cifar", num_classes=0)
    assert found.layers[-1].name == "stage3.unit3"
    with pytest.raises(SpecError):
        summarize("resnet_v1_20.cifar", num_classes=-1)


def test_an_unknown_network_has_its_nearest_named() -> None:
    with pytest.raises(UnknownNameError, match=r"nearest: resnet_v1_50\.signs"):
        summarize("resnet_v1_50.sigs")
