"""Zero-padded or projected shortcuts: it hardly matters (He et al. 2015, section 4.1, table 3, options A, B, C)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from skipway.claims.arm import Arm, Budget
from skipway.claims.cifar import (
    LATE,
    QUICK_EPOCHS,
    QUICK_PICTURES,
    draw_curves,
    draw_ends,
    full_or_quick_arm,
    late,
    late_errors,
)
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, SPREAD, footed, panels
from skipway.claims.results import Measure, Outcome, Results, Word, judged, measure
from skipway.models.catalog import find_spec
from skipway.reporting import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Arm and label, then the value of the row's `shortcut`.
_OPTIONS = {
    "A": ("A: zeros", "pad"),
    "B": ("B: projection\nwhere depths differ", "projection"),
    "C": ("C: projection\neverywhere", "projection_all"),
}
_DEPTH: dict[Budget, int] = {"quick": 20, "full": 56}


def _arms(budget: Budget) -> tuple[Arm, ...]:
    """A plain network, and the residual one of that depth with each kind of shortcut."""
    depth = _DEPTH[budget]
    plain = find_spec(f"plain_{depth}.cifar")
    residual = find_spec(f"resnet_v1_{depth}.cifar")
    found = [full_or_quick_arm("plain", "plain", plain, budget)]
    for name, (label, kind) in _OPTIONS.items():
        spec = residual.replaced({"shortcut": kind})
        found.append(full_or_quick_arm(name, label, spec, budget))
    return tuple(found)


def _judge(results: Results) -> Outcome:
    """Judges the differences between the options beside what residual networks gain at all."""
    errors = {arm: late(results, arm, "test_error") for arm in results.labels}
    residual = np.mean([errors[arm] for arm in _OPTIONS], axis=0)
    gain = measure("plain minus the mean of A, B, C", "points", errors["plain"] - residual)
    pairs = []
    for first, second in combinations(_OPTIONS, 2):
        difference = errors[first] - errors[second]
        pairs.append(measure(f"{first} minus {second}", "points", difference))
    word, reason = _verdict(gain, pairs)
    return Outcome(word, reason, (*late_errors(results), *pairs, gain))


def _verdict(gain: Measure, pairs: list[Measure]) -> tuple[Word, str]:
    """The verdict by the rule, and why."""
    word, reason = judged(gain)
    if word != "held" or gain.interval is None:
        return word, reason
    largest = max(pairs, key=_largest_difference)
    reason = f"{reason}; the options differ most in {largest.name}"
    if largest.interval is not None:
        reason += f", {largest.interval.describe('points')}"
    if _largest_difference(largest) < gain.interval.low:
        return "held", reason
    apart = [pair.name for pair in pairs if _smallest_difference(pair) > gain.interval.high]
    if apart:
        return "failed", f"{reason}; {', '.join(apart)} exceeds it"
    return "undecided", f"{reason}: too wide to tell"


def _largest_difference(pair: Measure) -> float:
    """The largest difference, of either sign, that the interval holds."""
    interval = pair.interval
    if interval is None:
        return np.inf
    return max(abs(interval.low), abs(interval.high))


def _smallest_difference(pair: Measure) -> float:
    """The smallest difference, of either sign, that the interval holds."""
    interval = pair.interval
    if interval is None or interval.low <= 0 <= interval.high:
        return 0.0
    return min(abs(interval.low), abs(interval.high))


def _draw(results: Results) -> Figure:
    """Left the curves; right the table as bars."""
    figure, (left, right) = panels(2, height=4.0)
    colours = dict(zip(results.labels, COLOURS, strict=False))
    draw_curves(left, results, colours)
    draw_ends(right, results, results.labels)
    left.set(title="Curves")
    right.set(title="Test error at the end")
    seeds = counted(len(results.seeds), "seed")
    text = f"CIFAR-10, n = {seeds}, dots on the right; bars: means, black ticks: mean training error"
    footed(figure, f"{text}. {SPREAD}.")
    return figure


CLAIM = Claim(
    name="shortcuts",
    sentence="Whether shortcuts pad with zeros or project hardly matters: projections are not what cures degradation.",
    source="He, Zhang, Ren, Sun 2015, Deep residual learning for image recognition, section 4.1, table 3",
    reported="ImageNet, top-1 error with ten crops: plain-34 28.54 %, ResNet-34 with option A 25.03 %, B 24.52 %, C "
    "24.19 %",
    rule=f"The test error is {LATE}. D is the 95 % interval, paired by seed, of the plain net minus the mean of A, B "
    "and C. Held when D lies above 0 and every interval of A - B, A - C and B - C lies within the lower end of D, of "
    "either sign; failed when D lies below 0, or above it with one of those differences beyond D; else undecided.",
    said={
        "quick": f"CIFAR-10 with 20 layers instead of ImageNet with 34; {QUICK_PICTURES:,} pictures an epoch and "
        f"{QUICK_EPOCHS} epochs; a stride of 2 in the first convolution of all four networks, which quarters their "
        "work; batches of 32 instead of 128",
        "full": "CIFAR-10 with 56 layers, 64,000 updates on all 50,000 training pictures, instead of ImageNet with 34",
    },
    seeds={"quick": 5, "full": 3},
    arms=_arms,
    judge=_judge,
    draw=_draw,
)
