"""Where a run stands: the steps that are done, the sums of the epoch under way, the history and the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from skipway.errors import RunError
from skipway.training.history import checked_row

_MOST_SECONDS = 1e10  # 300 years
_MOST_STEPS = 10**8 - 1  # the name of a checkpoint has eight digits


@dataclass
class Progress:
    """Where a run stands.

    No random state is among these: every draw is a function of (seed, epoch, sample) or (seed, step).
    """

    step: int = 0  # updates that are done
    loss_sum: float = 0.0  # over the pictures of the epoch under way
    right: int = 0  # right answers of the epoch under way
    seen: int = 0  # pictures of the epoch under way
    train_seconds: float = 0.0  # of the epoch under way
    total_seconds: float = 0.0  # of the whole run
    history: list[dict[str, float]] = field(default_factory=list)  # a row for each finished epoch
    best_epoch: int = 0  # counted from 1; 0 for none yet
    best_top1: float = -1.0
    best_loss: float = float("inf")
    stopped_early: bool = False

    @classmethod
    def from_plain(cls, plain: Any) -> Progress:
        """Progress as a checkpoint holds it. Raises RunError for a field that is missing, unknown or impossible."""
        names = {own_field.name for own_field in fields(cls)}
        if not isinstance(plain, Mapping) or set(plain) != names:
            raise RunError(f"its progress must have the fields {', '.join(sorted(names))}")
        rows = plain["history"]
        if not isinstance(rows, list):
            raise RunError("its history is no list")
        values = dict(plain)
        values["history"] = [checked_row(row) for row in rows]
        progress = cls(**values)
        progress.check()
        return progress

    def check(self) -> None:
        """Raises RunError for a field of another type, or with a value that no run reaches."""
        self._check_types()
        if self.step > _MOST_STEPS or not self.best_epoch <= len(self.history) <= self.step:
            raise RunError("its steps, epochs and best epoch contradict each other")
        if self.best_epoch and not 0 <= self.best_top1 <= 1:
            raise RunError(f"its best_top1 is {self.best_top1}; it must be a fraction")
        if self.right > self.seen:
            raise RunError(f"it has {self.right} right answers to {self.seen} pictures")

    def _check_types(self) -> None:
        """Raises RunError for a field whose value is of another type or outside the type's possible values."""
        for name in ("step", "right", "seen", "best_epoch"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**63:
                raise RunError(f"its {name} is {_shown(value)}; it must be a whole number from 0 up")
        for name in ("train_seconds", "total_seconds"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= _MOST_SECONDS:  # nor NaN
                raise RunError(f"its {name} is {_shown(value)}; it must be a number of seconds")
        for name in ("loss_sum", "best_top1", "best_loss"):
            value = getattr(self, name)
            if type(value) not in (int, float) or math.isnan(value):
                raise RunError(f"its {name} is {_shown(value)}; it must be a number")
        # The best loss of a run without an epoch is infinite, but a sum that is infinite has diverged.
        if math.isinf(self.loss_sum):
            raise RunError(f"its loss_sum is {self.loss_sum}; it must be a number")
        if type(self.stopped_early) is not bool:
            raise RunError("its stopped_early must be true or false")


def _shown(value: Any) -> str:
    """A value that a file claims, cut to a length that fits into a message."""
    return str(value)[:40]
