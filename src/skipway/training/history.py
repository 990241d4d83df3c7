"""metrics.csv: a row an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

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


def write_metrics(file: Path, history: Sequence[dict[str, float]]) -> None:
    """The whole history, whole or not at all: a resume that repeats an epoch repeats no row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow(row | {"epoch": int(row["epoch"]), "step": int(row["step"])})
    write_text(file, text.getvalue())
