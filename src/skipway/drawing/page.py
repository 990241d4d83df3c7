"""docs/models.md: every network with its source, its counts and its deviations, written from the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterable

from skipway.drawing.counting import count
from skipway.drawing.facts import facts
from skipway.drawing.table import accuracy, giga
from skipway.models.catalog import ENTRIES
from skipway.models.rows.entry import Entry

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


def models_page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for family, introduction in _FAMILIES.items():
        parts.append(introduction)
        parts += [_section(layout, rows) for layout, rows in _layouts(family).items()]
    return "\n".join(parts)


def _layouts(family: str) -> dict[str, list[Entry]]:
    """A family's rows by heading, in the catalog's order: those of one layout that differ in depth stand together."""
    found = [entry for entry in ENTRIES if entry.spec.architecture.startswith(family)]
    headings = [_heading(entry.spec.name) for entry in found]
    layouts: dict[str, list[Entry]] = {}
    for heading, entry in zip(headings, found, strict=True):
        layouts.setdefault(heading if headings.count(heading) > 1 else f"`{entry.spec.name}`", []).append(entry)
    return layouts


def _heading(name: str) -> str:
    """The name with N for its depth."""
    return f"`{re.sub(r'_[0-9]+(?=[.]|$)', '_N', name)}`"


def _depth(name: str) -> str:
    found = re.search(r"_([0-9]+)(?=[.]|$)", name)
    return found[1] if found else name


def _section(heading: str, entries: list[Entry]) -> str:
    lines = [
        f"### {heading}",
        "",
        "| row | parameters | counted by | GFLOPs | the paper reports |",
        "|---|--:|---|--:|---|",
    ]
    lines += [
        f"| `{one.spec.name}` | {one.parameters:,} | {one.counted_by} | {giga(count(one.spec).flops)} "
        f"| {one.reported or '-'} |"
        for one in entries
    ]
    points = [_points(entry) for entry in entries]
    lines += ["", *_items(points, ("paper", "section", "source"), entries)]
    lines += ["", *_weights(entries), "", "Layout:", ""]
    layout = dict.fromkeys(point for found in points for point in found if point not in {"paper", "section", "source"})
    lines += _items(points, layout, entries)
    return "\n".join([*lines, "", *_deviations(entries), ""])


def _points(entry: Entry) -> dict[str, str]:
    spec = entry.spec
    return {"paper": spec.paper, "section": entry.section, "source": spec.source, **facts(spec)}


def _items(points: list[dict[str, str]], wanted: Iterable[str], entries: list[Entry]) -> list[str]:
    """For each point one item where all rows agree, else one for each value with the rows that have it."""
    lines = []
    for point in wanted:
        having = _having((found.get(point), entry) for found, entry in zip(points, entries, strict=True))
        lines += [f"- {point}: {value}{_which(rows, entries)}" for value, rows in having.items()]
    return lines


def _having(pairs: Iterable[tuple[str | None, Entry]]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for value, entry in pairs:
        if value is not None:
            found.setdefault(value, []).append(entry)
    return found


def _which(rows: list[Entry], entries: list[Entry]) -> str:
    return "" if rows == entries else f" (N = {', '.join(_depth(one.spec.name) for one in rows)})"


def _weights(entries: list[Entry]) -> list[str]:
    published = [(entry.spec.name, one) for entry in entries for one in entry.published]
    if not published:
        return ["No public weights are known to us."]
    lines = ["| public weights | for | accuracy | published by |", "|---|---|--:|---|"]
    lines += [
        f"| `{one.file}` | `{name}` | {accuracy(one) or 'not found'} | {one.said_by} |" for name, one in published
    ]
    return lines


def _deviations(entries: list[Entry]) -> list[str]:
    held = _having((text, entry) for entry in entries for text in entry.deviations)
    if not held:
        return ["No deviation is known to us."]
    return ["Deviations:", "", *(f"- {text}{_which(rows, entries)}" for text, rows in held.items())]
