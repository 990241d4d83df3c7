"""docs/models.md: every network with its source, its counts and its deviations, written from the catalog."""

from __future__ import annotations

import re

from skipway.drawing.counting import count
from skipway.drawing.facts import facts
from skipway.drawing.table import accuracy, giga
from skipway.models.catalog import ENTRIES
from skipway.models.rows.entry import CatalogEntry

_HEAD = """# The networks

Written by `scripts/models_page.py` from the catalog in `src/skipway/models/rows/`; change it there.

A name is `architecture.layout`: a layout is one source's reading of a paper. Parameters are trainable ones, without the
running statistics of batch normalization. GFLOPs are those of convolutions and linear layers for one picture of the
source's size, a multiplication and an addition counted as two. Accuracies are what the named party publishes for its
own weights, top-1 / top-5 in percent, on ImageNet's validation pictures or CIFAR-10's test pictures; nothing here
was measured by us. First weights bear their names in `skipway.models.initialization`, conventions for pictures
theirs in `skipway.data.preprocessing`. A point that holds for some depths N only names them.
"""

_FAMILIES = {
    "alexnet": """## AlexNet

Five convolutions, overlapping max pools, local response normalization, three fully connected layers with dropout. What
circulates under the name differs in groups, in the order of pool and norm, and in how alpha is meant.
""",
    "highway": """## Highway networks

y = H(x) T(x) + x (1 - T(x)): a gate T decides for each value how much is transformed and how much carried. Its bias
starts below zero, so that a new network mostly carries, and gradients reach the first layers.
""",
    "plain": """## Plain nets

The residual networks' columns without their shortcuts, and the fully connected nets beside the highway networks: what
the papers compare with, and what stops improving with depth.
""",
    "resnet_v1": """## ResNet v1

Convolution, normalization, ReLU; the sum comes before the last ReLU of a unit. Layouts differ in where a stage halves
the map, in how the max pool is padded, and in what a shortcut does where the depth changes.
""",
    "resnet_v2": """## ResNet v2

Normalization and ReLU before each convolution; nothing after the sum, so that the identity runs through the whole
network. Layouts differ in where a stage halves the map, and in what a shortcut starts from.
""",
}


_SOURCES = ("paper", "section", "source")


def models_page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for family, introduction in _FAMILIES.items():
        parts.append(introduction)
        for layout, entries in _layouts(family).items():
            parts.append(_section(layout, entries))
    return "\n".join(parts)


def _layouts(family: str) -> dict[str, list[CatalogEntry]]:
    """A family's rows by heading, in the catalog's order: those of one layout that differ in depth stand together."""
    found = [entry for entry in ENTRIES if entry.spec.architecture.startswith(family)]
    headings = [_heading(entry.spec.name) for entry in found]
    layouts: dict[str, list[CatalogEntry]] = {}
    for heading, entry in zip(headings, found, strict=True):
        shown = heading
        if headings.count(heading) == 1:
            shown = f"`{entry.spec.name}`"
        layouts.setdefault(shown, []).append(entry)
    return layouts


def _heading(name: str) -> str:
    """The name with N for its depth."""
    general = re.sub(r"_[0-9]+(?=[.]|$)", "_N", name)
    return f"`{general}`"


def _depth(name: str) -> str:
    """The depth in a name; the whole name where it has none."""
    found = re.search(r"_([0-9]+)(?=[.]|$)", name)
    if found is None:
        return name
    return found[1]


def _section(heading: str, entries: list[CatalogEntry]) -> str:
    """A layout: its rows, where they come from, public weights, the layout itself, deviations."""
    lines = [f"### {heading}", "", *_rows(entries), ""]
    points = [_points(entry) for entry in entries]
    for point in _SOURCES:
        lines += _items(point, points, entries)
    lines += ["", *_weights(entries), "", "Layout:", ""]
    # The points of all rows, in the order in which they first appear.
    names = dict.fromkeys(name for row_points in points for name in row_points)
    for name in names:
        if name not in _SOURCES:
            lines += _items(name, points, entries)
    lines += ["", *_deviations(entries), ""]
    return "\n".join(lines)


def _rows(entries: list[CatalogEntry]) -> list[str]:
    """The table of a layout's rows."""
    lines = [
        "| row | parameters | counted by | GFLOPs | the paper reports |",
        "|---|--:|---|--:|---|",
    ]
    for entry in entries:
        flops = giga(count(entry.spec).flops)
        reported = entry.reported or "-"
        name = f"`{entry.spec.name}`"
        lines.append(f"| {name} | {entry.parameters:,} | {entry.counted_by} | {flops} | {reported} |")
    return lines


def _points(entry: CatalogEntry) -> dict[str, str]:
    """All that the page says of a row in words, by the name of the point."""
    spec = entry.spec
    return {"paper": spec.paper, "section": entry.section, "source": spec.source, **facts(spec)}


def _items(point: str, points: list[dict[str, str]], entries: list[CatalogEntry]) -> list[str]:
    """A point as one item where all rows agree, else as one for each value with the rows that have it."""
    having: dict[str, list[CatalogEntry]] = {}
    for row_points, entry in zip(points, entries, strict=True):
        if point in row_points:
            having.setdefault(row_points[point], []).append(entry)
    return [f"- {point}: {value}{_which(rows, entries)}" for value, rows in having.items()]


def _which(rows: list[CatalogEntry], entries: list[CatalogEntry]) -> str:
    """The depths of the rows that something holds for; nothing where it holds for all."""
    if rows == entries:
        return ""
    depths = ", ".join(_depth(entry.spec.name) for entry in rows)
    return f" (N = {depths})"


def _weights(entries: list[CatalogEntry]) -> list[str]:
    """The table of public weights."""
    lines = ["| public weights | for | accuracy | published by |", "|---|---|--:|---|"]
    header = len(lines)
    for entry in entries:
        for weights in entry.published:
            shown = accuracy(weights) or "not found"
            lines.append(f"| `{weights.file}` | `{entry.spec.name}` | {shown} | {weights.said_by} |")
    if len(lines) == header:
        return ["No public weights are known to us."]
    return lines


def _deviations(entries: list[CatalogEntry]) -> list[str]:
    """The list of deviations, each with the rows that have it."""
    having: dict[str, list[CatalogEntry]] = {}
    for entry in entries:
        for deviation in entry.deviations:
            having.setdefault(deviation, []).append(entry)
    if not having:
        return ["No deviation is known to us."]
    lines = ["Deviations:", ""]
    for deviation, rows in having.items():
        lines.append(f"- {deviation}{_which(rows, entries)}")
    return lines
