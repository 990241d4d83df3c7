"""report.html: one file that shows what a network learned, how well, and where it fails. It opens offline.

Labels and file names come from strangers: whatever is no drawing of ours goes through the template's autoescape.
"""

from __future__ import annotations

import base64
import importlib.resources
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from skipway.data.dataset import Split
from skipway.data.preprocessing import Picture, Preprocessing
from skipway.data.resizing import ANTIALIASED
from skipway.errors import PictureError
from skipway.evaluation import figures
from skipway.evaluation.figures import column_points, percent
from skipway.evaluation.metrics import Evaluation
from skipway.files import write_text
from skipway.reporting import escaped, escaped_lines
from skipway.version import __version__

THUMBNAIL = 96
_ENLARGED = 64  # smaller pictures grow with their pixels visible: smoothed, a digit of 28 pixels is a blur
MISTAKES = 24
PAIRS = 20
NUMBERS = 20  # up to so many classes the confusion matrix is a table of numbers


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    `evaluation.indices` are positions in `split`, named `split_name`. Rows of `history` have the columns of
    `metrics.csv`; those of validation may be missing, and so may all rows. `remarks` are sentences.
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


@dataclass(frozen=True)
class Mistake:
    """A wrong answer. `image` is a data URL, empty where the picture could not be read for the `reason`."""

    name: str
    short_name: str
    truth: str
    answer: str
    confidence: float
    image: str
    enlarged: bool
    reason: str


def write_report(file: Path, report: Report) -> None:
    """Write the page, whole or not at all. Raises StorageError."""
    write_text(file, render(report))


def render(report: Report) -> str:
    """The page as text."""
    evaluation = report.evaluation
    confusion = np.array(evaluation.confusion, np.int64).reshape(len(evaluation.labels), -1)
    bins = figures.calibration_bins(evaluation)
    page = _template().render(
        report=report,
        evaluation=evaluation,
        version=__version__,
        wrong=evaluation.count - int(confusion.trace()),
        interval=wilson_interval(evaluation.top1, evaluation.count),
        weakest=_weakest(evaluation),
        curves=figures.learning_curves(report.history),
        validated=len(column_points(report.history, "val_loss")[0]) > 0,
        run=_run_facts(report.history),
        classes=_class_rows(evaluation, confusion),
        means=_class_means(evaluation),
        matrix=_matrix_rows(evaluation.labels, confusion) if len(evaluation.labels) <= NUMBERS else [],
        heat_map=figures.heat_map(confusion, evaluation.labels) if len(evaluation.labels) > NUMBERS else None,
        pairs=confused_pairs(confusion, evaluation.labels),
        mistakes=worst_mistakes(evaluation, report.split),
        bins=bins,
        excess=_excess_confidence(bins),
        reliability=figures.reliability_diagram(bins, evaluation.ece),
        preprocessing=describe_preprocessing(report.preprocessing),
        chance=math.log(len(evaluation.labels)),
    )
    return escaped_lines(page)


def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=spelt
    )
    environment.filters |= {"percent": percent, "hundredths": _hundredths, "breakable": _breakable, "lines": _lines}
    source = importlib.resources.files("skipway.evaluation").joinpath("report.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8"))


def spelt(value: Any) -> Any:
    """What a template puts into a page: texts with their newlines and control characters spelt out; markup as it is."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """A text of ours whose newlines stay."""
    return escape(escaped_lines(text))


def _hundredths(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction * 100:.1f}"


def _breakable(name: str) -> Markup:
    """A file name that may continue on the next line after a folder and between words."""
    return Markup(re.sub(r"(?<=[/_-])", "<wbr>", str(escape(escaped(name)))))


def wilson_interval(fraction: float, count: int) -> tuple[float, float]:
    """Where the true accuracy lies with 95 % confidence, given this many pictures."""
    if count == 0:
        return 0.0, 1.0
    z = 1.959964
    middle = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _weakest(evaluation: Evaluation) -> Any:
    present = [score for score in evaluation.per_class if score.support]
    return min(present, key=lambda score: score.recall, default=None)


def _excess_confidence(bins: Sequence[figures.Bin]) -> float:
    """Mean probability of the answers less the share that was right."""
    count = sum(one.count for one in bins)
    return sum(one.count * (one.confidence - one.accuracy) for one in bins) / max(count, 1)


def _class_rows(evaluation: Evaluation, confusion: np.ndarray) -> list[dict[str, Any]]:
    """Scores, None where undefined; weakest first where there are too many classes to look through."""
    called = confusion.sum(0)
    rows: list[dict[str, Any]] = []
    for score, answers in zip(evaluation.per_class, called, strict=True):
        scores = (
            ("precision", score.precision if answers else None),
            ("recall", score.recall if score.support else None),
            ("f1", score.f1 if score.support else None),
        )
        rows.append({"label": score.label, "scores": scores, "support": score.support, "f1": score.f1})
    if len(rows) > NUMBERS:
        rows.sort(key=lambda row: (row["support"] == 0, row["f1"]))
    return rows


def _class_means(evaluation: Evaluation) -> list[float]:
    present = [score for score in evaluation.per_class if score.support]
    count = max(len(present), 1)
    return [sum(getattr(score, name) for score in present) / count for name in ("precision", "recall", "f1")]


def _matrix_rows(labels: Sequence[str], confusion: np.ndarray) -> list[dict[str, Any]]:
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return [
        {
            "label": label,
            # The root makes a confusion of one in a hundred visible; right answers keep their proportion.
            "cells": [
                {"count": int(n), "right": i == j, "tint": float(share if i == j else 0.12 + 0.88 * math.sqrt(share))}
                for j, (n, share) in enumerate(zip(confusion[i], shares[i], strict=True))
            ],
        }
        for i, label in enumerate(labels)
    ]


def confused_pairs(confusion: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent mistakes: true class, answer, how many, and which share of the true class."""
    wrong = confusion - np.diag(confusion.diagonal())
    support = confusion.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j]:
            share = float(wrong[i, j] / support[i])
            pairs.append({"truth": labels[i], "answer": labels[j], "count": int(wrong[i, j]), "share": share})
    return pairs


def worst_mistakes(evaluation: Evaluation, split: Split) -> list[Mistake]:
    """The wrong answers of the highest probability, surest first."""
    answers, targets = evaluation.answers.numpy(), evaluation.targets.numpy()
    confidences = np.nan_to_num(evaluation.confidences.float().numpy(), nan=-1.0)
    wrong = np.flatnonzero(answers != targets)
    mistakes = []
    for at in wrong[np.argsort(-confidences[wrong], kind="stable")][:MISTAKES]:
        index = int(evaluation.indices[at])
        image, enlarged, reason = "", False, ""
        try:
            image, enlarged = thumbnail(split.pictures[index])
        except PictureError as error:
            reason = error.reason
        except Exception as error:  # a page about a thousand pictures must not fail for one of them
            reason = f"cannot be read ({' '.join(str(error).split())[:120] or type(error).__name__})"
        name = split.pictures.name(index)
        truth, answer = evaluation.labels[int(targets[at])], evaluation.labels[int(answers[at])]
        short_name = "/".join(PurePath(name).parts[-2:])
        confidence = float(evaluation.confidences[at])
        mistakes.append(Mistake(name, short_name, truth, answer, confidence, image, enlarged, reason))
    return mistakes


def thumbnail(picture: Picture) -> tuple[str, bool]:
    """A picture as a data URL, its longer side 96 pixels, and whether it was enlarged pixel by pixel."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)
    image = picture if picture.mode in {"L", "RGB"} else picture.convert("RGB")
    longest = max(image.size)
    enlarged = longest < _ENLARGED
    size = (max(round(image.width * THUMBNAIL / longest), 1), max(round(image.height * THUMBNAIL / longest), 1))
    small = image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
    small.info = {}  # a colour profile can be larger than the picture
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", enlarged


def describe_preprocessing(one: Preprocessing) -> dict[str, str]:
    """What happens to a picture on its way into the network, in words."""
    side, cut = f"{one.resize_to} pixels", f", then the central {one.size} × {one.size} cut out"
    if one.resize == "squash":
        geometry = f"both sides to {side}, whatever the shape{cut if one.size != one.resize_to else ''}"
    else:
        geometry = f"the shorter side to {side}{cut}"
    if one.central < 1:
        geometry = f"the central {one.central * 100:g} % of both sides kept; {geometry}"
    inverse = 1 / one.scale if one.scale else 0.0
    factor = f"1/{inverse:.0f}" if inverse > 1 and math.isclose(inverse, round(inverse)) else f"{one.scale:g}"
    order = {"RGB": "red, green, blue", "BGR": "blue, green, red", "L": "grey"}[one.channels]
    return {
        "Input": f"{one.size} × {one.size} pixels, {order}",
        "Resize": geometry,
        "Kernel": f"{one.kernel}, antialiased" if one.kernel in ANTIALIASED else one.kernel,
        "Values": "counts 0 to 255" + ("" if one.scale == 1 else f" times {factor}") + ", less mean, over deviation",
        "Mean": ("" if one.mean_image is None else "an image, on average ") + ", ".join(f"{m:g}" for m in one.mean),
        "Deviation": ", ".join(f"{value:g}" for value in one.std),
    }


def _run_facts(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """The run in a few numbers, each only where the history tells it."""
    facts: dict[str, str] = {}
    if not history:
        return facts
    facts["Epochs"] = f"{len(history):,}"
    steps = column_points(history, "step")[1]
    if len(steps):
        facts["Steps"] = f"{steps[-1]:,.0f}"
    for column, name, pick in (
        ("val_top1", "Highest validation top-1", np.argmax),
        ("val_loss", "Lowest validation loss", np.argmin),
    ):
        epochs, values = column_points(history, column)
        if len(values):
            best = int(pick(values))
            shown = percent(float(values[best])) if column == "val_top1" else f"{values[best]:.3f}"
            facts[name] = f"{shown}, epoch {epochs[best]:.0f}"
    speed = column_points(history, "images_per_second")[1]
    if len(speed):
        facts["Pictures per second"] = f"{np.median(speed):,.0f}"
    seconds = column_points(history, "seconds")[1]
    if len(seconds):
        facts["Time"] = _duration(float(seconds[-1]))
    return facts


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
