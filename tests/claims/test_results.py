"""Verdicts: what decides, and what is too little to."""

from __future__ import annotations

import math

import pytest

from skipway.claims.results import Results, Trial, judged, measure


def trial(arm: str, seed: int, error: float) -> Trial:
    curve = {name: [0.9, error] for name in ("train_error", "test_error", "train_loss", "test_loss")} | {
        "step": [10.0, 20.0]
    }
    return Trial(arm, seed, curve, {"norms": [error, 2 * error]})


@pytest.mark.parametrize(
    ("values", "margin", "word"),
    [
        ([1.0, 1.1, 0.9], 0.0, "held"),
        ([-1.0, -1.1, -0.9], 0.0, "failed"),
        ([1.0, -1.0, 0.5], 0.0, "undecided"),
        ([1.0, 1.1, 0.9], 1.0, "undecided"),
        ([1.0, 1.1, 0.9], 2.0, "failed"),
        ([5.0], 0.0, "undecided"),
        ([5.0, math.nan, 5.1], 0.0, "undecided"),
        ([], 0.0, "undecided"),
    ],
)
def test_the_whole_interval_decides(values: list[float], margin: float, word: str) -> None:
    found, reason = judged(measure("effect", "points", values), margin=margin)
    assert found == word
    assert "effect" in reason
    if word == "undecided" and len(values) < 3:
        assert "--seeds" in reason


def test_results_are_paired_by_seed() -> None:
    results = Results(
        {"a": "A", "b": "B"},
        [trial("b", 1, 0.4), trial("a", 1, 0.2), trial("a", 0, 0.1), trial("b", 0, 0.3)],
    )
    assert results.seeds == (0, 1)
    assert (results.last("b", "test_error") - results.last("a", "test_error")).tolist() == pytest.approx([0.2, 0.2])
    assert results.looked("a", "norms").shape == (2, 2)
    steps, values = results.curves("a", "train_error")
    assert steps.tolist() == [10, 20]
    assert values.shape == (2, 2)
    assert [one.name for one in results.errors("b")] == ["B: train error", "B: test error"]


def test_a_measure_without_a_value_has_no_interval() -> None:
    found = measure("steps", "updates", [100.0, math.nan])
    assert found.values == (100.0, None)
    assert found.interval is None
