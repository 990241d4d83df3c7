"""What runs leave, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from skipway.claims.statistics import Interval, mean_interval
from skipway.reporting import agreeing, counted

Word = Literal["held", "failed", "undecided"]


@dataclass(frozen=True)
class Trial:
    """One finished run.

    `curve` has a value an epoch for `step`, `train_loss`, `train_error`, `test_loss`, `test_error`; losses are in nats,
    errors fractions, and None stands where the run had diverged. The training ones are running means over the epoch's
    steps, as the updates saw them. `looked` is what the claim measured besides. `times` differ from run to run:
    `seconds` by the clock, `core_seconds` of all threads, both since the run was last begun or resumed.
    """

    arm: str
    seed: int
    curve: Mapping[str, Sequence[float | None]]
    looked: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)

    def last(self, name: str) -> float:
        """The last value of a curve, NaN after the run diverged."""
        value = self.curve[name][-1]
        return math.nan if value is None else value


@dataclass(frozen=True)
class Measure:
    """A row of the table: one value a seed, None where the run has none, and the mean's interval where there is one."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    interval: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """The verdict, why, and the table that it rests on."""

    verdict: Word
    reason: str
    measures: tuple[Measure, ...]


class Results:
    """All trials of a claim, by arm and seed. `labels` name the arms, in order."""

    def __init__(self, labels: Mapping[str, str], trials: Sequence[Trial]) -> None:
        self.labels = dict(labels)
        self.seeds = tuple(sorted({one.seed for one in trials}))
        self.trials = {(one.arm, one.seed): one for one in trials}

    def of(self, arm: str) -> list[Trial]:
        """An arm's trials, by seed."""
        return [self.trials[arm, seed] for seed in self.seeds]

    def last(self, arm: str, name: str) -> np.ndarray:
        """The last value of a curve for each seed, float64 (seeds,)."""
        return np.array([one.last(name) for one in self.of(arm)])

    def looked(self, arm: str, name: str) -> np.ndarray:
        """What was measured besides, stacked over the seeds."""
        return np.array([one.looked[name] for one in self.of(arm)], float)

    def curves(self, arm: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (points,) and the values at them (seeds, points)."""
        trials = self.of(arm)
        return np.array(trials[0].curve["step"], float), np.array([one.curve[name] for one in trials], float)

    def errors(self, arm: str) -> tuple[Measure, ...]:
        """Rows of an arm's last training and test error."""
        label = self.labels[arm]
        return tuple(
            measure(f"{label}: {name} error", "%", 100 * self.last(arm, f"{name}_error")) for name in ("train", "test")
        )


def measure(name: str, unit: str, values: Sequence[float] | np.ndarray) -> Measure:
    """A row with its mean's 95 % interval, where every seed has a value and there are two or more."""
    plain = tuple(None if not math.isfinite(one) else float(one) for one in values)
    known = [one for one in plain if one is not None]
    return Measure(name, unit, plain, mean_interval(known) if len(known) == len(plain) > 1 else None)


def judged(effect: Measure, *, margin: float = 0.0) -> tuple[Word, str]:
    """`held` where the whole interval lies above `margin`, `failed` where it lies below, else `undecided`; and why."""
    found = effect.interval
    if found is None:
        missing = sum(one is None for one in effect.values)
        why = "one seed has no spread"
        if missing:
            has = agreeing(missing, "has", "have")
            why = f"{missing} of {counted(len(effect.values), 'run')} {has} no value"
        return "undecided", f"{effect.name}: {why}; more seeds or longer runs would tell (--seeds, --epochs)"
    text = f"{effect.name} is {found.describe(effect.unit)}"
    if found.low > margin:
        return "held", f"{text}, apart from {margin:g}"
    if found.high < margin:
        return "failed", f"{text}, on the wrong side of {margin:g}"
    return "undecided", f"{text}, which {margin:g} is inside of; more seeds or longer runs would tell"


def decided(effects: Sequence[Measure], measures: Sequence[Measure]) -> Outcome:
    """The outcome where every one of `effects` has to lie above 0: `held` if all do, `failed` if one lies below."""
    found = [judged(one) for one in effects]
    words = {word for word, _ in found}
    verdict: Word = "failed" if "failed" in words else "undecided" if "undecided" in words else "held"
    return Outcome(verdict, "; ".join(why for _, why in found), tuple(measures))
