"""Where the stride is: what the arms differ in, when it holds, and that speeds decide nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from skipway.claims.arm import Budget
from skipway.claims.experiments.v1_vs_v1_5 import CLAIM
from skipway.claims.finished import Finished
from tests.claims.residual import drawn, fields_that_differ, seeded

CLEAR = {"v1": (0.30, 0.31, 0.29, 0.30, 0.30), "v1.5": (0.28, 0.29, 0.28, 0.28, 0.27)}
TIMES = {"v1.5": {"v1": 200.0, "v1.5": 190.0, "ratio": 0.94}}


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_only_the_place_of_the_stride_differs(budget: Budget) -> None:
    assert fields_that_differ(CLAIM, "v1", "v1.5", budget) == {"stride_in"}


def test_the_quick_network_has_26_layers_and_three_strides() -> None:
    spec = CLAIM.arms("quick")[0].spec.to_dict()
    rows = [row for block in spec["blocks"] for row in block["rows"]]
    assert 3 * len(rows) + 2 == 26
    assert [stride for _, _, stride in rows if stride > 1] == [2, 2, 2]


@pytest.mark.parametrize(
    ("newer", "word"),
    [
        (CLEAR["v1.5"], "held"),
        ((0.34, 0.35, 0.33, 0.33, 0.36), "failed"),
        ((0.28, 0.34, 0.28, 0.31, 0.30), "undecided"),
    ],
)
def test_the_verdict_follows_the_rule(newer: tuple[float, ...], word: str) -> None:
    assert CLAIM.judge(seeded(CLAIM, CLEAR | {"v1.5": newer}, times=TIMES)).verdict == word


def test_speeds_stand_in_the_table_and_not_in_the_reason() -> None:
    quick = CLAIM.judge(seeded(CLAIM, CLEAR, times=TIMES))
    slow = CLAIM.judge(seeded(CLAIM, CLEAR, times={"v1.5": {"v1": 2.0, "v1.5": 190.0}}))
    assert (quick.verdict, quick.reason) == (slow.verdict, slow.reason)
    assert [one.unit for one in quick.measures[-3:]] == ["pictures/s", "pictures/s", "speed"]
    assert quick.measures[-1].values == pytest.approx([0.94] * 5)


def test_both_networks_are_timed_beside_one_of_them() -> None:
    class Stub:
        """A finished run whose pictures are noise."""

        device = torch.device("cpu")

        def __init__(self, arm: Any) -> None:
            self.arm = arm

        def batch(self, name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.rand(4, 3, 32, 32), torch.arange(4)

    assert CLAIM.look is not None
    first, second = (CLAIM.look(cast("Finished", Stub(arm))) for arm in CLAIM.arms("quick"))
    assert first == {}
    assert set(second) == {"times"}
    assert set(second["times"]) == {"v1", "v1.5", "ratio"}
    assert all(speed > 0 for speed in second["times"].values())


@pytest.mark.slow
def test_the_figure_has_three_panels(tmp_path: Path) -> None:
    results = seeded(CLAIM, CLEAR, times=TIMES)
    assert "<svg" in drawn(CLAIM, results, tmp_path)
    left, middle, right = CLAIM.draw(results).axes
    assert left.get_ylabel() == "error (%)"
    # Of each arm the dots, the mean, the interval.
    assert middle.lines[1].get_ydata() == pytest.approx([30.0, 30.0])
    assert right.lines[0].get_ydata() == pytest.approx([TIMES["v1.5"]["ratio"]] * len(results.seeds))
