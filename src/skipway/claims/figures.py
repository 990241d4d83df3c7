"""What the figures of claims share: curves with their spread, bars with every seed's value.

A figure is drawn inside `figure_style` with units on every axis; n and what the spread is are said once, below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from skipway.claims.statistics import mean_interval
from skipway.files import write_whole
from skipway.plotting import INK, MUTED, NOTE_SIZE, SERIES, SMALL_SIZE, figure_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "INK",
    "MUTED",
    "SPREAD",
    "bars",
    "curve",
    "dots",
    "figure_style",
    "footed",
    "panels",
    "write_figure",
]

COLOURS = SERIES
SPREAD = "Lines are means over the seeds, bands reach from the smallest to the largest of them"


def panels(columns: int, rows: int = 1, *, width: float = 4.6, height: float = 3.6, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes, as `Figure.subplots` gives them; sizes of one panel in inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def footed(figure: Any, text: str) -> None:
    """A line below the figure: n, spread, what was cut short."""
    figure.supxlabel(text, fontsize=NOTE_SIZE, color=MUTED, x=0.01, ha="left", wrap=True)


def curve(
    axes: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    label: str = "",
    *,
    colour: str,
    dashed: bool = False,
    thick: bool = False,
) -> None:
    """The mean of (seeds, points) over the steps, with a band from the smallest to the largest."""
    style: dict[str, Any] = {"linestyle": (0, (4, 2)) if dashed else "-", "linewidth": 2.2 if thick else 1.4}
    axes.plot(steps, values.mean(0), color=colour, label=label or None, **style)
    if len(values) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def bars(
    axes: Axes, heights: Mapping[str, np.ndarray], *, colours: Sequence[str] = COLOURS, form: str = "{:.1f}"
) -> None:
    """A bar an arm at the mean of its seeds, each seed a dot; values that are not finite leave a gap."""
    for place, (values, colour) in enumerate(zip(heights.values(), _cycled(colours, len(heights)), strict=True)):
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        axes.bar(place, known.mean(), 0.62, color=colour, alpha=0.45)
        offsets = np.linspace(-0.14, 0.14, len(known)) if len(known) > 1 else np.zeros(1)
        axes.plot(place + offsets, known, "o", color=colour, markersize=4.5)
        axes.annotate(
            form.format(known.mean()),
            (place, max(known.max(), known.mean())),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL_SIZE,
        )
    axes.set_xticks(range(len(heights)), list(heights))
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.14)


def dots(
    axes: Axes, values: Mapping[str, np.ndarray], *, colours: Sequence[str] = COLOURS, form: str = "{:.1f}"
) -> None:
    """For axes that do not begin at 0, where bars would lie: each seed a dot, the mean a line below its number, its
    95 % interval upright."""
    for place, (sample, colour) in enumerate(zip(values.values(), _cycled(colours, len(values)), strict=True)):
        offsets = np.linspace(-0.16, 0.16, len(sample)) if len(sample) > 1 else np.zeros(1)
        axes.plot(place + offsets, sample, "o", color=colour, markersize=5, alpha=0.7)
        axes.plot([place - 0.28, place + 0.28], [sample.mean()] * 2, color=colour, linewidth=2.4)
        top = float(sample.max())
        if len(sample) > 1:
            found = mean_interval(sample)
            axes.plot([place + 0.28] * 2, [found.low, found.high], color=colour, linewidth=1.4)
            top = max(top, found.high)
        told: dict[str, Any] = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": SMALL_SIZE}
        axes.annotate(form.format(sample.mean()), (place, top), **told)
    axes.set_xticks(range(len(values)), list(values))
    axes.set_xlim(-0.55, len(values) - 0.45)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)


def _cycled(colours: Sequence[str], count: int) -> list[str]:
    return [colours[number % len(colours)] for number in range(count)]


def write_figure(figure: Any, folder: Path) -> None:
    """figure.svg and figure.png, the same bytes for the same figure; needs `figure_style`. Raises StorageError."""
    write_whole(folder / "figure.svg", lambda file: save_figure(figure, file, "svg"))
    write_whole(folder / "figure.png", lambda file: save_figure(figure, file, "png"))
