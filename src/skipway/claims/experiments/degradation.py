"""Deeper plain nets train worse; residual ones do not (He et al. 2015, figs. 1, 4, 6)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skipway.claims.arm import Arm, Budget
from skipway.claims.cifar import (
    LATE,
    QUICK_EPOCHS,
    QUICK_PICTURES,
    draw_curves,
    full_or_quick_arm,
    full_recipe,
    late,
    late_errors,
)
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, SPREAD, footed, panels
from skipway.claims.results import Outcome, Results, decided, measure
from skipway.models.catalog import find_spec
from skipway.reporting import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FAMILIES = {"plain": "plain", "resnet_v1": "ResNet"}
_SHALLOW, _DEEP = 20, 56
_FULL_DEPTHS: dict[str, tuple[int, ...]] = {"plain": (20, 32, 44, 56), "resnet_v1": (20, 32, 44, 56, 110)}


def _arms(budget: Budget) -> tuple[Arm, ...]:
    """Plain and residual networks of 20 and 56 layers; with the full budget of more depths."""
    found = []
    for family, label in _FAMILIES.items():
        depths: tuple[int, ...] = (_SHALLOW, _DEEP)
        if budget == "full":
            depths = _FULL_DEPTHS[family]
        for depth in depths:
            spec = find_spec(f"{family}_{depth}.cifar")
            arm = full_or_quick_arm(f"{family}_{depth}", f"{label}-{depth}", spec, budget)
            if budget == "full" and depth > _DEEP:  # the paper warms up its 110 layers only
                arm = replace(arm, recipe=full_recipe(warm=True))
            found.append(arm)
    return tuple(found)


def _judge(results: Results) -> Outcome:
    """Judges the gap between the depths: that of the plain networks, and how far the residual ones' is below it."""
    gaps = {}
    rows = {}
    for family, label in _FAMILIES.items():
        deep = late(results, f"{family}_{_DEEP}", "train_error")
        shallow = late(results, f"{family}_{_SHALLOW}", "train_error")
        gaps[family] = deep - shallow
        name = f"{label}: training error of {_DEEP} layers minus that of {_SHALLOW}"
        rows[family] = measure(name, "points", gaps[family])
    plain, residual = rows["plain"], rows["resnet_v1"]
    more = measure("the plain nets' gap minus the residual nets'", "points", gaps["plain"] - gaps["resnet_v1"])
    outcome = decided((plain, more), (*late_errors(results), plain, residual, more))
    if residual.interval is None:
        return outcome
    # What is left of the gap decides nothing, and nobody should have to look for it.
    rest = residual.interval.describe("points")
    return replace(outcome, reason=f"{outcome.reason}; {residual.name} is {rest}")


def _draw(results: Results) -> Figure:
    """As figure 6: plain nets left, residual ones right; dashed the training error, bold the test error."""
    figure, (left, right) = panels(2, sharey=True, height=4.2)
    depths = {int(arm.rpartition("_")[2]) for arm in results.labels}
    for axes, family in ((left, "plain"), (right, "resnet_v1")):
        colours = {}
        for depth, colour in zip(sorted(depths), COLOURS, strict=False):
            arm = f"{family}_{depth}"
            if arm in results.labels:
                colours[arm] = colour
        draw_curves(axes, results, colours)
    left.set(title="Plain nets")
    right.set(title="Residual nets", ylabel="")
    footed(figure, f"CIFAR-10, n = {counted(len(results.seeds), 'seed')}. {SPREAD}.")
    return figure


CLAIM = Claim(
    name="degradation",
    sentence="Deeper plain networks have a higher training error; residual ones of those depths do not degrade so.",
    source="He, Zhang, Ren, Sun 2015, Deep residual learning for image recognition, figs. 1, 4 and 6, section 4.2",
    reported="CIFAR-10: plain nets get worse in training and test error from 20 to 56 layers (fig. 6, curves only), "
    "residual ones better: test error 8.75 % with 20 layers, 6.97 % with 56, 6.43 % with 110 (table 6)",
    rule=f"The training error is {LATE}. Held when the 95 % intervals, paired by seed, of (1) plain-56 minus plain-20 "
    "and (2) that gap minus the residual nets' gap both lie above 0; failed when either lies below 0; else "
    "undecided.",
    said={
        "quick": f"{QUICK_PICTURES:,} pictures an epoch and {QUICK_EPOCHS} epochs instead of 50,000 and 164; a stride "
        "of 2 in the first convolution of all four networks, which quarters their work; batches of 32 instead of 128. "
        "So few updates tell how training sets out, not where it ends",
        "full": "the paper's 64,000 updates on all 50,000 training pictures (the paper keeps 5,000 of them out to "
        "choose its schedule by); the 110 layers warm up by a rise over the paper's 400 updates",
    },
    seeds={"quick": 5, "full": 3},
    arms=_arms,
    judge=_judge,
    draw=_draw,
)
