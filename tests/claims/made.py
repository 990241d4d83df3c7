"""Results that no run has left, for tests of verdicts and figures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from skipway.claims.claim import Claim
from skipway.claims.figures import figure_style
from skipway.claims.results import Results, Trial

EPOCHS = 5


def made(claim: Claim, last: Mapping[str, Mapping[str, Any]], *, seeds: int = 3, spread: float = 0.01) -> Results:
    """Results of the quick budget. `last` gives for each arm the last values of its curves, and by other names what
    was measured besides; seeds differ by `spread`, as a share, up and down. Curves fall to their last values."""
    names = ("train_loss", "train_error", "test_loss", "test_error")
    trials = []
    arms = claim.arms("quick")
    for arm in arms:
        given = dict(last[arm.name])
        for seed in range(seeds):
            factor = 1 + spread * (seed - (seeds - 1) / 2)
            curve = {
                name: [float(given.get(name, 0.5)) * factor * rest for rest in np.linspace(3, 1, EPOCHS)]
                for name in names
            }
            curve["step"] = [10.0 * number for number in range(1, EPOCHS + 1)]
            looked = {name: _times(value, factor) for name, value in given.items() if name not in names}
            trials.append(Trial(arm.name, seed, curve, looked))
    return Results({arm.name: arm.label for arm in arms}, trials)


def _times(value: Any, factor: float) -> Any:
    if np.asarray(value).dtype.kind == "U":  # names
        return value
    return (np.asarray(value, float) * factor).tolist()


def rendered(claim: Claim, results: Results) -> Any:
    """The claim's figure, once it has been drawn to the last letter (where matplotlib warns, the test fails)."""
    with figure_style():
        figure = claim.draw(results)
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure
