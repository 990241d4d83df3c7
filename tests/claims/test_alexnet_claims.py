"""The claims of the AlexNet paper: what their arms differ in, and what their rules say of made-up runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import pytest
import torch

from skipway.claims.arm import Arm
from skipway.claims.catalog import find_claim
from skipway.claims.figures import figure_style
from skipway.claims.networks import eight_layers, without_conv
from skipway.claims.results import Results, Trial

NAMES = ("relu-vs-tanh", "lrn", "overlapping-pooling", "dropout", "augmentation", "depth-matters")


def differing(arms: Sequence[Arm]) -> set[str]:
    """Fields in which not all arms agree, of the spec, the recipe and the pictures."""
    plain = [
        {f"spec.{key}": value for key, value in one.spec.to_dict().items()}
        | {f"recipe.{key}": value for key, value in asdict(one.recipe).items()}
        | {"data": (one.data, one.pictures, one.test_pictures)}
        for one in arms
    ]
    return {key for key in plain[0] if any(one[key] != plain[0][key] for one in plain)}


@pytest.mark.parametrize("budget", ["quick", "full"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("relu-vs-tanh", {"spec.conv_activation", "recipe.learning_rate"}),
        ("lrn", {"spec.convs"}),
        ("overlapping-pooling", {"spec.pool"}),
        ("dropout", {"recipe.dropout"}),
        ("augmentation", {"recipe.augmentation"}),
        ("depth-matters", {"spec.convs", "spec.name"}),
    ],
)
def test_arms_differ_only_in_what_the_claim_is_about(name: str, budget: Any, fields: set[str]) -> None:
    assert differing(find_claim(name).arms(budget)) == fields


@pytest.mark.parametrize("number", range(1, 6))
def test_a_network_without_a_convolution_keeps_the_sizes_of_the_others(number: int) -> None:
    whole, less = eight_layers(), without_conv(eight_layers(), number)
    assert len(less.convs) == len(whole.convs) - 1
    assert less.map_size(32) == whole.map_size(32)
    assert [row.after for row in less.convs if row.after] == [row.after for row in whole.convs if row.after]
    assert less.build()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("name", NAMES)
def test_no_two_arms_are_the_same_run(name: str) -> None:
    arms = find_claim(name).arms("quick")
    assert all(differing([one, other]) - {"spec.name"} for one, other in combinations(arms, 2))


def trial(arm: str, seed: int, last: float, train: float = 0.1) -> Trial:
    """A run whose errors fall on a line from 0.9 to `last`."""
    falling = [0.9, (0.9 + last) / 2, last]
    curve = dict.fromkeys(("train_error", "test_error", "train_loss", "test_loss"), falling) | {"step": [100, 200, 300]}
    return Trial(arm, seed, curve, {"train_error": train})


def results(
    name: str, last: Mapping[str, Sequence[float]], train: Mapping[str, Sequence[float]] | None = None
) -> Results:
    labels = {arm.name: arm.label for arm in find_claim(name).arms("quick")}
    trials = [
        trial(arm, seed, value, (train or last)[arm][seed])
        for arm, values in last.items()
        for seed, value in enumerate(values)
    ]
    return Results(labels, trials)


LOW, HIGH, MIXED = (0.20, 0.21, 0.20), (0.30, 0.31, 0.31), (0.10, 0.40, 0.20)

CASES = [
    ("relu-vs-tanh", {"relu": LOW, "tanh": HIGH, "sigmoid": (0.9, 0.9, 0.9)}, "held"),
    ("relu-vs-tanh", {"relu": (0.24, 0.239, 0.24), "tanh": (0.1, 0.11, 0.1), "sigmoid": HIGH}, "failed"),
    ("relu-vs-tanh", {"relu": HIGH, "tanh": LOW, "sigmoid": HIGH}, "undecided"),
    ("lrn", {"without": HIGH, "with": LOW}, "held"),
    ("lrn", {"without": LOW, "with": HIGH}, "failed"),
    ("lrn", {"without": MIXED, "with": LOW}, "undecided"),
    ("overlapping-pooling", {"apart": HIGH, "overlapping": LOW}, "held"),
    ("overlapping-pooling", {"apart": LOW, "overlapping": HIGH}, "failed"),
    ("augmentation", {"none": HIGH, "crops": MIXED, "mirrors": MIXED, "colour": LOW}, "held"),
    ("augmentation", {"none": LOW, "crops": MIXED, "mirrors": MIXED, "colour": HIGH}, "failed"),
    ("depth-matters", {"whole": LOW} | {f"without-conv{n}": HIGH for n in range(1, 6)}, "held"),
    ("depth-matters", {"whole": HIGH} | {f"without-conv{n}": LOW for n in range(1, 6)}, "failed"),
    (
        "depth-matters",
        {"whole": LOW} | {f"without-conv{n}": HIGH for n in range(1, 5)} | {"without-conv5": MIXED},
        "undecided",
    ),
]


@pytest.mark.parametrize(("name", "last", "word"), CASES)
def test_the_verdict_follows_the_rule(name: str, last: dict[str, Sequence[float]], word: str) -> None:
    claim, made = find_claim(name), results(name, last)
    outcome = claim.judge(made)
    assert outcome.verdict == word, outcome.reason
    assert outcome.reason
    with figure_style():
        claim.draw(made).canvas.draw()


@pytest.mark.parametrize(("with_train", "word"), [(LOW, "held"), ((0.0, 0.0, 0.0), "failed")])
def test_dropout_is_judged_by_the_gap_with_nothing_dropped(with_train: Sequence[float], word: str) -> None:
    made = results("dropout", {"without": HIGH, "with": HIGH}, {"without": (0.1, 0.11, 0.12), "with": with_train})
    assert find_claim("dropout").judge(made).verdict == word


def test_a_run_that_never_gets_there_counts_with_all_its_updates() -> None:
    made = results("relu-vs-tanh", {"relu": LOW, "tanh": HIGH, "sigmoid": HIGH})
    rows = {row.name: row for row in find_claim("relu-vs-tanh").judge(made).measures}
    assert rows["tanh: updates to 25 % training error"].values == (None, None, None)
    ratio = rows["tanh: times the updates of ReLU, at least"]
    relu = rows["ReLU: updates to 25 % training error"].values
    assert ratio.values == pytest.approx([300 / one for one in relu if one is not None])
    assert ratio.interval is not None
    assert ratio.interval.low > 1
