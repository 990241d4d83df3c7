"""Shortcut options: what the arms differ in, and when it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipway.claims.experiments.shortcuts import CLAIM
from tests.claims.residual import drawn, fields_that_differ, seeded

CLEAR = {
    "plain": (0.50, 0.51, 0.49),
    "A": (0.400, 0.410, 0.395),
    "B": (0.402, 0.408, 0.399),
    "C": (0.398, 0.411, 0.393),
}


def test_only_the_shortcut_differs() -> None:
    assert fields_that_differ(CLAIM, "A", "B") == fields_that_differ(CLAIM, "B", "C") == {"shortcut"}
    units = {"architecture", "shortcut", "stride_in", "conv_bias", "projection", "padding", "pad", "carry", "gate_bias"}
    assert fields_that_differ(CLAIM, "plain", "A") == units


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "held"),
        ({"plain": (0.30, 0.31, 0.29)}, "failed"),  # the plain net is better
        ({"plain": (0.45, 0.35, 0.42)}, "undecided"),
        ({"B": (0.40, 0.30, 0.50)}, "undecided"),  # too wide an interval
        # B differs by 20 points, more than the residual nets gain.
        ({"B": (0.20, 0.21, 0.19), "plain": (0.41, 0.42, 0.40)}, "failed"),
    ],
)
def test_the_verdict_follows_the_rule(changed: dict[str, tuple[float, ...]], word: str) -> None:
    assert CLAIM.judge(seeded(CLAIM, CLEAR | changed)).verdict == word


def test_the_sign_of_a_difference_does_not_matter() -> None:
    worse, better = ({"C": tuple(one + sign * 0.2 for one in CLEAR["A"])} for sign in (1, -1))
    assert CLAIM.judge(seeded(CLAIM, CLEAR | worse)).verdict != "held"
    assert CLAIM.judge(seeded(CLAIM, CLEAR | better)).verdict != "held"


def test_one_seed_is_undecided() -> None:
    one = {arm: values[:1] for arm, values in CLEAR.items()}
    assert CLAIM.judge(seeded(CLAIM, one)).verdict == "undecided"


def test_the_table_pairs_all_options() -> None:
    *_, ab, ac, bc, gain = CLAIM.judge(seeded(CLAIM, CLEAR)).measures
    assert [ab.name, ac.name, bc.name] == ["A minus B", "A minus C", "B minus C"]
    assert bc.values == pytest.approx((0.4, -0.3, 0.6), abs=1e-9)
    assert gain.values == pytest.approx((10.0, 10.0333, 9.4333), abs=1e-3)


def test_the_figure_has_a_bar_an_arm(tmp_path: Path) -> None:
    results = seeded(CLAIM, CLEAR)
    assert "<svg" in drawn(CLAIM, results, tmp_path)
    _, right = CLAIM.draw(results).axes
    assert [text.get_text().split(":")[0] for text in right.get_xticklabels()] == ["plain", "A", "B", "C"]
    assert sorted(round(bar.get_height(), 2) for bar in right.patches) == [40.07, 40.17, 40.3, 50.0]
