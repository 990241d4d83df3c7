"""Degradation: what its arms differ in, and when it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipway.claims.experiments.degradation import CLAIM
from tests.claims.residual import drawn, fields_that_differ, seeded

CLEAR = {
    "plain_20": (0.30, 0.31, 0.29),
    "plain_56": (0.50, 0.52, 0.48),
    "resnet_v1_20": (0.28, 0.29, 0.28),
    "resnet_v1_56": (0.29, 0.28, 0.28),
}
LOW = dict.fromkeys(CLEAR, (0.3, 0.3, 0.3))  # test errors, which must not matter


def test_only_depth_and_shortcuts_differ() -> None:
    # Plain nets have no shortcut to describe; everything else is the residual networks' own.
    units = {"architecture", "shortcut", "stride_in", "conv_bias", "projection", "padding", "pad", "carry", "gate_bias"}
    for depth in (20, 56):
        assert fields_that_differ(CLAIM, f"plain_{depth}", f"resnet_v1_{depth}") == units
    for family in ("plain", "resnet_v1"):
        assert fields_that_differ(CLAIM, f"{family}_20", f"{family}_56") == {"blocks"}


def test_the_full_budget_has_the_papers_depths_and_recipe() -> None:
    arms = {arm.name: arm for arm in CLAIM.arms("full")}
    assert set(arms) == {f"plain_{n}" for n in (20, 32, 44, 56)} | {f"resnet_v1_{n}" for n in (20, 32, 44, 56, 110)}
    assert {arm.recipe.pictures // arm.recipe.batch_size for arm in arms.values()} == {64_000}
    assert {name for name, arm in arms.items() if arm.recipe.warmup} == {"resnet_v1_110"}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "held"),
        # The deeper plain net trains better: not what is claimed.
        ({"plain_56": (0.20, 0.22, 0.19)}, "failed"),
        # The residual nets have a larger gap still.
        ({"resnet_v1_56": (0.70, 0.72, 0.69)}, "failed"),
        ({"plain_56": (0.30, 0.40, 0.25)}, "undecided"),
        # Residual nets with the same gap: the difference of the gaps is around 0.
        ({"resnet_v1_56": (0.48, 0.51, 0.46)}, "undecided"),
    ],
)
def test_the_verdict_follows_the_rule(changed: dict[str, tuple[float, ...]], word: str) -> None:
    found = CLAIM.judge(seeded(CLAIM, LOW, CLEAR | changed))
    assert found.verdict == word
    assert "training error" in found.reason


def test_the_gaps_are_told_in_points() -> None:
    *_, plain, residual, more = CLAIM.judge(seeded(CLAIM, LOW, CLEAR)).measures
    assert plain.values == pytest.approx((20, 21, 19))
    assert residual.values == pytest.approx((1, -1, 0), abs=1e-9)
    assert more.values == pytest.approx((19, 22, 19))


def test_one_seed_is_undecided() -> None:
    one = {arm: values[:1] for arm, values in CLEAR.items()}
    assert CLAIM.judge(seeded(CLAIM, one)).verdict == "undecided"


def test_the_figure_has_all_networks(tmp_path: Path) -> None:
    assert "<svg" in drawn(CLAIM, seeded(CLAIM, LOW, CLEAR), tmp_path)
    names = [arm.name for arm in CLAIM.arms("full")]
    results = seeded(CLAIM, dict.fromkeys(names, (0.1, 0.2)), budget="full")
    left, right = CLAIM.draw(results).axes
    told = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (left, right)]
    assert told == [[f"plain-{n}" for n in (20, 32, 44, 56)], [f"ResNet-{n}" for n in (20, 32, 44, 56, 110)]]
