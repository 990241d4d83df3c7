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


@dataclass(frozen=True)
class Frame:
    """A rectangle's place."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(frozen=True)
class Box:
    """A rounded rectangle; `layer` says what lies over what, `role` which colours it has. A box of layer `map` is the
    front face of a cuboid that goes `depth` points back; one of layer `node` is a circle."""

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
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return Frame(left, self.y - self.size / 2, width, self.size)


@dataclass(frozen=True)
class Line:
    """A polyline with rounded corners. An arrow's head is at its last point. Lines of the spine carry a `shape`, and
    shortcuts the endpoints that they lead around: the `first` and the number of units."""

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
        return max([box.frame.right + box.depth for box in self.boxes] + [label.frame.right for label in self.labels])

    def moved(self, dx: float, dy: float) -> Scene:
        """The same things elsewhere."""
        return Scene(
            self.name,
            self.width,
            self.height,
            [replace(box, frame=_moved(box.frame, dx, dy)) for box in self.boxes],
            [replace(line, points=tuple((x + dx, y + dy) for x, y in line.points)) for line in self.lines],
            [replace(label, x=label.x + dx, y=label.y + dy) for label in self.labels],
        )

    def add(self, other: Scene) -> None:
        """Take over another scene's things."""
        self.boxes += other.boxes
        self.lines += other.lines
        self.labels += other.labels


@functools.cache
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in points, in the font that comes with Matplotlib."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def _moved(frame: Frame, dx: float, dy: float) -> Frame:
    return Frame(frame.x + dx, frame.y + dy, frame.width, frame.height)
