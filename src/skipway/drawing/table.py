"""The table of networks: figures, sources, public weights."""

from __future__ import annotations

import re
import textwrap
from dataclasses import asdict
from typing import Any

from skipway.drawing.counting import count
from skipway.errors import UnknownNameError
from skipway.models.catalog import find_entry, list_models
from skipway.models.rows.entry import CatalogEntry, Published

_SOURCE_WIDTH = 33
_HEADER = ("name", "parameters", "GFLOPs", "year", "paper", "source of the layout", "weights")
_NUMBERS = {1, 2}  # columns that are aligned to the right
_NOTES = [
    "GFLOPs: for one picture of the source's size, a multiplication and an addition counted as two.",
    "Weights: of the public ones the best published top-1 / top-5 accuracy in percent.",
    "`skipway models NAME --json` tells all of a row, `skipway summary NAME` its units.",
]


def model_rows(pattern: str = "*") -> list[dict[str, Any]]:
    """Each network that matches a shell pattern, as plain values: counts at its own input, and all that its row of the
    catalog says. A bare architecture and any `highway_mlp_N` or `plain_mlp_N` match, too. Accuracies are fractions.

    Raises UnknownNameError where nothing matches.
    """
    names = list_models(pattern)
    is_name = not set(pattern) & set("*?[")
    if not names and is_name:
        names = [find_entry(pattern).spec.name]
    if not names:
        hint = "`skipway models` lists all, a pattern such as 'resnet_v1_*' a family"
        raise UnknownNameError("model", pattern, list_models(), hint=hint)
    return [_row(find_entry(name)) for name in names]


def _row(entry: CatalogEntry) -> dict[str, Any]:
    """A row of the catalog as plain values."""
    spec = entry.spec
    counts = count(spec)
    return {
        "name": spec.name,
        "total": counts.trainable + counts.statistics,
        "trainable": counts.trainable,
        "flops": counts.flops,
        "input": [spec.in_channels, spec.input_size, spec.input_size],
        "year": spec.year,
        "paper": spec.paper,
        "section": entry.section,
        "source": spec.source,
        "published": [asdict(weights) for weights in entry.published],
        "reported": entry.reported,
        "deviations": list(entry.deviations),
    }


def models_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `model_rows` as text, papers and sources shortened."""
    table = [_HEADER]
    for row in rows:
        table.append(_cells(row))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        padded = []
        for column, text in enumerate(cells):
            if column in _NUMBERS:
                padded.append(text.rjust(widths[column]))
            else:
                padded.append(text.ljust(widths[column]))
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines + _NOTES)


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str, str, str, str]:
    """The texts of a row, one a column."""
    published = [Published(**weights) for weights in row["published"]]
    return (
        row["name"],
        f"{row['trainable']:,}",
        giga(row["flops"]),
        f"{row['year']}",
        short_paper(row["paper"]),
        _short_source(row["source"]),
        _best(published),
    )


def short_paper(paper: str) -> str:
    """The first author and the year."""
    author = re.split(r"[ ,]", paper)[0]
    year = re.search(r"\b\d{4}\b", paper)
    if year is None:
        return author
    return f"{author} {year[0]}"


def giga(flops: int) -> str:
    """Billions, with more digits for small networks."""
    digits = 5
    if flops >= 10**7:
        digits = 3
    return f"{flops / 1e9:.{digits}f}"


def percent(share: float) -> str:
    """A fraction as the sources print it, without the sign."""
    return f"{100 * share:.2f}"


def accuracy(weights: Published) -> str:
    """Top-1 and top-5 in percent, as far as they are known."""
    known = [share for share in (weights.top1, weights.top5) if share is not None]
    return " / ".join(map(percent, known))


def _best(published: list[Published]) -> str:
    """The accuracy of the most accurate weights; the first of equal ones."""
    if not published:
        return "none"
    best = published[0]
    for weights in published[1:]:
        if (weights.top1 or 0.0) > (best.top1 or 0.0):
            best = weights
    return accuracy(best) or "unknown"


def _short_source(source: str) -> str:
    """Up to the first comma, bracket or colon."""
    start = re.split(r"[,;:] | \(", source)[0]
    return textwrap.shorten(start, _SOURCE_WIDTH, placeholder=" ...")
