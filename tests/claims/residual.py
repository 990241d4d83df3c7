"""For tests of the claims about residual networks: results with an error a seed, and what two arms differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skipway.claims.arm import Budget
from skipway.claims.claim import Claim
from skipway.claims.figures import figure_style, write_figure
from skipway.claims.results import Results, Trial

POINTS = 8


def seeded(
    claim: Claim,
    test: Mapping[str, Sequence[float]],
    train: Mapping[str, Sequence[float]] | None = None,
    *,
    budget: Budget = "quick",
    times: Mapping[str, Mapping[str, float]] | None = None,
) -> Results:
    """Results of all arms whose errors fall from 0.9 to the given ones, one a seed, and stay there for a quarter."""
    train = train or test
    labels = {arm.name: arm.label for arm in claim.arms(budget)}
    trials = [
        Trial(arm, seed, curves(train[arm][seed], test[arm][seed]), times=(times or {}).get(arm, {}))
        for arm in labels
        for seed in range(len(test[arm]))
    ]
    return Results(labels, trials)


def curves(train: float, test: float) -> dict[str, list[float]]:
    """All five curves; losses are unlike errors, so that a claim that mistakes them shows."""
    shape = np.append(np.linspace(1.0, 0.0, POINTS - 2, endpoint=False), (0.0, 0.0))
    found: dict[str, list[float]] = {"step": [100.0 * (point + 1) for point in range(POINTS)]}
    for name, last in (("train", train), ("test", test)):
        found[f"{name}_error"] = (last + (0.9 - last) * shape).tolist()
        found[f"{name}_loss"] = (7 + shape).tolist()
    return found


def fields_that_differ(claim: Claim, first: str, second: str, budget: Budget = "quick") -> set[str]:
    """The fields in which two arms' networks differ, but for what only says where a row comes from; asserts that all
    else of the arms is equal."""
    one, other = (next(arm for arm in claim.arms(budget) if arm.name == name) for name in (first, second))
    for name in ("recipe", "data", "pictures", "test_pictures"):
        assert getattr(one, name) == getattr(other, name), name
    fields, others = one.spec.to_dict(), other.spec.to_dict()
    told = {"name", "source", "paper", "year"}
    nothing: Any = object()
    return {key for key in fields.keys() | others.keys() if fields.get(key, nothing) != others.get(key, nothing)} - told


def drawn(claim: Claim, results: Results, folder: Path) -> str:
    """The figure's SVG; it must be the same when drawn again."""
    texts = []
    for _ in range(2):
        with figure_style():
            write_figure(claim.draw(results), folder)
        texts.append((folder / "figure.svg").read_text())
    assert texts[0] == texts[1]
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    return texts[0]
