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
    QUICK_TEST_PICTURES,
    draw_curves,
    draw_ends,
    full_recipe,
    late,
    late_errors,
    on_smaller_maps,
    quick_recipe,
)
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, SPREAD, footed, panels
from skipway.claims.results import Measure, Outcome, Results, Word, judged, measure
from skipway.claims.statistics import Interval
from skipway.models.catalog import find_spec

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
    depth = _DEPTH[budget]
    row = find_spec(f"resnet_v1_{depth}.cifar")
    networks = [(name, label, row.replaced({"shortcut": kind})) for name, (label, kind) in _OPTIONS.items()]
    networks.insert(0, ("plain", "plain", find_spec(f"plain_{depth}.cifar")))
    if budget == "full":
        return tuple(Arm(name, label, spec, full_recipe()) for name, label, spec in networks)
    recipe = quick_recipe()
    return tuple(
        Arm(name, label, on_smaller_maps(spec), recipe, "cifar10", QUICK_PICTURES, QUICK_TEST_PICTURES)
        for name, label, spec in networks
    )


def _judge(results: Results) -> Outcome:
    errors = {arm: late(results, arm, "test_error") for arm in results.labels}
    residual = np.mean([errors[arm] for arm in _OPTIONS], axis=0)
    gain = measure("plain minus the mean of A, B, C", "points", errors["plain"] - residual)
    pairs = [measure(f"{a} minus {b}", "points", errors[a] - errors[b]) for a, b in combinations(_OPTIONS, 2)]
    word, reason = _verdict(gain, pairs)
    return Outcome(word, reason, (*late_errors(results), *pairs, gain))


def _verdict(gain: Measure, pairs: list[Measure]) -> tuple[Word, str]:
    word, reason = judged(gain)
    if word != "held" or gain.interval is None:
        return word, reason
    largest = max(pairs, key=_outer)
    told = f"{reason}; the options differ most in {largest.name}"
    told += f", {largest.interval.describe('points')}" if largest.interval is not None else ""
    if _outer(largest) < gain.interval.low:
        return "held", told
    apart = [one.name for one in pairs if _inner(one) > gain.interval.high]
    return ("failed", f"{told}; {', '.join(apart)} exceeds it") if apart else ("undecided", f"{told}: too wide to tell")


def _outer(pair: Measure) -> float:
    """The largest difference, of either sign, that the interval holds."""
    return np.inf if pair.interval is None else max(abs(pair.interval.low), abs(pair.interval.high))


def _inner(pair: Measure) -> float:
    """The smallest difference, of either sign, that the interval holds."""
    found: Interval | None = pair.interval
    return 0.0 if found is None or found.low <= 0 <= found.high else min(abs(found.low), abs(found.high))


def _draw(results: Results) -> Figure:
    """Left the curves; right the table as bars."""
    figure, (left, right) = panels(2, height=4.0)
    draw_curves(left, results, dict(zip(results.labels, COLOURS, strict=False)))
    draw_ends(right, results, results.labels)
    left.set(title="Curves")
    right.set(title="Test error at the end")
    text = f"CIFAR-10, n = {len(results.seeds)} seeds, dots on the right; bars: means, black ticks: mean training error"
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
