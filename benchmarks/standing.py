"""What a race comes to: medians over its rounds, ratios within them, and the table."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from interleaved import Entered

from skipway.machine import cpu_name, usable_cores

_RESTLESS = 0.02  # of a core, beyond which a sleeper is named


@dataclass(frozen=True)
class Ratio:
    """How much faster `ours` is than `peers`, of which the one with the better median counts.

    `factor` turns our unit into theirs, for shares of a peak. Names that took no part are passed over.
    """

    ours: str
    peers: tuple[str, ...]
    factor: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.ours} / {'better of ' * (len(self.peers) > 1)}{', '.join(self.peers)}"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest, largest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def standing(
    title: str, entered: Mapping[str, Entered], ratios: Sequence[Ratio], restless: Mapping[str, float]
) -> dict[str, Any]:
    """The figures of one race, as plain values."""
    rows = [
        {"name": one.name, "unit": one.contestant.unit, "n": len(one.speeds), "batches": sum(map(len, one.seconds))}
        | spread(one.speeds)
        | {"rounds": one.speeds}
        | {fact: one.facts[fact] for fact in ("way", "versions", "parameters") if fact in one.facts}
        for one in entered.values()
    ]
    found = []
    for ratio in ratios:
        peers = [name for name in ratio.peers if name in entered]
        if ratio.ours not in entered or not peers:
            continue
        best = max(peers, key=lambda name: median(entered[name].speeds))
        values = [
            ratio.factor * ours / theirs
            for ours, theirs in zip(entered[ratio.ours].speeds, entered[best].speeds, strict=True)
        ]
        found.append({"name": ratio.name, "peer": best, "n": len(values)} | spread(values) | {"rounds": values})
    awake = {name: share for name, share in restless.items() if share > _RESTLESS}
    return {"title": title, "rows": rows, "ratios": found, "awake": awake}


def machine() -> dict[str, Any]:
    """Where all this was measured, and the load there when it began."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 1),
    }


def table(result: dict[str, Any]) -> str:
    """One race as text."""
    width = max([len(row["name"]) for row in result["rows"] + result["ratios"]] + [8]) + 2
    lines = [result["title"], f"{'':<{width}}{'median':>10}{'min':>10}{'max':>10}  n  unit"]
    for row in result["rows"]:
        numbers = "".join(f"{row[key]:>10.2f}" for key in ("median", "min", "max"))
        way = f", {row['way']}" if "way" in row else ""
        lines.append(f"{row['name']:<{width}}{numbers}{row['n']:>3}  {row['unit']}{way}")
    lines.append("")
    for row in result["ratios"]:
        numbers = "".join(f"{row[key]:>10.3f}" for key in ("median", "min", "max"))
        lines.append(f"{row['name']:<{width}}{numbers}{row['n']:>3}")
    for name, share in result["awake"].items():
        lines.append(f"warning: {name} took up to {share:.2f} of a core while it should have slept")
    if "difference" in result:
        lines.append(f"largest difference of their answers, as a share of the largest: {result['difference']:.1e}")
    return "\n".join(lines)


def footer(results: Sequence[dict[str, Any]], where: dict[str, Any]) -> str:
    """Versions and machine as text."""
    names: dict[str, list[str]] = {}
    for row in (row for result in results for row in result["rows"] if "versions" in row):
        told = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
        if row["name"] not in names.setdefault(told, []):
            names[told].append(row["name"])
    lines = [f"{', '.join(found)}: {told}" for told, found in names.items()]
    lines.append(
        f"machine: {where['cpu']}, {where['cores']} cores, {where['system']}; load at the start {where['load']}"
    )
    return "\n".join(lines)
