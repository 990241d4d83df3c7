"""What a claim leaves: result.json, the figure, report.html, and the text for the terminal."""

from __future__ import annotations

import base64
import datetime
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, select_autoescape

from skipway.claims.claim import Claim, Settings
from skipway.claims.figures import figure_style, write_figure
from skipway.claims.results import Measure, Outcome, Results
from skipway.claims.running import Where, told_pictures
from skipway.claims.statistics import digits
from skipway.claims.trial import described
from skipway.evaluation.report import spelt
from skipway.files import write_text
from skipway.machine import cpu_name, pick_device, versions
from skipway.reporting import joined_lines


@dataclass(frozen=True)
class Reproduction:
    """A claim's verdict and where its files lie. `facts` is what result.json holds."""

    claim: Claim
    outcome: Outcome
    folder: Path
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: result.json, and the folder."""
        return {**self.facts, "folder": str(self.folder)}

    def describe(self) -> str:
        """The claim, its table, the verdict."""
        claim, outcome = self.claim, self.outcome
        return joined_lines(
            [
                f"{claim.name}: {claim.sentence}",
                f"source: {claim.source}; reported: {claim.reported}",
                f"budget {self.facts['budget']}: {self.facts['said']}",
                "",
                *table(outcome.measures, self.facts["seeds"]).split("\n"),
                "",
                f"rule: {claim.rule}",
                f"{outcome.verdict.upper()}: {outcome.reason}",
                f"{self.folder / 'report.html'}",
            ]
        )


def table(measures: Sequence[Measure], seeds: Sequence[int]) -> str:
    """Rows of text: mean, standard deviation, 95 % interval, then every seed's value."""
    return aligned([head(seeds), *(cells(one) for one in measures)])


def head(seeds: Sequence[int]) -> list[str]:
    """The texts above the columns of `cells`."""
    return ["", "unit", "mean", "sd", "95 % interval", *(f"seed {seed}" for seed in seeds)]


def cells(measure: Measure) -> list[str]:
    """A table row's texts."""
    known = [one for one in measure.values if one is not None]
    scale = max(known) - min(known) if len(known) > 1 else 0.0
    scale = scale or max((abs(one) for one in known), default=1.0) / 50
    found = measure.interval
    middle = (
        [
            digits(found.mean, scale),
            digits(found.sd, scale),
            f"{digits(found.low, scale)} to {digits(found.high, scale)}",
        ]
        if found is not None
        else ["-", "-", "-"]
    )
    return [measure.name, measure.unit, *middle, *("none" if v is None else digits(v, scale) for v in measure.values)]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first two to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def concluded(claim: Claim, settings: Settings, where: Where, results: Results, seconds: float) -> Reproduction:
    """Judge, draw and write everything. Raises StorageError."""
    outcome = claim.judge(results)
    folder = where.folder / claim.name
    facts = _facts(claim, settings, where, results, outcome, seconds)
    with figure_style():
        write_figure(claim.draw(results), folder)
    write_text(folder / "report.html", _page(claim, settings, where, outcome, facts, folder))
    write_text(folder / "result.json", json.dumps(facts, indent=1) + "\n")
    return Reproduction(claim, outcome, folder, facts)


def _facts(
    claim: Claim, settings: Settings, where: Where, results: Results, outcome: Outcome, seconds: float
) -> dict[str, Any]:
    """Everything of result.json. Only what is under `times` and `made` differs between two runs with the same seeds."""
    device = pick_device(where.device)
    arms = settings.arms_of(claim)
    said = claim.said[settings.budget]
    if settings.epochs:
        said += f"; but every run cut to --epochs {settings.epochs}"
    return {
        "claim": claim.name,
        "sentence": claim.sentence,
        "source": claim.source,
        "reported": claim.reported,
        "rule": claim.rule,
        "budget": settings.budget,
        "said": said,
        "seeds": list(results.seeds),
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "results": [one.to_dict() for one in outcome.measures if one.unit not in _TIMES],
        "arms": {
            one.name: {"label": one.label, "data": told_pictures(one), **described(one.spec, one.recipe)}
            for one in arms
        },
        "runs": [
            {"arm": one.arm, "seed": one.seed, "curve": dict(one.curve), "looked": dict(one.looked)}
            for one in results.trials.values()
        ],
        "times": {
            "results": [one.to_dict() for one in outcome.measures if one.unit in _TIMES],
            "runs": [{"arm": one.arm, "seed": one.seed, **one.times} for one in results.trials.values()],
        },
        "made": {
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "seconds": seconds,
            **versions(device),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        },
    }


_TIMES = ("pictures/s", "s", "speed")  # units of measures that no seed settles


def _page(claim: Claim, settings: Settings, where: Where, outcome: Outcome, facts: dict[str, Any], folder: Path) -> str:
    environment = Environment(
        loader=PackageLoader("skipway.claims", ""),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        finalize=spelt,
    )
    picture = base64.b64encode((folder / "figure.svg").read_bytes()).decode()
    return environment.get_template("report.html.jinja").render(
        claim=claim,
        outcome=outcome,
        facts=facts,
        picture=picture,
        command=command_of(claim, settings, where),
        head=head(facts["seeds"]),
        rows=[cells(one) for one in outcome.measures],
    )


def command_of(claim: Claim, settings: Settings, where: Where) -> str:
    """What to type for this very result."""
    options: dict[str, Any] = {
        "--budget": settings.budget,
        "--seeds": settings.seeds,
        "--seed": settings.seed,
        "--epochs": settings.epochs,
        "--data": where.data,
        "--out": "" if where.folder == Path("claims") else where.folder,
        "--device": "" if where.device == "auto" else where.device,
    }
    told = [f"{name} {shlex.quote(str(value))}" for name, value in options.items() if value]
    return " ".join(["skipway reproduce", claim.name, *told])
