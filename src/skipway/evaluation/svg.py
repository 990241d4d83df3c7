"""Matplotlib figures as SVG elements that belong to their page: its fonts, its colours, its light and dark mode.

Matplotlib draws with stand-in colours; afterwards each becomes one of the page's CSS variables.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

from skipway.plotting import RULE_WIDTH, SMALL_SIZE, figure_style

INK, MUTED, LINE, ACCENT, CONTRAST = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    CONTRAST: "var(--contrast)",
}
TEXT_SIZE = SMALL_SIZE


@contextlib.contextmanager
def drawing_style() -> Iterator[None]:
    """The style of every figure, in the page's colours and with text left as text. Also a decorator."""
    with figure_style(text_as="text", ink=INK, muted=MUTED, line=LINE):
        yield


def chart(width: float, height: float, *, left: float, right: float, bottom: float, top: float) -> tuple[Any, Any]:
    """A figure with one axes; all lengths in points. Needs `drawing_style`, as `to_svg` does."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    inner = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(inner)
    plain(axes)
    return figure, axes


def plain(axes: Any) -> None:
    """No frame but the base line, no tick marks, quiet numbers."""
    for name, spine in axes.spines.items():
        spine.set(visible=name == "bottom", color=MUTED, linewidth=RULE_WIDTH)
    axes.set_facecolor("none")
    axes.tick_params(which="both", length=0, labelsize=TEXT_SIZE, labelcolor=MUTED, pad=4)


def to_svg(figure: Any, name: str, description: str) -> Markup:
    """The figure as an element for a page on which no other is called `name`; `description` is what is read aloud."""
    buffer = io.BytesIO()
    # A font that lacks a glyph, here only used to measure, makes Matplotlib warn; the page's fonts will draw it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    _adopt(root, name)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": description,
        "class": f"chart {name}",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adopt(root: ElementTree.Element, name: str) -> None:
    """Make a document part of a page: no namespaces, no style of its own, only the ids in use, and those unique."""
    document = ElementTree.tostring(root, encoding="unicode")
    used_ids = set(re.findall(r'(?:url\(#|href="#)([^")]+)', document))
    for parent in list(root.iter()):
        for child in list(parent):
            tag = _without_namespace(child.tag)
            if tag in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = _without_namespace(element.tag)
        attributes = {}
        for key, value in element.attrib.items():
            bare_key = _without_namespace(key)
            if bare_key == "id" and value not in used_ids:
                continue
            attributes[bare_key] = _renamed(bare_key, value, name)
        element.attrib = attributes


def _without_namespace(name: str) -> str:
    return name.rpartition("}")[2]


def _renamed(key: str, value: str, name: str) -> str:
    """The value of an attribute, with ids that begin with `name` and the page's variables for colours."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        value = re.sub(r"font-family: [^;]*;?", "", value)
        for colour, variable in _VARIABLES.items():
            value = re.sub(rf"{colour}\b", variable, value)
    return value
