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

from skipway.claims.arm import Arm
from skipway.claims.claim import Claim, Settings
from skipway.claims.figures import figure_style, write_figure
from skipway.claims.results import Measure, Outcome, Results
from skipway.claims.running import Where
from skipway.claims.statistics import digits
from skipway.evaluation.report import spelt
from skipway.files import write_text
from skipway.machine import cpu_name, pick_device, versions
from skipway.reporting import joined_lines, table
from skipway.training.recipe import recipe_to_toml

_TIMES = ("pictures/s", "s", "speed")  # units of measures that differ between runs with the same seeds


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
        claim = self.claim
        titles = head(self.facts["seeds"])
        rows = [cells(measure) for measure in self.outcome.measures]
        lines = [
            f"{claim.name}: {claim.sentence}",
            f"source: {claim.source}; reported: {claim.reported}",
            f"budget {self.facts['budget']}: {self.facts['said']}",
            "",
            *table(titles, rows).split("\n"),
            "",
            f"rule: {claim.rule}",
            f"{self.outcome.verdict.upper()}: {self.outcome.reason}",
            f"{self.folder / 'report.html'}",
        ]
        return joined_lines(lines)


def head(seeds: Sequence[int]) -> list[str]:
    """The titles of the columns of `cells`."""
    return ["", "unit", "mean", "sd", "95 % interval", *(f"seed {seed}" for seed in seeds)]


def cells(measure: Measure) -> list[str]:
    """A row of the table: name, unit, mean, standard deviation, 95 % interval, then every seed's value."""
    scale = _scale(measure)
    mean = sd = limits = "-"
    interval = measure.interval
    if interval is not None:
        mean = digits(interval.mean, scale)
        sd = digits(interval.sd, scale)
        limits = f"{digits(interval.low, scale)} to {digits(interval.high, scale)}"
    values = []
    for value in measure.values:
        text = "none"
        if value is not None:
            text = digits(value, scale)
        values.append(text)
    return [measure.name, measure.unit, mean, sd, limits, *values]


def _scale(measure: Measure) -> float:
    """The spread that a row's digits follow: that of its values, or a fiftieth of them where they are all equal."""
    known = [value for value in measure.values if value is not None]
    if not known:
        return 1.0 / 50
    spread = max(known) - min(known)
    if spread:
        return spread
    return max(abs(value) for value in known) / 50


def concluded(claim: Claim, settings: Settings, where: Where, results: Results, seconds: float) -> Reproduction:
    """Judge, draw and write everything: figure.svg, figure.png, report.html and result.json.

    `seconds` are those that the runs took. Raises StorageError.
    """
    outcome = claim.judge(results)
    folder = where.folder / claim.name
    facts = _facts(claim, settings, where, results, outcome, seconds)
    with figure_style():
        figure = claim.draw(results)
        write_figure(figure, folder)
    page = _page(claim, settings, where, outcome, facts, folder)
    write_text(folder / "report.html", page)
    write_text(folder / "result.json", json.dumps(facts, indent=1) + "\n")
    return Reproduction(claim, outcome, folder, facts)


def _facts(
    claim: Claim, settings: Settings, where: Where, results: Results, outcome: Outcome, seconds: float
) -> dict[str, Any]:
    """Everything of result.json. Only what is under `times` and `made` differs between two runs with the same seeds."""
    said = claim.said[settings.budget]
    if settings.epochs:
        said += f"; but every run cut to --epochs {settings.epochs}"
    rows = []
    timed_rows = []
    for measure in outcome.measures:
        if measure.unit in _TIMES:
            timed_rows.append(measure.to_dict())
        else:
            rows.append(measure.to_dict())
    arms = {arm.name: _arm_facts(arm) for arm in settings.arms_of(claim)}
    runs = []
    times = []
    for trial in results.trials.values():
        runs.append({"arm": trial.arm, "seed": trial.seed, "curve": dict(trial.curve), "looked": dict(trial.looked)})
        times.append({"arm": trial.arm, "seed": trial.seed, **trial.times})
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
        "results": rows,
        "arms": arms,
        "runs": runs,
        "times": {"results": timed_rows, "runs": times},
        "made": _made(where, seconds),
    }


def _arm_facts(arm: Arm) -> dict[str, Any]:
    """An arm for result.json: whatever is needed to run it again."""
    return {
        "label": arm.label,
        "data": arm.describe_pictures(),
        "network": arm.spec.to_dict(),
        "recipe": recipe_to_toml(arm.recipe),
    }


def _made(where: Where, seconds: float) -> dict[str, Any]:
    """When, how fast and with what the runs were made."""
    now = datetime.datetime.now(tz=datetime.UTC)
    device = pick_device(where.device)
    facts: dict[str, Any] = {"date": now.date().isoformat(), "seconds": seconds, **versions(device)}
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    else:
        facts["device"] = cpu_name()
    return facts


def _page(claim: Claim, settings: Settings, where: Where, outcome: Outcome, facts: dict[str, Any], folder: Path) -> str:
    """report.html, with the figure in it."""
    environment = Environment(
        loader=PackageLoader("skipway.claims", ""),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        finalize=spelt,
    )
    template = environment.get_template("report.html.jinja")
    picture = (folder / "figure.svg").read_bytes()
    return template.render(
        claim=claim,
        outcome=outcome,
        facts=facts,
        picture=base64.b64encode(picture).decode(),
        command=command_of(claim, settings, where),
        head=head(facts["seeds"]),
        rows=[cells(measure) for measure in outcome.measures],
    )


def command_of(claim: Claim, settings: Settings, where: Where) -> str:
    """What to type for this very result."""
    options: dict[str, Any] = {
        "--budget": settings.budget,
        "--seeds": settings.seeds,
        "--seed": settings.seed,
        "--epochs": settings.epochs,
        "--data": where.data,
        "--out": where.folder,
        "--device": where.device,
    }
    if where.folder == Path("claims"):
        del options["--out"]
    if where.device == "auto":
        del options["--device"]
    words = ["skipway", "reproduce", claim.name]
    for name, value in options.items():
        if value:
            words += [name, shlex.quote(str(value))]
    return " ".join(words)
