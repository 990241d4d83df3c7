"""The lower half of a picture: the inside of each kind of unit, one panel a kind, top to bottom."""

from __future__ import annotations

from skipway.drawing.anatomy import Chain, Gated, Op, UnitKind
from skipway.drawing.scene import Box, Frame, Label, Line, LineStyle, Point, Scene, text_width
from skipway.drawing.spine import BADGE_RADIUS, NORMAL, OP_HEIGHT, SMALL, SUM_RADIUS, badge, circle

OP_WIDTH, ARROW = 70.0, 6.5
STEP = OP_HEIGHT + ARROW
LANE = 82.0  # from one column of operations to the next
TOP = 46.0  # where x enters, below the panel's heading
END = 12.0
MINIMUM_WIDTH = 176.0


def lay_inset(kind: UnitKind, letter: str, uses: str, *, width: float = 0.0, height: float = 0.0) -> Scene:
    """A panel at the origin, as large as it must be, and at least `width` x `height` points."""
    if isinstance(kind.inside, Chain):
        drawn = _chain(kind.inside, kind)
    else:
        drawn = _gated(kind.inside)
    heading = 12 + 2 * BADGE_RADIUS + 6 + text_width(kind.title, NORMAL, bold=True) + 12
    scene = Scene(kind.title, max(drawn.width + 36, heading, MINIMUM_WIDTH, width), max(drawn.height, height))
    scene.boxes.append(Box("panel", "stage", Frame(0, 0, scene.width, scene.height), kind.title))
    scene.add(drawn.moved((scene.width - drawn.width) / 2, 0))
    badge(scene, letter, 12 + BADGE_RADIUS, 16)
    scene.labels.append(Label(kind.title, 18 + 2 * BADGE_RADIUS, 12.5, NORMAL, "start", bold=True))
    scene.labels.append(Label(uses, 18 + 2 * BADGE_RADIUS, 23.5, SMALL, "start", tone="muted"))
    return scene


def _chain(inside: Chain, kind: UnitKind) -> Scene:
    """Branch on the left, shortcut on the right; without a shortcut the branch alone."""
    scene = Scene("")
    middle, lane = OP_WIDTH / 2, OP_WIDTH / 2 + LANE
    scene.labels.append(Label("x", middle, TOP - 8, NORMAL, bold=True))
    y = _column(scene, inside.shared, middle, TOP - 2)
    fork = y + 3.5
    begin = y
    if inside.shortcut is not None:
        begin += 5
    y = _column(scene, inside.branch, middle, begin, start=y)
    if inside.shortcut is None:
        scene.width = OP_WIDTH
    else:
        total = y + ARROW + SUM_RADIUS
        circle(scene, "+", middle, total)
        _arrow(scene, (middle, y), (middle, total - SUM_RADIUS))
        style: LineStyle = "identity"
        if kind.shortcut != "none":
            style = kind.shortcut
        _shortcut(scene, inside.shortcut, style, (middle, fork), (lane, total))
        y = _column(scene, inside.after, middle, total + SUM_RADIUS)
        scene.width = lane
        if inside.shortcut:
            scene.width += OP_WIDTH / 2
    _leave(scene, middle, y)
    return scene


def _shortcut(scene: Scene, ops: tuple[Op, ...], style: LineStyle, fork: Point, corner: Point) -> None:
    """From the fork to the right, down the lane through its operations, into the sum."""
    x, total = corner
    end = (fork[0] + SUM_RADIUS, total)
    if not ops:
        x = fork[0] + OP_WIDTH / 2 + 22
        points = (fork, (x, fork[1]), (x, total), end)
        scene.lines.append(Line(points, style, 14.0, arrow=True))
        return
    height = len(ops) * STEP - ARROW
    top = (fork[1] + total - height) / 2
    scene.lines.append(Line((fork, (x, fork[1]), (x, top)), style, 14.0, arrow=True))
    for number, op in enumerate(ops):
        _op(scene, op, x, top + number * STEP)
        if number:
            scene.lines.append(Line(((x, top + number * STEP - ARROW), (x, top + number * STEP)), style, arrow=True))
    scene.lines.append(Line(((x, top + height), (x, total), end), style, 14.0, arrow=True))


def _gated(inside: Gated) -> Scene:
    """H, T and C side by side, x carried on the right: y = H T + x C."""
    scene = Scene("")
    h, t, c = OP_WIDTH / 2, OP_WIDTH / 2 + LANE, OP_WIDTH / 2 + 2 * LANE
    carried = c + OP_WIDTH / 2 + 22
    fork = TOP + 2
    entry = (h + t) / 2
    scene.labels.append(Label("x", entry, TOP - 8, NORMAL, bold=True))
    scene.lines.append(Line(((entry, TOP - 2), (entry, fork))))
    scene.lines.append(Line(((entry, fork), (h, fork), (h, fork + 12)), radius=6.0, arrow=True))
    scene.lines.append(Line(((entry, fork), (t, fork), (t, fork + 12)), radius=6.0, arrow=True))
    bottom = _column(scene, inside.transform, h, fork + 4, drawn_from=fork + 12)
    _column(scene, inside.gate, t, fork + 4, drawn_from=fork + 12)
    product = bottom + 22
    if inside.carry:
        scene.lines.append(Line(((entry, fork), (c, fork), (c, fork + 12)), "flow", 6.0, arrow=True))
        _column(scene, inside.carry, c, fork + 4, drawn_from=fork + 12)
    else:
        y = bottom - OP_HEIGHT
        _op(scene, Op("gate", "1 − T"), c, y)
        _arrow(scene, (t + OP_WIDTH / 2, y + OP_HEIGHT / 2), (c - OP_WIDTH / 2, y + OP_HEIGHT / 2))
    for x, letter in ((h, "H"), (t, "T"), (c, "C")):
        scene.labels.append(Label(letter, x + 7, bottom + 8, SMALL, bold=True))
    # Sum and products in one row: H T from the left, x C from the right.
    left, right = (h + t) / 2, carried
    circle(scene, "×", left, product)
    circle(scene, "×", right, product)
    scene.lines.append(Line(((h, bottom), (h, product), (left - SUM_RADIUS, product)), radius=6.0, arrow=True))
    scene.lines.append(Line(((t, bottom), (t, product), (left + SUM_RADIUS, product)), radius=6.0, arrow=True))
    scene.lines.append(Line(((c, bottom), (c, product), (right - SUM_RADIUS, product)), radius=6.0, arrow=True))
    points = ((entry, fork), (right, fork), (right, product - SUM_RADIUS))
    scene.lines.append(Line(points, "gated", 14.0, arrow=True))
    total = product + 22
    circle(scene, "+", left, total)
    _arrow(scene, (left, product + SUM_RADIUS), (left, total - SUM_RADIUS))
    points = ((right, product + SUM_RADIUS), (right, total), (left + SUM_RADIUS, total))
    scene.lines.append(Line(points, "gated", 14.0, arrow=True))
    scene.width = carried + SUM_RADIUS
    scene.labels.append(Label("y = H · T + x · C", (t + right) / 2, total + 14, NORMAL, tone="muted"))
    _leave(scene, left, total + SUM_RADIUS)
    return scene


def _column(
    scene: Scene,
    ops: tuple[Op, ...],
    x: float,
    y: float,
    *,
    start: float | None = None,
    drawn_from: float | None = None,
) -> float:
    """Operations under each other, an arrow before each. Returns where the last one ends.

    The first arrow begins at `start`, and is left out where the caller has drawn it up to `drawn_from`.
    """
    begin = y
    if start is not None:
        begin = start
    for number, op in enumerate(ops):
        top = y + ARROW
        if number or drawn_from is None:
            _arrow(scene, (x, begin), (x, top))
        _op(scene, op, x, top)
        begin = y = top + OP_HEIGHT
    return y


def _op(scene: Scene, op: Op, x: float, y: float) -> None:
    """One operation around `x`, from `y` downwards."""
    scene.boxes.append(Box("op", op.role, Frame(x - OP_WIDTH / 2, y, OP_WIDTH, OP_HEIGHT), op.text))
    scene.labels.append(Label(op.text, x, y + OP_HEIGHT / 2, SMALL))


def _arrow(scene: Scene, start: Point, end: Point) -> None:
    scene.lines.append(Line((start, end), arrow=True))


def _leave(scene: Scene, x: float, y: float) -> None:
    """The unit's output, and the scene's height."""
    _arrow(scene, (x, y), (x, y + 10))
    scene.labels.append(Label("y", x, y + 16, NORMAL, bold=True))
    scene.height = y + 16 + END
