"""The table of networks, and what it says of public weights."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from torchvision.models import get_model_weights

from skipway.drawing.table import accuracy, giga, model_rows, models_table, short_paper
from skipway.errors import UnknownNameError
from skipway.models.catalog import find_entry, list_models
from skipway.models.rows.entry import Published


@cache
def all_rows() -> list[dict[str, Any]]:
    return model_rows()


def test_every_network_has_a_row() -> None:
    assert [row["name"] for row in all_rows()] == list_models()
    assert len(all_rows()) >= 55
    for row in all_rows():
        entry = find_entry(row["name"])
        assert row["trainable"] == entry.parameters
        assert row["total"] >= row["trainable"] > 0
        assert row["flops"] > 0
        assert (row["year"], row["paper"], row["source"]) == (entry.spec.year, entry.spec.paper, entry.spec.source)
        assert row["input"] == [entry.spec.in_channels, entry.spec.input_size, entry.spec.input_size]


def test_a_row_as_plain_values() -> None:
    (row,) = json.loads(json.dumps(model_rows("alexnet.owt")))
    assert row.keys() >= {"name", "total", "trainable", "flops", "year", "source", "paper", "section", "input"}
    assert row["published"] == [
        {"file": "alexnet-owt-7be5be79.pth", "top1": 0.56522, "top5": 0.79066, "said_by": "torchvision"}
    ]
    assert row["deviations"]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("alexnet.owt", "alexnet"),
        *((f"resnet_v1_{depth}.torchvision", f"resnet{depth}") for depth in (18, 34, 50, 101, 152)),
    ],
)
def test_torchvisions_weights_are_as_torchvision_describes_them(name: str, theirs: str) -> None:
    entry = find_entry(name)
    weights = list(get_model_weights(theirs))
    assert [one.file for one in entry.published] == [one.url.rpartition("/")[2] for one in weights]
    for ours, one in zip(entry.published, weights, strict=True):
        metrics = one.meta["_metrics"]["ImageNet-1K"]
        assert (ours.top1, ours.top5) == pytest.approx((metrics["acc@1"] / 100, metrics["acc@5"] / 100), abs=1e-9)
        assert entry.parameters == one.meta["num_params"]


@pytest.mark.parametrize("name", list_models())
def test_published_accuracies_are_fractions(name: str) -> None:
    for one in find_entry(name).published:
        assert one.file
        assert one.said_by
        assert one.top1 is None or 0.5 < one.top1 < 0.98
        assert one.top5 is None or (one.top1 is not None and one.top1 < one.top5 < 0.98)


def test_the_table_as_text() -> None:
    lines = models_table(all_rows()).splitlines()
    table = lines[: len(all_rows()) + 1]
    assert table[0].split() == [
        *("name", "parameters", "GFLOPs", "year", "paper"),
        *("source", "of", "the", "layout", "weights"),
    ]
    assert max(map(len, table)) <= 120
    for row, line in zip(all_rows(), table[1:], strict=True):
        assert line.split()[:2] == [row["name"], f"{row['trainable']:,}"]
        assert line[table[0].index("year") :].startswith(f"{row['year']}  {short_paper(row['paper'])}")
    (owt,) = (line for line in table if line.startswith("alexnet.owt"))
    assert owt.split()[-4:] == ["torchvision/models/alexnet.py", "56.52", "/", "79.07"]
    assert lines[len(table)].startswith("GFLOPs: for one picture")


def test_public_weights_in_words() -> None:
    def told(*published: Published) -> str:
        row = model_rows("alexnet.mnist")[0] | {"published": [vars(one) for one in published]}
        return models_table([row]).splitlines()[1]

    assert told().endswith("  none")
    assert told(Published("x", None)).endswith("  unknown")
    assert told(Published("x", 0.5, 0.75), Published("z", None), Published("y", 0.9173)).endswith("  91.73")
    assert told(Published("x", 0.5, 0.75)).endswith("  50.00 / 75.00")
    assert accuracy(Published("x", None)) == ""


def test_short_forms() -> None:
    assert short_paper('He, Zhang, Ren, Sun 2015, "Deep residual learning"') == "He 2015"
    assert short_paper('Krizhevsky 2014, "One weird trick"') == "Krizhevsky 2014"
    assert short_paper("unpublished") == "unpublished"
    assert (giga(8_178_000_000), giga(81_102_080), giga(170_000)) == ("8.178", "0.081", "0.00017")


def test_a_pattern_chooses_rows() -> None:
    assert [row["name"] for row in model_rows("alexnet.*")] == list_models("alexnet.*")


def test_a_pattern_without_a_match_says_what_would() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'resnet_v3_\*'; the nearest: resnet_v.*`skipway models`"
    ):
        model_rows("resnet_v3_*")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("highway_mlp_7", "highway_mlp_7"),
        ("plain_mlp_7", "plain_mlp_7"),
        ("resnet_v1_50", "resnet_v1_50.original"),
        ("alexnet", "alexnet.caffe"),
    ],
)
def test_a_name_that_other_commands_take_is_a_row(name: str, row: str) -> None:
    assert [one["name"] for one in model_rows(name)] == [row]
