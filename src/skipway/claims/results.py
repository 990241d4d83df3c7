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

    `curve` has a value an epoch for `step`, `train_loss`, `train_error`, `test_loss`, `test_error`. Losses are in
    nats, errors are fractions, and None stands where the run had diverged. The training values are running means over
    the epoch's steps, as the updates saw them. `looked` is what the claim measured besides. `times` differ from run to
    run: `seconds` by the clock, `core_seconds` of all threads, both since the run was last begun or resumed.
    """

    arm: str
    seed: int
    curve: Mapping[str, Sequence[float | None]]
    looked: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)

    def last(self, name: str) -> float:
        """The last value of a curve, NaN after the run diverged."""
        value = self.curve[name][-1]
        if value is None:
            return math.nan
        return value


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
        """`trials` has every arm with every seed, in any order."""
        self.labels = dict(labels)
        seeds = {trial.seed for trial in trials}
        self.seeds = tuple(sorted(seeds))
        self.trials: dict[tuple[str, int], Trial] = {}
        for trial in trials:
            self.trials[trial.arm, trial.seed] = trial

    def of(self, arm: str) -> list[Trial]:
        """An arm's trials, by seed."""
        return [self.trials[arm, seed] for seed in self.seeds]

    def last(self, arm: str, name: str) -> np.ndarray:
        """The last value of a curve for each seed, float64 (seeds,)."""
        values = [trial.last(name) for trial in self.of(arm)]
        return np.array(values)

    def looked(self, arm: str, name: str) -> np.ndarray:
        """What was measured besides, stacked over the seeds: float64 (seeds, ...)."""
        values = [trial.looked[name] for trial in self.of(arm)]
        return np.array(values, float)

    def curves(self, arm: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (points,) and the values at them (seeds, points)."""
        trials = self.of(arm)
        steps = trials[0].curve["step"]
        values = [trial.curve[name] for trial in trials]
        return np.array(steps, float), np.array(values, float)

    def errors(self, arm: str) -> tuple[Measure, Measure]:
        """Rows of an arm's last training and test error."""
        label = self.labels[arm]
        train = measure(f"{label}: train error", "%", 100 * self.last(arm, "train_error"))
        test = measure(f"{label}: test error", "%", 100 * self.last(arm, "test_error"))
        return train, test


def measure(name: str, unit: str, values: Sequence[float] | np.ndarray) -> Measure:
    """A row with its mean's 95 % interval, where every seed has a value and there are two or more."""
    plain: list[float | None] = []
    known: list[float] = []
    for value in values:
        if math.isfinite(value):
            known.append(float(value))
            plain.append(float(value))
        else:
            plain.append(None)
    interval = None
    if len(known) == len(plain) and len(known) > 1:
        interval = mean_interval(known)
    return Measure(name, unit, tuple(plain), interval)


def judged(effect: Measure, *, margin: float = 0.0) -> tuple[Word, str]:
    """`held` where the whole interval lies above `margin`, `failed` where it lies below, else `undecided`; and why."""
    interval = effect.interval
    if interval is None:
        missing = effect.values.count(None)
        why = "one seed has no spread"
        if missing:
            runs = counted(len(effect.values), "run")
            have = agreeing(missing, "has", "have")
            why = f"{missing} of {runs} {have} no value"
        return "undecided", f"{effect.name}: {why}; more seeds or longer runs would tell (--seeds, --epochs)"
    text = f"{effect.name} is {interval.describe(effect.unit)}"
    if interval.low > margin:
        return "held", f"{text}, apart from {margin:g}"
    if interval.high < margin:
        return "failed", f"{text}, on the wrong side of {margin:g}"
    return "undecided", f"{text}, which {margin:g} is inside of; more seeds or longer runs would tell"


def decided(effects: Sequence[Measure], measures: Sequence[Measure]) -> Outcome:
    """The outcome where every one of `effects` has to lie above 0: `held` if all do, `failed` if one lies below.

    `measures` are the rows of the table.
    """
    words: list[Word] = []
    reasons: list[str] = []
    for effect in effects:
        word, reason = judged(effect)
        words.append(word)
        reasons.append(reason)
    verdict: Word = "held"
    if "failed" in words:
        verdict = "failed"
    elif "undecided" in words:
        verdict = "undecided"
    return Outcome(verdict, "; ".join(reasons), tuple(measures))
