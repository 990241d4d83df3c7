"""One style for every figure: fonts, colours, sizes, grid lines. The same figure gives the same file, byte for byte.

A figure is drawn and saved inside `figure_style`. The figures of reports, of claims and of networks share it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import matplotlib.style

# Text, axes and text of second rank, grid lines, background. The page of a report has the same colours.
INK, MUTED, LINE, PAPER = "#1c1e22", "#62656c", "#e3dfd6", "#ffffff"

# Dark enough for small text on white.
BLUE, ORANGE, PURPLE, TEAL = "#1f5f99", "#bd4f17", "#7a5195", "#1f7a7d"

# The series of a chart: the palette of Okabe and Ito, which people with any colour vision can tell apart.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a", "#000000")

# Sizes of text in points: axes and legends, numbers inside a plot, notes below it.
TEXT_SIZE, SMALL_SIZE, NOTE_SIZE = 10.0, 9.0, 8.0
TITLE_SIZE = 11.0
RULE_WIDTH = 0.8  # of axes and grid lines, in points

# Pixels an inch of a bitmap.
PNG_RESOLUTION = 160


@contextlib.contextmanager
def figure_style(
    *, text_as: Literal["paths", "text"] = "paths", ink: str = INK, muted: str = MUTED, line: str = LINE
) -> Iterator[None]:
    """Matplotlib with this style, whatever a user's own settings say. It is also a decorator.

    `text_as` is how an SVG holds its text: `paths`, which look the same everywhere, or `text`, which can be searched
    and takes the reader's fonts. `ink`, `muted` and `line` replace the colours of text, of axes with their tick labels,
    and of grid lines. Inside PDF files text is always text.
    """
    settings = _settings(ink, muted, line)
    settings["svg.fonttype"] = "path" if text_as == "paths" else "none"
    with matplotlib.style.context(["default", settings]):
        yield


def _settings(ink: str, muted: str, line: str) -> dict[str, Any]:
    """Matplotlib's settings by name, for three colours."""
    return {
        "svg.hashsalt": "skipway",  # without it the ids of an SVG are drawn at random
        "pdf.fonttype": 42,  # TrueType, which programs that edit PDF files can read
        # Matplotlib's own font comes first in this family.
        "font.family": ["sans-serif"],
        "font.size": TEXT_SIZE,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlesize": TITLE_SIZE,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": muted,
        "axes.linewidth": RULE_WIDTH,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": line,
        "grid.linewidth": RULE_WIDTH,
        "xtick.color": muted,
        "ytick.color": muted,
        "legend.frameon": False,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
    }


def save_figure(
    figure: Any, file: Path, form: str, *, title: str | None = None, resolution: float = PNG_RESOLUTION
) -> None:
    """Write a figure to a file in the form `svg`, `png` or `pdf`: the same figure, the same bytes.

    Call it inside `figure_style`. `title` is stored in the file, `resolution` is the pixels an inch of a PNG. Raises
    OSError where the file cannot be written.
    """
    # Dates, and the name and version of the program, would differ from run to run.
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    facts = metadata[form]
    if title is not None:
        facts["Title"] = title
    figure.savefig(file, format=form, dpi=resolution, metadata=facts)
