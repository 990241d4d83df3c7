"""What a run has reached: a row an epoch, as checkpoints keep it and metrics.csv shows it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skipway.errors import RunError
from skipway.files import write_text

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "val_top5",
    "images_per_second",
    "seconds",
)
_JUDGED = ("val_loss", "val_top1", "val_top5")  # absent where nothing is held out
_FRACTIONS = ("train_top1", "val_top1", "val_top5")


def checked_row(plain: Any) -> dict[str, float]:
    """A row of the history from a file. Raises RunError for a column or a value that no epoch can have."""
    if not isinstance(plain, Mapping) or not set(plain) <= set(COLUMNS):
        raise RunError(f"a row of the history has other columns than {', '.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in plain and name not in _JUDGED]
    if missing:
        raise RunError(f"a row of the history lacks {', '.join(missing)}")
    for name, value in plain.items():
        if type(value) not in (int, float) or not _possible(name, value):
            raise RunError(f"the history has {name} = {str(value)[:40]}, which no epoch can have")
    return {name: float(value) for name, value in plain.items()}


def _possible(name: str, value: float) -> bool:
    if name in _FRACTIONS:
        return 0 <= value <= 1
    if name.endswith("_loss"):  # of a network that is lost, infinite or no number
        return not value < 0
    return math.isfinite(value) and value >= 0


def write_metrics(file: Path, history: Sequence[dict[str, float]]) -> None:
    """The whole history, whole or not at all: a resume that repeats an epoch repeats no row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow(row | {"epoch": int(row["epoch"]), "step": int(row["step"])})
    write_text(file, text.getvalue())
