"""Means with their spread. All intervals are Student's, at 95 %, over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds, the sample's standard deviation, and the 95 % confidence interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float
    n: int

    def describe(self, unit: str) -> str:
        """`1.23 points (95 % interval 0.98 to 1.48, n = 3)`."""
        numbers = [digits(one, self.high - self.low) for one in (self.mean, self.low, self.high)]
        return f"{numbers[0]} {unit} (95 % interval {numbers[1]} to {numbers[2]}, n = {self.n})".replace("  ", " ")


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean's interval for two or more values. Raises ValueError for fewer."""
    from scipy.stats import t

    sample = np.asarray(values, float)
    if len(sample) < 2:
        raise ValueError("an interval needs two values or more")
    mean, deviation = float(sample.mean()), float(sample.std(ddof=1))
    reach = float(t.ppf((1 + LEVEL) / 2, len(sample) - 1)) * deviation / math.sqrt(len(sample))
    return Interval(mean, deviation, mean - reach, mean + reach, len(sample))


def ratio_interval(above: Sequence[float] | np.ndarray, below: Sequence[float] | np.ndarray) -> Interval:
    """The geometric mean of paired ratios; the interval is that of their logarithms. `sd` is a factor, too."""
    found = mean_interval(np.log(np.asarray(above, float) / np.asarray(below, float)))
    mean, deviation, low, high = (math.exp(one) for one in (found.mean, found.sd, found.low, found.high))
    return Interval(mean, deviation, low, high, found.n)


def steps_to(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    """The step at which a falling curve first reaches `target`, on the line between two points; NaN where never."""
    below = np.flatnonzero(values <= target)
    if not len(below):
        return math.nan
    end = int(below[0])
    if end == 0:
        return float(steps[0])
    share = (values[end - 1] - target) / (values[end - 1] - values[end])
    return float(steps[end - 1] + share * (steps[end] - steps[end - 1]))


def digits(value: float, scale: float) -> str:
    """A number with as many digits as a spread of `scale` deserves: two of the spread's own."""
    places = 2 if scale <= 0 or not math.isfinite(scale) else min(max(1 - math.floor(math.log10(scale)), 0), 6)
    return f"{value:,.{places}f}"
