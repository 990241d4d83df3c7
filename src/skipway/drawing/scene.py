"""A picture as plain data: boxes, lines and words with places. Points, from the top left, y downwards."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Literal

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

Layer = Literal["panel", "back", "card", "op", "map", "node", "badge"]
LineStyle = Literal["flow", "identity", "subsampled", "padded", "projection", "gated", "leader", "bracket"]
Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

# The share of a label's width that lies to the left of its anchor.
_BEFORE_ANCHOR: dict[Anchor, float] = {"start": 0.0, "middle": 0.5, "end": 1.0}


@dataclass(frozen=True)
class Frame:
    """A rectangle's place."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Where the right edge is."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Where the lower edge is."""
        return self.y + self.height

    def moved(self, dx: float, dy: float) -> Frame:
        """The same rectangle elsewhere."""
        return Frame(self.x + dx, self.y + dy, self.width, self.height)


@dataclass(frozen=True)
class Box:
    """A rounded rectangle; `layer` says what lies over what, `role` which colours it has.

    A box of layer `map` is the front face of a cuboid that goes `depth` points back; one of layer `node` is a
    circle.
    """

    layer: Layer
    role: str
    frame: Frame
    key: str = ""
    depth: float = 0.0


@dataclass(frozen=True)
class Label:
    """One line of text; `x` is where `anchor` says and `y` its middle."""

    text: str
    x: float
    y: float
    size: float
    anchor: Anchor = "middle"
    tone: str = "ink"
    bold: bool = False

    @property
    def frame(self) -> Frame:
        """What the text covers."""
        width = text_width(self.text, self.size, bold=self.bold)
        left = self.x - width * _BEFORE_ANCHOR[self.anchor]
        top = self.y - self.size / 2
        return Frame(left, top, width, self.size)


@dataclass(frozen=True)
class Line:
    """A polyline with rounded corners.

    An arrow's head is at its last point. Lines of the spine carry a `shape`, and shortcuts the endpoints that they
    lead around: the `first` and the number of units.
    """

    points: tuple[Point, ...]
    style: LineStyle = "flow"
    radius: float = 5.0
    arrow: bool = False
    shape: tuple[int, ...] | None = None
    endpoint: str = ""
    units: int = 0


@dataclass
class Scene:
    """All of a picture, in the order of painting within each kind of thing."""

    name: str
    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def right(self) -> float:
        """How far to the right anything reaches."""
        edges: list[float] = []
        for box in self.boxes:
            edges.append(box.frame.right + box.depth)
        for label in self.labels:
            edges.append(label.frame.right)
        return max(edges)

    def moved(self, dx: float, dy: float) -> Scene:
        """The same things elsewhere."""
        scene = Scene(self.name, self.width, self.height)
        for box in self.boxes:
            scene.boxes.append(replace(box, frame=box.frame.moved(dx, dy)))
        for line in self.lines:
            points = tuple((x + dx, y + dy) for x, y in line.points)
            scene.lines.append(replace(line, points=points))
        for label in self.labels:
            scene.labels.append(replace(label, x=label.x + dx, y=label.y + dy))
        return scene

    def add(self, other: Scene) -> None:
        """Take over another scene's things."""
        self.boxes += other.boxes
        self.lines += other.lines
        self.labels += other.labels


@functools.cache
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text in points, in the font that comes with Matplotlib; `size` is in points, too."""
    weight = "normal"
    if bold:
        weight = "bold"
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)
