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
from skipway.plotting import INK, MUTED, NOTE_SIZE, SERIES, figure_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "INK",
    "MUTED",
    "SPREAD",
    "annotate_above",
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
    pattern = (0, (4, 2)) if dashed else "-"
    width = 2.2 if thick else 1.4
    axes.plot(steps, values.mean(0), color=colour, label=label or None, linestyle=pattern, linewidth=width)
    if len(values) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def bars(
    axes: Axes, heights: Mapping[str, np.ndarray], *, colours: Sequence[str] = COLOURS, form: str = "{:.1f}"
) -> None:
    """A bar for each arm at the mean of its seeds, each seed a dot; values that are not finite leave a gap.

    `heights` has an arm's values by its label, `form` is how a mean is written above its bar.
    """
    for place, values in enumerate(heights.values()):
        colour = colours[place % len(colours)]
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        mean = known.mean()
        axes.bar(place, mean, 0.62, color=colour, alpha=0.45)
        axes.plot(place + _offsets(len(known), 0.14), known, "o", color=colour, markersize=4.5)
        top = max(known.max(), mean)
        annotate_above(axes, form.format(mean), place, top)
    axes.set_xticks(range(len(heights)), list(heights))
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.14)


def dots(
    axes: Axes, values: Mapping[str, np.ndarray], *, colours: Sequence[str] = COLOURS, form: str = "{:.1f}"
) -> None:
    """Each seed a dot, the mean a line below its number, its 95 % interval upright.

    For axes that do not begin at 0, where bars would mislead. `values` has an arm's values by its label, `form` is how
    a mean is written.
    """
    for place, sample in enumerate(values.values()):
        colour = colours[place % len(colours)]
        mean = sample.mean()
        axes.plot(place + _offsets(len(sample), 0.16), sample, "o", color=colour, markersize=5, alpha=0.7)
        axes.plot([place - 0.28, place + 0.28], [mean, mean], color=colour, linewidth=2.4)
        top = float(sample.max())
        if len(sample) > 1:
            interval = mean_interval(sample)
            axes.plot([place + 0.28] * 2, [interval.low, interval.high], color=colour, linewidth=1.4)
            top = max(top, interval.high)
        annotate_above(axes, form.format(mean), place, top)
    axes.set_xticks(range(len(values)), list(values))
    axes.set_xlim(-0.55, len(values) - 0.45)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)


def annotate_above(axes: Axes, text: str, place: float, height: float) -> None:
    """A text right above a point."""
    axes.annotate(text, (place, height), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=9)


def _offsets(count: int, reach: float) -> np.ndarray:
    """Where dots of one arm stand beside each other: from -reach to reach, a single one at 0."""
    if count == 1:
        return np.zeros(1)
    return np.linspace(-reach, reach, count)


def write_figure(figure: Any, folder: Path) -> None:
    """figure.svg and figure.png, the same bytes for the same figure; needs `figure_style`. Raises StorageError."""
    write_whole(folder / "figure.svg", lambda file: save_figure(figure, file, "svg"))
    write_whole(folder / "figure.png", lambda file: save_figure(figure, file, "png"))
