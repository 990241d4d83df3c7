"""The drawings of a report: learning curves, reliability diagram, confusion heat map."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from skipway.evaluation.metrics import CALIBRATION_BINS, Evaluation
from skipway.evaluation.svg import (
    ACCENT,
    CONTRAST,
    INK,
    LINE,
    MUTED,
    TEXT_SIZE,
    chart,
    drawing_style,
    plain,
    to_svg,
)
from skipway.reporting import escaped

# A bitmap cannot follow the page's colours, so these two are readable on white and on black.
_BITMAP_RIGHT, _BITMAP_WRONG = (0.25, 0.51, 0.77), (0.90, 0.45, 0.16)

_MAX_SIDE = 620.0  # of a heat map, in points
_MAX_CELLS = 240
_LABEL_PITCH = 8.6  # closer than this, labels of the heat map would touch


@dataclass(frozen=True)
class Drawing:
    """One figure of the page."""

    title: str
    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Bin:
    """Pictures whose answer had a probability from `low` to `high`; the means are 0 where there are none."""

    low: float
    high: float
    count: int
    accuracy: float
    confidence: float


def percent(fraction: float) -> str:
    """`93.3 %`; rounding never claims perfection: `99.97 %`, `> 99.99 %`."""
    if not math.isfinite(fraction):
        return "–"
    value = fraction * 100
    if 0.99995 <= fraction < 1:
        return ">\u00a099.99\u00a0%"
    if 0.9995 <= fraction < 1:
        return f"{value:.2f}\u00a0%"
    return f"{value:.1f}\u00a0%"


@drawing_style()
def learning_curves(history: Sequence[Mapping[str, float]]) -> list[Drawing]:
    """Loss, top-1 accuracy and learning rate over the epochs; a curve without a finite value is left out."""
    charts = (
        ("Loss", ("train_loss", "val_loss"), "Cross-entropy in nats."),
        ("Top-1 accuracy", ("train_top1", "val_top1"), ""),
        ("Learning rate", ("learning_rate",), ""),
    )
    drawings = []
    for title, columns, caption in charts:
        curves = {}
        for column in columns:
            epochs, values = column_points(history, column)
            if len(epochs):
                curves[column] = (epochs, values)
        if curves:
            drawings.append(_curve_chart(title, curves, caption))
    return drawings


def column_points(history: Sequence[Mapping[str, float]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of the rows in which the column holds a finite number."""
    points = []
    for number, row in enumerate(history, 1):
        value: Any = row.get(column)
        # A table read from disk has empty cells where a run did not validate.
        if isinstance(value, Real) and math.isfinite(value):
            epoch = float(row.get("epoch", number))
            points.append((epoch, float(value)))
    table = np.array(points, float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _curve_chart(title: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], caption: str) -> Drawing:
    """A chart of one curve, or of one of training and one of validation."""
    has_both = len(curves) > 1
    figure, axes = chart(340, 212, left=40, right=54 if has_both else 12, bottom=36, top=10)
    values = np.concatenate([values for _, values in curves.values()])
    is_share = title.startswith("Top")
    is_logarithmic = not is_share and _spans_decades(values)
    if is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        caption = f"{caption} Logarithmic scale.".strip()
    ends = []
    ranges = []
    for column, (epochs, heights) in curves.items():
        is_training = column.startswith("train")
        name = "training" if is_training else "validation"
        # Validation is the thicker line as well: colour alone would not reach everybody.
        colour, width = ACCENT, 2.2
        if is_training and has_both:
            colour, width = MUTED, 1.1
        axes.plot(epochs, heights, color=colour, linewidth=width, clip_on=False)
        axes.plot(epochs[-1:], heights[-1:], "o", color=colour, markersize=2 + width, clip_on=False)
        ends.append((epochs[-1], heights[-1], name, colour))
        ranges.append(f"{name} from {heights[0]:.4g} to {heights[-1]:.4g}")
    _scale_curve_axes(axes, values, is_share=is_share, is_logarithmic=is_logarithmic)
    if has_both:
        _end_labels(axes, ends)
    svg_name = title.split()[0].lower()
    description = f"{title} by epoch: {'; '.join(ranges)}"
    return Drawing(title, to_svg(figure, svg_name, description), caption)


def _scale_curve_axes(axes: Any, values: np.ndarray, *, is_share: bool, is_logarithmic: bool) -> None:
    """Set the limits of the values, and the numbers of both axes."""
    highest = values.max()
    if is_share:
        lowest = max(values.min() - 0.06, 0)
        axes.set_ylim(lowest, 1)
        axes.yaxis.set_major_formatter(FuncFormatter(_whole_percent))
    else:
        if not is_logarithmic:
            axes.set_ylim(0, highest * 1.06 if highest > 0 else 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlabel("epoch", color=MUTED, fontsize=TEXT_SIZE, labelpad=3)


def _whole_percent(value: float, place: int) -> str:  # noqa: ARG001 (Matplotlib gives the number of the mark, too)
    return f"{value * 100:.0f}\u00a0%"


def _spans_decades(values: np.ndarray) -> bool:
    """Whether values need a logarithmic scale."""
    low = values.min()
    high = values.max()
    if low <= 1e-12:
        return False
    if high > 300 * low:
        return True
    is_steps = len(np.unique(values)) <= 8  # a rate that falls by tens
    return bool(is_steps and high > 30 * low)


def _end_labels(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right end of each curve, pushed apart where they would touch."""
    heights = []
    for x, y, _, _ in ends:
        position = axes.transData.transform((x, y))
        heights.append(float(position[1]))
    if len(ends) == 2 and abs(heights[0] - heights[1]) < TEXT_SIZE * 1.25:
        middle = sum(heights) / 2
        shift = 0.625 * TEXT_SIZE
        if heights[1] > heights[0]:
            shift = -shift
        heights = [middle + shift, middle - shift]
    right = axes.transAxes.transform((1, 0))[0] + 4
    for (_, _, name, colour), height in zip(ends, heights, strict=True):
        axes.text(right, height, name, transform=None, color=colour, fontsize=TEXT_SIZE, va="center_baseline")


def calibration_bins(evaluation: Evaluation) -> list[Bin]:
    """The bins that the calibration error sums over."""
    confidences = evaluation.confidences.double()
    finite = confidences.isfinite()
    confidences = confidences[finite]
    hits = (evaluation.answers == evaluation.targets)[finite].double()
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1)
    places = torch.bucketize(confidences.float(), edges, right=True) - 1
    places = places.clamp(0, CALIBRATION_BINS - 1)
    bins = []
    for i in range(CALIBRATION_BINS):
        inside = places == i
        count = int(inside.sum())
        accuracy = float(hits[inside].sum()) / max(count, 1)
        confidence = float(confidences[inside].sum()) / max(count, 1)
        low = i / CALIBRATION_BINS
        high = (i + 1) / CALIBRATION_BINS
        bins.append(Bin(low, high, count, accuracy, confidence))
    return bins


@drawing_style()
def reliability_diagram(bins: Sequence[Bin], ece: float) -> Drawing:
    """Accuracy over confidence in bins, above the number of pictures in each."""
    width, height, left, right = 470, 400, 46, 14
    inner_width = width - left - right
    figure, axes = chart(width, height, left=left, right=right, bottom=116, top=10)
    counts = figure.add_axes((left / width, 38 / height, inner_width / width, 62 / height))
    plain(counts)
    filled = [section for section in bins if section.count]
    places = [(section.low + section.high) / 2 for section in filled]
    column_width = 0.86 / len(bins)
    axes.bar(places, [section.accuracy for section in filled], column_width, color=ACCENT, alpha=0.45)
    counts.bar(places, [section.count for section in filled], column_width, color=MUTED, alpha=0.5)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    largest = 1
    for place, section in zip(places, filled, strict=True):
        axes.plot([place, place], [section.accuracy, section.confidence], color=CONTRAST, linewidth=1.6)
        axes.plot([place], [section.confidence], "o", color=CONTRAST, markersize=4.2)
        number = f"{section.count:,}"
        if section.count >= 100_000:
            number = f"{section.count / 1000:,.0f}k"
        above = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
        counts.annotate(number, (place, section.count), color=MUTED, fontsize=7.2, **above)
        largest = max(largest, section.count)
    axes.set_ylim(0, 1.02)
    counts.set_ylim(0, largest * 1.25)
    for panel, name in ((axes, "share of right answers"), (counts, "pictures")):
        panel.set_xlim(0, 1)
        panel.set_xticks(np.linspace(0, 1, 6))
        panel.set_ylabel(name, color=MUTED, fontsize=TEXT_SIZE)
        panel.yaxis.set_label_coords(-38 / inner_width, 0.5)
    counts.set_xlabel("probability of the answer", color=MUTED, fontsize=TEXT_SIZE, labelpad=4)
    counts.set_yticks([])
    axes.xaxis.set_major_formatter(NullFormatter())
    for axis in (axes.yaxis, counts.xaxis):
        axis.set_major_formatter(FuncFormatter(_whole_percent))
    calibration = f"calibration error {percent(ece)}"
    description = f"Reliability diagram: share of right answers by probability of the answer; {calibration}"
    return Drawing("Reliability", to_svg(figure, "reliability", description))


@drawing_style()
def heat_map(confusion: np.ndarray, labels: Sequence[str]) -> Drawing:
    """The confusion matrix as a bitmap with as many labels as have room."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    classes = len(labels)
    block = math.ceil(classes / _MAX_CELLS)
    shares = _pooled(shares, block)
    needed = classes * _LABEL_PITCH
    side = min(max(needed, 380.0), _MAX_SIDE)
    stride = 1
    if needed > _MAX_SIDE:
        stride = math.ceil(classes * 1.4 * _LABEL_PITCH / side)
    shown = [_short(escaped(labels[i])) for i in range(0, classes, stride)]
    size = min(side / classes * stride * 0.82, 8.0)
    longest = max(_columns(label) for label in shown)
    margin = longest * size * 0.55 + 24
    whole = side + margin + 6
    figure, axes = chart(whole, whole, left=margin, right=6, bottom=6, top=margin)
    axes.imshow(_coloured(shares), interpolation="none", extent=(0, classes, classes, 0), aspect="auto", zorder=2)
    axes.grid(visible=False)
    places = np.arange(0, classes, stride) + 0.5
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(places, shown, rotation=90, rotation_mode="anchor", ha="left", va="center", parse_math=False)
    axes.set_yticks(places, shown, parse_math=False)
    axes.tick_params(labelsize=size, labelcolor=INK, pad=3)
    axes.set_xlabel("called", color=MUTED, fontsize=TEXT_SIZE + 1)
    axes.set_ylabel("true class", color=MUTED, fontsize=TEXT_SIZE + 1)
    title_place = (margin - 9) / side
    axes.xaxis.set_label_coords(0.5, 1 + title_place)
    axes.yaxis.set_label_coords(-title_place, 0.5)
    _frame(axes, classes)
    description = (
        f"Confusion matrix of {classes} classes as a heat map; the pairs confused most often are in the table below"
    )
    notes = []
    if block > 1:
        notes.append(f"A cell stands for {block} × {block} classes and shows the greatest of their shares.")
    if stride > 1:
        notes.append(f"Every {_ordinal(stride)} class is labelled.")
    return Drawing("Confusion", to_svg(figure, "confusion", description), " ".join(notes))


def _frame(axes: Any, classes: int) -> None:
    """A frame around the heat map, and faint rows and columns, which guide the eye from a label to its cell."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=LINE, linewidth=1)
    has_room = classes * _LABEL_PITCH <= _MAX_SIDE
    if not has_room:
        return
    for line in range(1, classes):
        axes.axhline(line, color=LINE, linewidth=0.5, zorder=1)
        axes.axvline(line, color=LINE, linewidth=0.5, zorder=1)


def _pooled(shares: np.ndarray, block: int) -> np.ndarray:
    """The greatest share of each block of `block` x `block` cells."""
    rest = -len(shares) % block
    padded = np.pad(shares, ((0, rest), (0, rest)))
    cells = len(padded) // block
    return padded.reshape(cells, block, cells, block).max((1, 3))


def _coloured(shares: np.ndarray) -> np.ndarray:
    """RGBA. The root makes a confusion of one in a hundred visible."""
    cells = np.empty((*shares.shape, 4))
    cells[..., :3] = _BITMAP_WRONG
    cells[np.eye(len(shares), dtype=bool), :3] = _BITMAP_RIGHT
    cells[..., 3] = np.where(shares > 0, 0.2 + 0.8 * np.sqrt(shares), 0)
    return (cells * 255).round().astype(np.uint8)


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = endings.get(number % 10, "th")
    if number % 100 in (11, 12, 13):
        ending = "th"
    return f"{number}{ending}"


def _columns(text: str) -> int:
    """How many places a text takes where a wide character takes two."""
    columns = 0
    for character in text:
        is_wide = unicodedata.east_asian_width(character) in "WF"
        columns += 2 if is_wide else 1
    return columns


def _short(text: str, columns: int = 20) -> str:
    if _columns(text) <= columns:
        return text
    while _columns(text) > columns - 1:
        text = text[:-1]
    return text.rstrip() + "…"
