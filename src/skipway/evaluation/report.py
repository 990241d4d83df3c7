"""report.html: one file that shows what a network learned, how well, and where it fails. It opens offline.

Labels and file names come from strangers: the template escapes everything but the drawings.
"""

from __future__ import annotations

import importlib.resources
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from skipway.data.dataset import Split
from skipway.data.preprocessing import Preprocessing
from skipway.data.resizing import ANTIALIASED
from skipway.evaluation import figures
from skipway.evaluation.figures import column_points, percent
from skipway.evaluation.metrics import Evaluation
from skipway.evaluation.mistakes import worst_mistakes
from skipway.files import write_text
from skipway.reporting import escaped, escaped_lines
from skipway.version import __version__

PAIRS = 20
NUMBERS = 20  # up to so many classes the confusion matrix is a table of numbers


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        title: Title of the page.
        split_name: Name of the split.
        evaluation: The figures; `evaluation.indices` are positions in `split`.
        split: The pictures that were judged.
        history: A row for each epoch, with the columns of `metrics.csv`; those of validation may be missing, and so may
            all rows.
        preprocessing: How pictures were prepared.
        recipe_toml: The recipe of the training as TOML.
        facts: Values for the page's list of facts, by their names.
        remarks: Sentences that stand above the figures.
    """

    title: str
    split_name: str
    evaluation: Evaluation
    split: Split
    history: Sequence[Mapping[str, float]]
    preprocessing: Preprocessing
    recipe_toml: str
    facts: Mapping[str, str]
    remarks: Sequence[str] = ()


def write_report(file: Path, report: Report) -> None:
    """Write the page, whole or not at all. Raises StorageError."""
    write_text(file, render(report))


def render(report: Report) -> str:
    """The page as text."""
    evaluation = report.evaluation
    labels = evaluation.labels
    confusion = np.array(evaluation.confusion, np.int64).reshape(len(labels), -1)
    bins = figures.calibration_bins(evaluation)
    validation_losses = column_points(report.history, "val_loss")[1]
    matrix = []
    heat_map = None
    if len(labels) <= NUMBERS:
        matrix = _matrix_rows(labels, confusion)
    else:
        heat_map = figures.heat_map(confusion, labels)
    page = _template().render(
        report=report,
        evaluation=evaluation,
        version=__version__,
        wrong=evaluation.count - int(confusion.trace()),
        interval=wilson_interval(evaluation.top1, evaluation.count),
        weakest=_weakest(evaluation),
        curves=figures.learning_curves(report.history),
        validated=len(validation_losses) > 0,
        run=_run_facts(report.history),
        classes=_class_rows(evaluation, confusion),
        means=_class_means(evaluation),
        matrix=matrix,
        heat_map=heat_map,
        pairs=confused_pairs(confusion, labels),
        mistakes=worst_mistakes(evaluation, report.split),
        bins=bins,
        excess=_excess_confidence(bins),
        reliability=figures.reliability_diagram(bins, evaluation.ece),
        preprocessing=describe_preprocessing(report.preprocessing),
        chance=math.log(len(labels)),
    )
    return escaped_lines(page)


def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=spelt
    )
    environment.filters["percent"] = percent
    environment.filters["hundredths"] = _hundredths
    environment.filters["breakable"] = _breakable
    environment.filters["lines"] = _lines
    file = importlib.resources.files("skipway.evaluation").joinpath("report.html.jinja")
    source = file.read_text(encoding="utf-8")
    return environment.from_string(source)


def spelt(value: Any) -> Any:
    """What a template puts into a page: texts with their newlines and control characters spelt out; markup as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return escaped(value)


def _lines(text: str) -> Markup:
    """A text that skipway wrote, whose newlines stay."""
    return escape(escaped_lines(text))


def _hundredths(fraction: float | None) -> str:
    """A fraction in hundredths; a dash where it is undefined."""
    if fraction is None:
        return "–"
    return f"{fraction * 100:.1f}"


def _breakable(name: str) -> Markup:
    """A file name that may continue on the next line after a folder and between words."""
    safe_name = str(escape(escaped(name)))
    return Markup(re.sub(r"(?<=[/_-])", "<wbr>", safe_name))


def wilson_interval(fraction: float, count: int) -> tuple[float, float]:
    """Where the true accuracy lies with 95 % confidence, given this many pictures (Wilson 1927)."""
    if count == 0:
        return 0.0, 1.0
    z = 1.959964
    shrinkage = 1 + z * z / count
    middle = (fraction + z * z / (2 * count)) / shrinkage
    variance = fraction * (1 - fraction) / count + z * z / (4 * count * count)
    reach = z / shrinkage * math.sqrt(variance)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _weakest(evaluation: Evaluation) -> Any:
    """The scores of the class with the lowest recall; None where no class has a picture."""
    present = [score for score in evaluation.per_class if score.support]
    return min(present, key=lambda score: score.recall, default=None)


def _excess_confidence(bins: Sequence[figures.Bin]) -> float:
    """Mean probability of the answers less the share that was right."""
    count = 0
    excess = 0.0
    for section in bins:
        count += section.count
        excess += section.count * (section.confidence - section.accuracy)
    return excess / max(count, 1)


def _class_rows(evaluation: Evaluation, confusion: np.ndarray) -> list[dict[str, Any]]:
    """Scores, None where undefined; weakest first where there are too many classes to look through."""
    called = confusion.sum(0)
    rows: list[dict[str, Any]] = []
    for score, answers in zip(evaluation.per_class, called, strict=True):
        precision = score.precision if answers else None
        recall = None
        f1 = None
        if score.support:
            recall = score.recall
            f1 = score.f1
        scores = (("precision", precision), ("recall", recall), ("f1", f1))
        rows.append({"label": score.label, "scores": scores, "support": score.support, "f1": score.f1})
    if len(rows) > NUMBERS:
        rows.sort(key=lambda row: (row["support"] == 0, row["f1"]))
    return rows


def _class_means(evaluation: Evaluation) -> list[float]:
    """The means of precision, recall and F1 over the classes that have pictures."""
    present = [score for score in evaluation.per_class if score.support]
    count = max(len(present), 1)
    means = []
    for name in ("precision", "recall", "f1"):
        total = sum(getattr(score, name) for score in present)
        means.append(total / count)
    return means


def _matrix_rows(labels: Sequence[str], confusion: np.ndarray) -> list[dict[str, Any]]:
    """The confusion matrix as rows of cells, each with its count and the strength of its colour."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    rows = []
    for i, label in enumerate(labels):
        cells = []
        for j in range(len(labels)):
            share = shares[i, j]
            is_right = i == j
            # The root makes a confusion of one in a hundred visible; right answers keep their proportion.
            tint = share if is_right else 0.12 + 0.88 * math.sqrt(share)
            cells.append({"count": int(confusion[i, j]), "right": is_right, "tint": float(tint)})
        rows.append({"label": label, "cells": cells})
    return rows


def confused_pairs(confusion: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent mistakes: true class, answer, how many, and which share of the true class."""
    wrong = confusion - np.diag(confusion.diagonal())
    support = confusion.sum(1)
    most_first = np.argsort(-wrong, axis=None, kind="stable")
    truths, answers = np.unravel_index(most_first[:PAIRS], wrong.shape)
    pairs = []
    for i, j in zip(truths, answers, strict=True):
        count = wrong[i, j]
        if not count:
            continue
        share = float(count / support[i])
        pairs.append({"truth": labels[i], "answer": labels[j], "count": int(count), "share": share})
    return pairs


def describe_preprocessing(rule: Preprocessing) -> dict[str, str]:
    """What happens to a picture on its way into the network, in words."""
    order = {"RGB": "red, green, blue", "BGR": "blue, green, red", "L": "grey"}[rule.channels]
    kernel: str = rule.kernel
    if rule.kernel in ANTIALIASED:
        kernel += ", antialiased"
    values = "counts 0 to 255"
    if rule.scale != 1:
        values += f" times {_factor(rule.scale)}"
    mean = ", ".join(f"{value:g}" for value in rule.mean)
    if rule.mean_image is not None:
        mean = f"an image, on average {mean}"
    return {
        "Input": f"{rule.size} × {rule.size} pixels, {order}",
        "Resize": _geometry(rule),
        "Kernel": kernel,
        "Values": f"{values}, less mean, over deviation",
        "Mean": mean,
        "Deviation": ", ".join(f"{value:g}" for value in rule.std),
    }


def _geometry(rule: Preprocessing) -> str:
    """How a picture is resized and cut, in words."""
    side = f"{rule.resize_to} pixels"
    cut = f", then the central {rule.size} × {rule.size} cut out"
    if rule.resize != "squash":
        geometry = f"the shorter side to {side}{cut}"
    else:
        geometry = f"both sides to {side}, whatever the shape"
        if rule.size != rule.resize_to:
            geometry += cut
    if rule.central < 1:
        geometry = f"the central {rule.central * 100:g} % of both sides kept; {geometry}"
    return geometry


def _factor(scale: float) -> str:
    """A factor as text, where possible as a fraction: `1/255`."""
    inverse = 1 / scale if scale else 0.0
    if inverse > 1 and math.isclose(inverse, round(inverse)):
        return f"1/{inverse:.0f}"
    return f"{scale:g}"


def _run_facts(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """The run in a few numbers, each only where the history has it."""
    facts: dict[str, str] = {}
    if not history:
        return facts
    facts["Epochs"] = f"{len(history):,}"
    steps = column_points(history, "step")[1]
    if len(steps):
        facts["Steps"] = f"{steps[-1]:,.0f}"
    epochs, accuracies = column_points(history, "val_top1")
    if len(accuracies):
        best = int(np.argmax(accuracies))
        highest = percent(float(accuracies[best]))
        facts["Highest validation top-1"] = f"{highest}, epoch {epochs[best]:.0f}"
    epochs, losses = column_points(history, "val_loss")
    if len(losses):
        best = int(np.argmin(losses))
        facts["Lowest validation loss"] = f"{losses[best]:.3f}, epoch {epochs[best]:.0f}"
    speeds = column_points(history, "images_per_second")[1]
    if len(speeds):
        facts["Pictures per second"] = f"{np.median(speeds):,.0f}"
    seconds = column_points(history, "seconds")[1]
    if len(seconds):
        facts["Time"] = _duration(float(seconds[-1]))
    return facts


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole_minutes = round(seconds / 60)
    hours, minutes = divmod(whole_minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min"
