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
        spread = self.high - self.low
        mean = digits(self.mean, spread)
        low = digits(self.low, spread)
        high = digits(self.high, spread)
        text = f"{mean} {unit} (95 % interval {low} to {high}, n = {self.n})"
        return text.replace("  ", " ")  # where there is no unit


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean's interval for two or more values. Raises ValueError for fewer."""
    from scipy.stats import t

    sample = np.asarray(values, float)
    count = len(sample)
    if count < 2:
        raise ValueError("an interval needs two values or more")
    mean = float(sample.mean())
    deviation = float(sample.std(ddof=1))
    quantile = float(t.ppf((1 + LEVEL) / 2, count - 1))
    reach = quantile * deviation / math.sqrt(count)
    return Interval(mean, deviation, mean - reach, mean + reach, count)


def ratio_interval(above: Sequence[float] | np.ndarray, below: Sequence[float] | np.ndarray) -> Interval:
    """The geometric mean of paired ratios. The interval is that of their logarithms; `sd` is a factor, too."""
    ratios = np.asarray(above, float) / np.asarray(below, float)
    logarithms = mean_interval(np.log(ratios))
    return Interval(
        mean=math.exp(logarithms.mean),
        sd=math.exp(logarithms.sd),
        low=math.exp(logarithms.low),
        high=math.exp(logarithms.high),
        n=logarithms.n,
    )


def steps_to(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    """The step at which a falling curve first reaches `target`, on the line between two points; NaN where never."""
    below = np.flatnonzero(values <= target)
    if not len(below):
        return math.nan
    end = int(below[0])
    if end == 0:
        return float(steps[0])
    before = values[end - 1]
    share = (before - target) / (before - values[end])
    return float(steps[end - 1] + share * (steps[end] - steps[end - 1]))


def digits(value: float, scale: float) -> str:
    """A number with as many digits as a spread of `scale` deserves: two of the spread's own."""
    places = 2
    if scale > 0 and math.isfinite(scale):
        magnitude = math.floor(math.log10(scale))
        places = min(max(1 - magnitude, 0), 6)
    return f"{value:,.{places}f}"
