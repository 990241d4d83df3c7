"""A network as a picture: what the summary tells in rows, drawn."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipway.drawing.inset import lay_inset
from skipway.drawing.outline import Outline, outline
from skipway.drawing.painting import paint
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
        return f"{self.name} drawn to {self.to}, {self.width / 72:.1f} x {self.height / 72:.1f} inches"


def draw(name: str, to: str | Path, *, num_classes: int | None = None, overwrite: bool = False) -> Picture:
    """Draw a row of the catalog to an .svg, .png or .pdf file.

    Raises UnknownNameError for an unknown network or file ending, RunError where the file exists already (unless
    `overwrite`), and StorageError where it cannot be written.
    """
    spec = find_spec(name)
    return draw_spec(spec if num_classes is None else spec.replaced({"num_classes": num_classes}), to,
                     overwrite=overwrite)  # fmt: skip


def draw_spec(spec: Spec, to: str | Path, *, overwrite: bool = False) -> Picture:
    """Draw any network, such as one composed of blocks; otherwise like `draw`."""
    file = Path(to)
    form = file.suffix.lower()
    if form not in FORMS:
        raise UnknownNameError("file ending", form, FORMS, hint=f"call the picture, say, {file.stem or 'network'}.svg")
    if file.exists() and not overwrite:
        raise RunError(f"{file} exists already; give another --to, or --overwrite")
    scene = compose(outline(spec))
    write_whole(file, lambda temporary: paint(scene, temporary, form[1:]))
    return Picture(spec.name, file, scene.width, scene.height)


def compose(network: Outline) -> Scene:
    """The whole picture: title, spine, insets, caption. Insets stand below the spine, or beside a short one."""
    spine = lay_spine(network)
    insets = _Insets(network)
    beside = len(network.kinds) == 1 and spine.width + BESIDE_GAP + insets.width <= WIDEST_BESIDE
    inner = max(NARROWEST, spine.width + (BESIDE_GAP + insets.width if beside else 0.0), insets.width)
    scene = Scene(network.spec.name, inner + 2 * MARGIN)
    top = y = _head(scene, network, MARGIN)
    scene.add(spine.moved(MARGIN if beside else (scene.width - spine.width) / 2, y))
    y += spine.height + SPACE
    if beside:
        left = MARGIN + spine.width + BESIDE_GAP
        y = max(y, insets.place(scene, left, inner + MARGIN - left, top))
    elif network.kinds:
        y = insets.place(scene, MARGIN, inner, y)
    scene.height = _caption(scene, network, inner, y) + MARGIN - 6
    return scene


class _Insets:
    """The panels of all kinds of units; `width` and `height` are what the largest needs."""

    def __init__(self, network: Outline) -> None:
        total = sum(network.uses)
        gates = (
            f", T's bias starts at {network.spec.gate_bias:g}".replace("-", "−")
            if isinstance(network.spec, Gates)
            else ""
        )
        self.told = [
            (kind, kind_letter(number), (f"{uses} of {total}" if total > uses else f"{total}") + " units" + gates)
            for number, (kind, uses) in enumerate(zip(network.kinds, network.uses, strict=True))
        ]
        least = [lay_inset(*one) for one in self.told]
        self.width = max((one.width for one in least), default=0.0)
        self.height = max((one.height for one in least), default=0.0)

    def place(self, scene: Scene, left: float, width: float, y: float) -> float:
        """Put them into as few rows as they need, evenly, all of one size; where they end."""
        fit = max(1, int((width + INSET_GAP) / (self.width + INSET_GAP)))
        rows = math.ceil(len(self.told) / fit)
        columns = math.ceil(len(self.told) / rows)
        wide = max(self.width, min((width + INSET_GAP) / columns - INSET_GAP, WIDEST_INSET))
        for start in range(0, len(self.told), columns):
            row = self.told[start : start + columns]
            x = left + (width - len(row) * (wide + INSET_GAP) + INSET_GAP) / 2
            for one in row:
                scene.add(lay_inset(*one, width=wide, height=self.height).moved(x, y))
                x += wide + INSET_GAP
            y += self.height + INSET_GAP
        return y + 4


def _head(scene: Scene, network: Outline, y: float) -> float:
    spec = network.spec
    classes = f" → {spec.num_classes} classes" if spec.num_classes else ""
    facts = f"{_counted(network.parameters)} parameters · input {shape_text(network.input_shape)}{classes}"
    scene.labels.append(Label(spec.name, MARGIN, y + TITLE / 2, TITLE, "start", bold=True))
    scene.labels.append(Label(facts, MARGIN, y + TITLE + 11, NORMAL + 1, "start", tone="muted"))
    return y + TITLE + 30


def _caption(scene: Scene, network: Outline, width: float, y: float) -> float:
    spec = network.spec
    for text in (spec.paper, f"Layout: {spec.source}" if spec.source else ""):
        for line in textwrap.wrap(text, int(width / (NORMAL * 0.56))):
            scene.labels.append(Label(line, MARGIN, y + NORMAL / 2, NORMAL, "start", tone="muted"))
            y += NORMAL + 4
    return y


def _counted(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 10**6 else f"{number:,}"
