"""Identity mappings: what the arms differ in, and when it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipway.claims.experiments.identity_mappings import CLAIM
from tests.claims.residual import drawn, fields_that_differ, seeded

VARIANTS = ("scale", "exclusive_gate", "shortcut_gate", "projection", "dropout")
CLEAR = {
    "v1_110": (0.50, 0.52, 0.49),
    "v2_110": (0.40, 0.41, 0.39),
    "original": (0.30, 0.31, 0.30),
    "scale": (0.40, 0.42, 0.40),
    "exclusive_gate": (0.35, 0.36, 0.35),
    "shortcut_gate": (0.33, 0.34, 0.32),
    "projection": (0.31, 0.31, 0.30),
    "dropout": (0.50, 0.51, 0.53),
}


def test_variants_differ_in_the_shortcut_alone() -> None:
    for name in VARIANTS:
        wanted = {"shortcut"} if name == "projection" else {"carry"}
        assert fields_that_differ(CLAIM, "original", name) == wanted
        assert fields_that_differ(CLAIM, "v1_110", name, "full") == wanted


def test_the_two_versions_have_the_same_units() -> None:
    full = {arm.name: arm for arm in CLAIM.arms("full")}
    for depth in (110, 164, 1001):
        one, other = (full[f"v{version}_{depth}"].spec.to_dict() for version in (1, 2))
        assert (one["architecture"], other["architecture"]) == ("resnet_v1", "resnet_v2")
        for field in ("blocks", "stem", "norm", "shortcut", "stride_in", "head", "initialization", "weight_decay"):
            if field == "stride_in" and depth == 110:
                continue  # basic units have one stride only, and one place for it
            assert one[field] == other[field], (depth, field)
        assert full[f"v1_{depth}"].recipe == full[f"v2_{depth}"].recipe


@pytest.mark.parametrize(
    ("changed", "word", "told"),
    [
        ({}, "held", "v1 minus v2 with 110 layers"),
        ({"v2_110": (0.60, 0.62, 0.60)}, "failed", "wrong side"),
        ({"v2_110": (0.50, 0.40, 0.60)}, "undecided", "more seeds"),
        (dict.fromkeys(VARIANTS, (0.2, 0.21, 0.2)), "failed", "better than the identity here: scaled by 0.5"),
        # Worse in the mean, but one of them is better: the claim is about each.
        ({"projection": (0.25, 0.25, 0.25)}, "undecided", "better than the identity here: 1x1 conv"),
    ],
)
def test_the_verdict_follows_the_rule(changed: dict[str, tuple[float, ...]], word: str, told: str) -> None:
    found = CLAIM.judge(seeded(CLAIM, CLEAR | changed))
    assert found.verdict == word
    assert told in found.reason


def test_one_seed_is_undecided() -> None:
    one = {arm: values[:1] for arm, values in CLEAR.items()}
    assert CLAIM.judge(seeded(CLAIM, one)).verdict == "undecided"


def test_the_greatest_depth_decides_at_the_full_budget() -> None:
    errors = dict.fromkeys((arm.name for arm in CLAIM.arms("full")), (0.5, 0.5, 0.5))
    errors |= {"v1_1001": (0.6, 0.61, 0.6), "v1_110": (0.4, 0.4, 0.41), "v2_110": (0.45, 0.45, 0.46)}
    found = CLAIM.judge(seeded(CLAIM, errors, budget="full"))
    assert found.verdict == "held"
    assert "1001 layers" in found.reason


@pytest.mark.slow
def test_the_figure_has_a_panel_a_depth_and_the_table(tmp_path: Path) -> None:
    results = seeded(CLAIM, CLEAR)
    assert "<svg" in drawn(CLAIM, results, tmp_path)
    _, right = CLAIM.draw(results).axes
    assert len(right.patches) == 1 + len(VARIANTS)
    full = seeded(CLAIM, dict.fromkeys((arm.name for arm in CLAIM.arms("full")), (0.5, 0.4)), budget="full")
    assert len(CLAIM.draw(full).axes) == 4
