"""A network as a picture: what the summary says in rows, drawn."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipway.drawing.anatomy import UnitKind
from skipway.drawing.inset import lay_inset
from skipway.drawing.outline import Outline, outline
from skipway.drawing.painting import POINTS_PER_INCH, paint
from skipway.drawing.scene import Label, Scene
from skipway.drawing.spine import NORMAL, kind_letter, lay_spine, shape_text
from skipway.errors import RunError, UnknownNameError
from skipway.files import write_whole
from skipway.models.catalog import find_spec
from skipway.models.highway import Gates
from skipway.models.network import Spec

FORMS = (".svg", ".png", ".pdf")
TITLE = 17.0
MARGIN, SPACE, INSET_GAP, BESIDE_GAP = 24.0, 20.0, 12.0, 28.0
NARROWEST = 440.0
WIDEST_INSET, WIDEST_BESIDE = 300.0, 820.0


@dataclass(frozen=True)
class Picture:
    """A picture that was written: the network's name, the file, and its size in points (1/72 inch)."""

    name: str
    to: Path
    width: float
    height: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "to": str(self.to), "width": round(self.width), "height": round(self.height)}

    def describe(self) -> str:
        """One line of text."""
        width = self.width / POINTS_PER_INCH
        height = self.height / POINTS_PER_INCH
        return f"{self.name} drawn to {self.to}, {width:.1f} x {height:.1f} inches"


def draw(name: str, to: str | Path, *, num_classes: int | None = None, overwrite: bool = False) -> Picture:
    """Draw a row of the catalog to an .svg, .png or .pdf file.

    Raises UnknownNameError for an unknown network or file ending, RunError where the file exists already (unless
    `overwrite`), and StorageError where it cannot be written.
    """
    spec = find_spec(name)
    if num_classes is not None:
        spec = spec.replaced({"num_classes": num_classes})
    return draw_spec(spec, to, overwrite=overwrite)


def draw_spec(spec: Spec, to: str | Path, *, overwrite: bool = False) -> Picture:
    """Draw any network, such as one composed of blocks; otherwise like `draw`."""
    file = Path(to)
    form = file.suffix.lower()
    if form not in FORMS:
        stem = file.stem or "network"
        raise UnknownNameError("file ending", form, FORMS, hint=f"call the picture, say, {stem}.svg")
    if file.exists() and not overwrite:
        raise RunError(f"{file} exists already; give another --to, or --overwrite")
    scene = compose(outline(spec))
    write_whole(file, lambda temporary: paint(scene, temporary, form[1:]))
    return Picture(spec.name, file, scene.width, scene.height)


def compose(network: Outline) -> Scene:
    """The whole picture: title, spine, insets, caption. Insets stand below the spine, or beside a short one."""
    spine = lay_spine(network)
    insets = _Insets(network)
    inner_beside = spine.width + BESIDE_GAP + insets.width
    beside = len(network.kinds) == 1 and inner_beside <= WIDEST_BESIDE
    inner = max(NARROWEST, spine.width, insets.width)
    if beside:
        inner = max(inner, inner_beside)
    scene = Scene(network.spec.name, inner + 2 * MARGIN)
    top = _head(scene, network, MARGIN)
    left = (scene.width - spine.width) / 2
    if beside:
        left = MARGIN
    scene.add(spine.moved(left, top))
    y = top + spine.height + SPACE
    if beside:
        left = MARGIN + spine.width + BESIDE_GAP
        end = insets.place(scene, left, inner + MARGIN - left, top)
        y = max(y, end)
    elif network.kinds:
        y = insets.place(scene, MARGIN, inner, y)
    scene.height = _caption(scene, network, inner, y) + MARGIN - 6
    return scene


class _Insets:
    """The panels of all kinds of units; `width` and `height` are what the largest needs."""

    def __init__(self, network: Outline) -> None:
        total = sum(network.uses)
        gates = ""
        if isinstance(network.spec, Gates):
            bias = f"{network.spec.gate_bias:g}".replace("-", "−")
            gates = f", T's bias starts at {bias}"
        # Kind, letter, and how many units are of that kind.
        self.entries: list[tuple[UnitKind, str, str]] = []
        for number, (kind, uses) in enumerate(zip(network.kinds, network.uses, strict=True)):
            share = f"{total}"
            if uses < total:
                share = f"{uses} of {total}"
            self.entries.append((kind, kind_letter(number), f"{share} units{gates}"))
        self.width = self.height = 0.0
        for kind, letter, uses_text in self.entries:
            least = lay_inset(kind, letter, uses_text)
            self.width = max(self.width, least.width)
            self.height = max(self.height, least.height)

    def place(self, scene: Scene, left: float, width: float, y: float) -> float:
        """Put the panels into as few rows as they need, evenly, all of one size.

        `left` and `width` bound the rows, and `y` is where the first begins, in points. Returns where the last ends.
        """
        fit = max(1, int((width + INSET_GAP) / (self.width + INSET_GAP)))
        rows = math.ceil(len(self.entries) / fit)
        columns = math.ceil(len(self.entries) / rows)
        widest = (width + INSET_GAP) / columns - INSET_GAP
        panel = max(self.width, min(widest, WIDEST_INSET))
        for start in range(0, len(self.entries), columns):
            row = self.entries[start : start + columns]
            row_width = len(row) * (panel + INSET_GAP) - INSET_GAP
            x = left + (width - row_width) / 2
            for kind, letter, uses in row:
                inset = lay_inset(kind, letter, uses, width=panel, height=self.height)
                scene.add(inset.moved(x, y))
                x += panel + INSET_GAP
            y += self.height + INSET_GAP
        return y + 4


def _head(scene: Scene, network: Outline, y: float) -> float:
    """Write name, size and input from `y` on. Returns where the spine begins."""
    spec = network.spec
    facts = f"{_counted(network.parameters)} parameters · input {shape_text(network.input_shape)}"
    if spec.num_classes:
        facts += f" → {spec.num_classes} classes"
    scene.labels.append(Label(spec.name, MARGIN, y + TITLE / 2, TITLE, "start", bold=True))
    scene.labels.append(Label(facts, MARGIN, y + TITLE + 11, NORMAL + 1, "start", tone="muted"))
    return y + TITLE + 30


def _caption(scene: Scene, network: Outline, width: float, y: float) -> float:
    """Write paper and source from `y` on, wrapped to `width`. Returns where they end."""
    spec = network.spec
    texts = [spec.paper]
    if spec.source:
        texts.append(f"Layout: {spec.source}")
    columns = int(width / (NORMAL * 0.56))
    for text in texts:
        for line in textwrap.wrap(text, columns):
            scene.labels.append(Label(line, MARGIN, y + NORMAL / 2, NORMAL, "start", tone="muted"))
            y += NORMAL + 4
    return y


def _counted(number: int) -> str:
    """Millions, or all digits of a smaller number."""
    if number >= 10**6:
        return f"{number / 1e6:.2f} M"
    return f"{number:,}"
