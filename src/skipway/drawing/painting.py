"""Scenes made visible: one code path for SVG, PNG and PDF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline

from skipway.drawing.scene import Box, Frame, Label, Line, Point, Scene
from skipway.evaluation.svg import drawing_style

PNG_DOTS_PER_INCH = 200
INK, MUTED, PAPER, RULE = "#1F2A37", "#66717F", "#FFFFFF", "#5B6675"

# Fill and outline. Pale hues after Okabe and Ito's colour-blind safe set; a grey print loses nothing, since every box
# also says in words what it is, and a stride is darker than all else.
_COLOURS: dict[str, tuple[str, str]] = {
    "stage": ("#F3F5F8", "#DDE2E9"),
    "card": ("#FFFFFF", "#8C97A5"),
    "unit": ("#FFFFFF", "#5B6675"),
    "conv": ("#D3E4F4", "#9DBFDD"),
    "strided": ("#93BFE4", "#4F89B8"),
    "norm": ("#FAEBC0", "#DFC678"),
    "activation": ("#D5EBDD", "#98C7AB"),
    "pool": ("#E9DCEC", "#C5A9CC"),
    "drop": ("#F4F4F4", "#BDBDBD"),
    "dense": ("#F8D9C4", "#DFA27D"),
    "gate": ("#CDEBEC", "#83BFC2"),
    "badge": ("#3B4856", "#3B4856"),
    "map": ("#C9D3DE", "#7F8C9B"),
    "+": ("#FFFFFF", INK),
    "×": ("#FFFFFF", INK),
}
_TONES = {
    "ink": INK,
    "muted": MUTED,
    "paper": PAPER,
    "projection": "#B4501E",
    "padded": "#7A5195",
    "identity": "#2F6C9E",
    "subsampled": "#2F6C9E",
    "gated": "#1F7A7D",
}
# Colour, width, dashes in points.
_LINES: dict[str, tuple[str, float, tuple[float, ...]]] = {
    "flow": (INK, 0.9, ()),
    "identity": ("#2F6C9E", 1.1, ()),
    "subsampled": ("#2F6C9E", 1.1, (5, 1.6)),
    "padded": ("#7A5195", 1.1, (2.4, 1.6)),
    "projection": ("#B4501E", 1.6, ()),
    "gated": ("#1F7A7D", 1.3, ()),
    "leader": ("#A9B3BF", 0.6, (1.0, 1.6)),
    "bracket": (MUTED, 0.8, ()),
}
_LAYERS = {"panel": 0, "back": 3, "card": 4, "op": 5, "map": 5, "node": 7, "badge": 7}
_HEAD_LENGTH, _HEAD_WIDTH = 3.8, 3.2


def paint(scene: Scene, file: Path, form: str) -> None:
    """Write the scene to a file in the form `svg`, `png` or `pdf`; the same scene, the same bytes."""
    with drawing_style(), matplotlib.rc_context({"pdf.fonttype": 42, "font.family": ["sans-serif"]}):
        figure = Figure(figsize=(scene.width / 72, scene.height / 72), facecolor=PAPER)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, scene.width)
        axes.set_ylim(scene.height, 0)
        for box in scene.boxes:
            _paint_box(axes, box)
        for line in scene.lines:
            _paint_line(axes, line)
        for label in scene.labels:
            _paint_label(axes, label)
        # Without dates and versions a second picture of the same network is the same file.
        facts: dict[str, dict[str, str | None]] = {
            "svg": {"Title": scene.name, "Date": None, "Creator": None},
            "pdf": {"Title": scene.name, "CreationDate": None, "Creator": None, "Producer": None},
            "png": {"Title": scene.name, "Software": None},
        }
        figure.savefig(file, format=form, dpi=PNG_DOTS_PER_INCH, metadata=facts[form])


def _paint_box(axes: Any, box: Box) -> None:
    fill, edge = _COLOURS[box.role]
    frame, order = box.frame, _LAYERS[box.layer]
    if box.layer == "map":
        _paint_cuboid(axes, frame, box.depth)
    elif box.layer in {"node", "badge"}:
        centre = (frame.x + frame.width / 2, frame.y + frame.height / 2)
        axes.add_patch(Circle(centre, frame.width / 2, facecolor=fill, edgecolor=edge, linewidth=0.9, zorder=order))
        if box.layer == "node":
            _paint_sign(axes, box.role, centre, frame.width / 2 * 0.62)
    else:
        rounding = {"panel": 7.0, "op": 2.5}.get(box.layer, 4.5)
        axes.add_patch(
            FancyBboxPatch(
                (frame.x, frame.y), frame.width, frame.height,
                boxstyle=f"round,pad=0,rounding_size={min(rounding, frame.height / 2)}",
                facecolor=fill, edgecolor=edge, linewidth=0.9 if box.layer in {"card", "back"} else 0.6, zorder=order,
            )
        )  # fmt: skip


def _paint_sign(axes: Any, sign: str, centre: Point, reach: float) -> None:
    """A plus or a multiplication sign, drawn: a font would set it off centre."""
    for angle in (0, math.pi / 2) if sign == "+" else (math.pi / 4, -math.pi / 4):
        dx, dy = reach * math.cos(angle), reach * math.sin(angle)
        xs, ys = (centre[0] - dx, centre[0] + dx), (centre[1] - dy, centre[1] + dy)
        axes.plot(xs, ys, color=INK, linewidth=0.9, zorder=8)


def _paint_cuboid(axes: Any, face: Frame, depth: float) -> None:
    x, y, right, bottom = face.x, face.y, face.right, face.bottom
    sides = (
        ("#C9D3DE", ((x, y), (right, y), (right, bottom), (x, bottom))),
        ("#E4EAF0", ((x, y), (right, y), (right + depth, y - depth), (x + depth, y - depth))),
        ("#AAB7C5", ((right, y), (right + depth, y - depth), (right + depth, bottom - depth), (right, bottom))),
    )
    for colour, corners in sides:
        axes.add_patch(
            Polygon(corners, facecolor=colour, edgecolor="#7F8C9B", linewidth=0.5, joinstyle="round", zorder=5)
        )


def _paint_line(axes: Any, line: Line) -> None:
    colour, width, dashes = _LINES[line.style]
    points = list(line.points)
    order = 1 if line.style == "leader" else 2
    if line.arrow:
        points[-1] = _paint_head(axes, points[-2], points[-1], colour)
    axes.add_patch(
        PathPatch(
            _rounded(points, line.radius), facecolor="none", edgecolor=colour, linewidth=width,
            linestyle=(0, [dash / width for dash in dashes]) if dashes else "-", capstyle="butt", zorder=order,
        )
    )  # fmt: skip


def _paint_head(axes: Any, before: Point, tip: Point, colour: str) -> Point:
    """A filled triangle; where the line itself ends."""
    length = math.dist(before, tip)
    dx, dy = (tip[0] - before[0]) / length, (tip[1] - before[1]) / length
    foot = (tip[0] - dx * _HEAD_LENGTH, tip[1] - dy * _HEAD_LENGTH)
    half = _HEAD_WIDTH / 2
    corners = (tip, (foot[0] - dy * half, foot[1] + dx * half), (foot[0] + dy * half, foot[1] - dx * half))
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor="none", zorder=6))
    return (foot[0] + dx * 0.4, foot[1] + dy * 0.4)


def _rounded(points: list[Point], radius: float) -> Any:
    """The polyline with its corners cut by quadratic curves."""
    vertices, codes = [points[0]], [Outline.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        vertices += [_towards(corner, before, near), corner, _towards(corner, after, near)]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    return Outline([*vertices, points[-1]], [*codes, Outline.LINETO])


def _towards(start: Point, end: Point, distance: float) -> Point:
    share = distance / (math.dist(start, end) or 1.0)
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)


def _paint_label(axes: Any, label: Label) -> None:
    axes.text(
        label.x, label.y, label.text, fontsize=label.size, fontweight="bold" if label.bold else "normal",
        color=_TONES[label.tone], ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
        # The middle of capitals and figures, whatever hangs below the line in this one text.
        va="baseline", parse_math=False, zorder=9, transform=axes.transData,
    ).set_y(label.y + 0.36 * label.size)  # fmt: skip
