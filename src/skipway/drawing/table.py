"""The table of networks: figures, sources, public weights."""

from __future__ import annotations

import re
import textwrap
from dataclasses import asdict
from typing import Any

from skipway.drawing.counting import count
from skipway.errors import UnknownNameError
from skipway.models.catalog import find_entry, list_models
from skipway.models.rows.entry import Entry, Published

_SOURCE_WIDTH = 33


def model_rows(pattern: str = "*") -> list[dict[str, Any]]:
    """Each network that matches a shell pattern, as plain values: counts at its own input, and all that its row of the
    catalog says. A bare architecture and any `highway_mlp_N` or `plain_mlp_N` match, too. Accuracies are fractions.

    Raises UnknownNameError where nothing matches.
    """
    names = list_models(pattern)
    if not names and not set(pattern) & set("*?["):
        names = [find_entry(pattern).spec.name]
    if not names:
        hint = "`skipway models` lists all, a pattern such as 'resnet_v1_*' a family"
        raise UnknownNameError("model", pattern, list_models(), hint=hint)
    return [_row(find_entry(name)) for name in names]


def _row(entry: Entry) -> dict[str, Any]:
    spec, counts = entry.spec, count(entry.spec)
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
        "published": [asdict(one) for one in entry.published],
        "reported": entry.reported,
        "deviations": list(entry.deviations),
    }


def models_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, papers and sources shortened."""
    cells = [("name", "parameters", "GFLOPs", "year", "paper", "source of the layout", "weights")]
    cells += [
        (
            row["name"],
            f"{row['trainable']:,}",
            giga(row["flops"]),
            f"{row['year']}",
            short_paper(row["paper"]),
            _short_source(row["source"]),
            _best([Published(**one) for one in row["published"]]),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(f"{text:{'>' if i in {1, 2} else '<'}{widths[i]}}" for i, text in enumerate(row)).rstrip()
        for row in cells
    ]
    lines += [
        "GFLOPs: for one picture of the source's size, a multiplication and an addition counted as two.",
        "Weights: of the public ones the best published top-1 / top-5 accuracy in percent.",
        "`skipway models NAME --json` tells all of a row, `skipway summary NAME` its units.",
    ]
    return "\n".join(lines)


def short_paper(paper: str) -> str:
    """The first author and the year."""
    year = re.search(r"\b\d{4}\b", paper)
    return f"{re.split(r'[ ,]', paper)[0]} {year[0] if year else ''}".rstrip()


def giga(flops: int) -> str:
    """Billions, with more digits for small networks."""
    return f"{flops / 1e9:.{3 if flops >= 10**7 else 5}f}"


def percent(share: float) -> str:
    """A fraction as the sources print it, without the sign."""
    return f"{100 * share:.2f}"


def accuracy(weights: Published) -> str:
    """Top-1 and top-5 in percent, as far as they are known."""
    return " / ".join(percent(one) for one in (weights.top1, weights.top5) if one is not None)


def _best(published: list[Published]) -> str:
    if not published:
        return "none"
    return accuracy(max(published, key=lambda one: one.top1 or 0.0)) or "unknown"


def _short_source(source: str) -> str:
    """Up to the first comma, bracket or colon."""
    return textwrap.shorten(re.split(r"[,;:] | \(", source)[0], _SOURCE_WIDTH, placeholder=" ...")
