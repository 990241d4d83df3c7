"""A scene as a file: one code path for SVG, PNG and PDF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline

from skipway.drawing.scene import Box, Frame, Label, Line, Point, Scene
from skipway.plotting import BLUE, INK, MUTED, ORANGE, PAPER, PURPLE, TEAL, figure_style, save_figure

PNG_DOTS_PER_INCH = 200
POINTS_PER_INCH = 72

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
    "+": (PAPER, INK),
    "×": (PAPER, INK),
}
_CUBOID_TOP, _CUBOID_SIDE = "#E4EAF0", "#AAB7C5"
_TONES = {
    "ink": INK,
    "muted": MUTED,
    "paper": PAPER,
    "projection": ORANGE,
    "padded": PURPLE,
    "identity": BLUE,
    "subsampled": BLUE,
    "gated": TEAL,
}
# Colour, width, dashes in points.
_LINES: dict[str, tuple[str, float, tuple[float, ...]]] = {
    "flow": (INK, 0.9, ()),
    "identity": (BLUE, 1.1, ()),
    "subsampled": (BLUE, 1.1, (5, 1.6)),
    "padded": (PURPLE, 1.1, (2.4, 1.6)),
    "projection": (ORANGE, 1.6, ()),
    "gated": (TEAL, 1.3, ()),
    "leader": ("#A9B3BF", 0.6, (1.0, 1.6)),
    "bracket": (MUTED, 0.8, ()),
}
# What lies over what: the greater number is painted later.
_LAYERS = {"panel": 0, "back": 3, "card": 4, "op": 5, "map": 5, "node": 7, "badge": 7}
_LEADER_LAYER, _LINE_LAYER, _HEAD_LAYER, _SIGN_LAYER, _LABEL_LAYER = 1, 2, 6, 8, 9

_CORNER_RADIUS = {"panel": 7.0, "card": 4.5, "back": 4.5, "op": 2.5}
_HEAD_LENGTH, _HEAD_WIDTH = 3.8, 3.2
_ALIGNMENT = {"start": "left", "middle": "center", "end": "right"}


def paint(scene: Scene, file: Path, form: str) -> None:
    """Write the scene to a file in the form `svg`, `png` or `pdf`: the same scene, the same bytes.

    Raises OSError where the file cannot be written.
    """
    with figure_style(text_as="text"):
        size = (scene.width / POINTS_PER_INCH, scene.height / POINTS_PER_INCH)
        figure = Figure(figsize=size, facecolor=PAPER)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # One unit of the axes is one point, and y grows downwards.
        axes.set_xlim(0, scene.width)
        axes.set_ylim(scene.height, 0)
        for box in scene.boxes:
            _paint_box(axes, box)
        for line in scene.lines:
            _paint_line(axes, line)
        for label in scene.labels:
            _paint_label(axes, label)
        save_figure(figure, file, form, title=scene.name, resolution=PNG_DOTS_PER_INCH)


def _paint_box(axes: Any, box: Box) -> None:
    """A box in the form of its layer."""
    if box.layer == "map":
        _paint_cuboid(axes, box.frame, box.depth)
    elif box.layer in {"node", "badge"}:
        _paint_disc(axes, box)
    else:
        _paint_rectangle(axes, box)


def _paint_disc(axes: Any, box: Box) -> None:
    """A badge's disc, or a node with its sign inside."""
    fill, edge = _COLOURS[box.role]
    frame = box.frame
    centre = (frame.x + frame.width / 2, frame.y + frame.height / 2)
    radius = frame.width / 2
    disc = Circle(centre, radius, facecolor=fill, edgecolor=edge, linewidth=0.9, zorder=_LAYERS[box.layer])
    axes.add_patch(disc)
    if box.layer == "node":
        _paint_sign(axes, box.role, centre, radius * 0.62)


def _paint_rectangle(axes: Any, box: Box) -> None:
    """A rectangle with rounded corners."""
    fill, edge = _COLOURS[box.role]
    frame = box.frame
    radius = min(_CORNER_RADIUS[box.layer], frame.height / 2)
    width = 0.6
    if box.layer in {"card", "back"}:
        width = 0.9
    rectangle = FancyBboxPatch(
        (frame.x, frame.y),
        frame.width,
        frame.height,
        boxstyle=f"round,pad=0,rounding_size={radius}",
        facecolor=fill,
        edgecolor=edge,
        linewidth=width,
        zorder=_LAYERS[box.layer],
    )
    axes.add_patch(rectangle)


def _paint_sign(axes: Any, sign: str, centre: Point, reach: float) -> None:
    """A plus or a multiplication sign, drawn: a font would set it off centre."""
    angles = (math.pi / 4, -math.pi / 4)
    if sign == "+":
        angles = (0.0, math.pi / 2)
    x, y = centre
    for angle in angles:
        dx = reach * math.cos(angle)
        dy = reach * math.sin(angle)
        axes.plot((x - dx, x + dx), (y - dy, y + dy), color=INK, linewidth=0.9, zorder=_SIGN_LAYER)


def _paint_cuboid(axes: Any, face: Frame, depth: float) -> None:
    """The front face of a map with its upper and its right side, both seen from above."""
    x, y, right, bottom = face.x, face.y, face.right, face.bottom
    front = ((x, y), (right, y), (right, bottom), (x, bottom))
    top = ((x, y), (right, y), (right + depth, y - depth), (x + depth, y - depth))
    side = ((right, y), (right + depth, y - depth), (right + depth, bottom - depth), (right, bottom))
    fill, edge = _COLOURS["map"]
    for colour, corners in ((fill, front), (_CUBOID_TOP, top), (_CUBOID_SIDE, side)):
        polygon = Polygon(
            corners, facecolor=colour, edgecolor=edge, linewidth=0.5, joinstyle="round", zorder=_LAYERS["map"]
        )
        axes.add_patch(polygon)


def _paint_line(axes: Any, line: Line) -> None:
    """A line in the colour, width and dashes of its style, with an arrow's head where it has one."""
    colour, width, dashes = _LINES[line.style]
    points = list(line.points)
    if line.arrow:
        points[-1] = _paint_head(axes, points[-2], points[-1], colour)
    pattern: Any = "-"
    if dashes:
        # Matplotlib takes dashes as multiples of the line's width.
        pattern = (0, [dash / width for dash in dashes])
    order = _LINE_LAYER
    if line.style == "leader":
        order = _LEADER_LAYER
    path = PathPatch(
        _rounded(points, line.radius),
        facecolor="none",
        edgecolor=colour,
        linewidth=width,
        linestyle=pattern,
        capstyle="butt",
        zorder=order,
    )
    axes.add_patch(path)


def _paint_head(axes: Any, before: Point, tip: Point, colour: str) -> Point:
    """Paint the head of an arrow, a filled triangle. Returns the point where the line itself ends."""
    length = math.dist(before, tip)
    dx = (tip[0] - before[0]) / length
    dy = (tip[1] - before[1]) / length
    foot = (tip[0] - dx * _HEAD_LENGTH, tip[1] - dy * _HEAD_LENGTH)
    half = _HEAD_WIDTH / 2
    left = (foot[0] - dy * half, foot[1] + dx * half)
    right = (foot[0] + dy * half, foot[1] - dx * half)
    head = Polygon((tip, left, right), facecolor=colour, edgecolor="none", zorder=_HEAD_LAYER)
    axes.add_patch(head)
    return (foot[0] + dx * 0.4, foot[1] + dy * 0.4)


def _rounded(points: list[Point], radius: float) -> Any:
    """The polyline with its corners cut by quadratic curves."""
    vertices, codes = [points[0]], [Outline.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        start = _towards(corner, before, near)
        end = _towards(corner, after, near)
        vertices += [start, corner, end]
        codes += [Outline.LINETO, Outline.CURVE3, Outline.CURVE3]
    vertices.append(points[-1])
    codes.append(Outline.LINETO)
    return Outline(vertices, codes)


def _towards(start: Point, end: Point, distance: float) -> Point:
    """The point `distance` away from `start` on the way to `end`."""
    length = math.dist(start, end)
    if length == 0:
        return start
    share = distance / length
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)


def _paint_label(axes: Any, label: Label) -> None:
    """A line of text."""
    weight = "normal"
    if label.bold:
        weight = "bold"
    # Centred on capitals and figures, also where letters of this text reach below the line.
    baseline = label.y + 0.36 * label.size
    axes.text(
        label.x,
        baseline,
        label.text,
        fontsize=label.size,
        fontweight=weight,
        color=_TONES[label.tone],
        ha=_ALIGNMENT[label.anchor],
        va="baseline",
        parse_math=False,
        zorder=_LABEL_LAYER,
        transform=axes.transData,
    )
