"""Intervals, and the step at which a curve comes down."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skipway.claims.statistics import digits, mean_interval, ratio_interval, steps_to


def test_the_interval_is_students() -> None:
    # Of 1, 2, 3: mean 2, deviation 1; Student's quantile with 2 degrees of freedom is 4.302653.
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.sd, found.n) == (2.0, 1.0, 3)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two values"):
        mean_interval([1.0])


def test_ratios_are_averaged_as_factors() -> None:
    found = ratio_interval([2.0, 8.0], [1.0, 1.0])
    assert found.mean == pytest.approx(4.0)
    assert found.low * found.high == pytest.approx(16.0)
    assert found.low < 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.5, 0.3, 0.1], 22.5), ([0.2, 0.1, 0.1], 10.0), ([0.5, 0.25, 0.4], 20.0), ([0.9, 0.8, 0.7], math.nan)],
)
def test_the_step_of_a_target(values: list[float], expected: float) -> None:
    found = steps_to(np.array([10.0, 20.0, 30.0]), np.array(values), 0.25)
    assert found == pytest.approx(expected, nan_ok=True)


def test_digits_follow_the_spread() -> None:
    assert digits(12.3456, 0.5) == "12.35"
    assert digits(1234.5, 300.0) == "1,234"
    assert digits(1.0, 0.0) == "1.00"
