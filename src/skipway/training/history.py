"""The history of a run: a row for each epoch, as checkpoints keep it and metrics.csv shows it."""

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
_JUDGED = ("val_loss", "val_top1", "val_top5")  # left out where nothing is held out
_FRACTIONS = ("train_top1", "val_top1", "val_top5")


def checked_row(plain: Any) -> dict[str, float]:
    """A row of the history from a file. Raises RunError for a column or a value that no epoch can have."""
    if not isinstance(plain, Mapping) or not set(plain) <= set(COLUMNS):
        raise RunError(f"a row of the history has other columns than {', '.join(COLUMNS)}")
    required = set(COLUMNS) - set(_JUDGED)
    missing = required - set(plain)
    if missing:
        names = [name for name in COLUMNS if name in missing]
        raise RunError(f"a row of the history lacks {', '.join(names)}")
    row: dict[str, float] = {}
    for name, value in plain.items():
        if not _possible(name, value):
            shown = str(value)[:40]
            raise RunError(f"the history has {name} = {shown}, which no epoch can have")
        row[name] = float(value)
    return row


def _possible(name: str, value: Any) -> bool:
    """Whether a column may have this value after some epoch."""
    if type(value) not in (int, float):
        return False
    if name in _FRACTIONS:
        return 0 <= value <= 1
    if name.endswith("_loss"):
        # The loss of a network that diverged is infinite or no number, and such a row is kept.
        negative = value < 0
        return not negative
    if not math.isfinite(value):
        return False
    return value >= 0


def write_metrics(file: Path, history: Sequence[dict[str, float]]) -> None:
    """Write all rows of the history as CSV, the whole file or nothing. A resume that repeats an epoch repeats no row.

    Raises StorageError where the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in history:
        shown: dict[str, float] = dict(row)
        shown["epoch"] = int(row["epoch"])
        shown["step"] = int(row["step"])
        writer.writerow(shown)
    write_text(file, text.getvalue())
