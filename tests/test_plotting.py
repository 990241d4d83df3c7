"""The one style of figures: files repeat, a user's settings do not matter, nothing of it stays behind."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from skipway.plotting import BLUE, INK, LINE, MUTED, ORANGE, PAPER, PURPLE, TEAL, figure_style, save_figure

SVG = "{http://www.w3.org/2000/svg}"


def drawn(file: Path, **style: str) -> bytes:
    """A small chart with a legend, whose clip paths need ids."""
    with figure_style(**style):  # type: ignore[arg-type]
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1, 2], [0.0, 1.0, 4.0], label="squares")
        axes.set_title("a title")
        axes.legend()
        save_figure(figure, file, file.suffix[1:], title="a figure")
    return file.read_bytes()


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_figure_is_the_same_file(ending: str, tmp_path: Path) -> None:
    first = drawn(tmp_path / f"a.{ending}")
    with matplotlib.rc_context({"font.family": ["serif"], "lines.linewidth": 7, "savefig.bbox": "tight"}):
        second = drawn(tmp_path / f"b.{ending}")
    assert first == second
    assert matplotlib.__version__.encode() not in first
    assert b"a figure" in first


def test_a_bitmap_has_the_stated_resolution(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (3 * 160, 2 * 160)


def test_text_stays_text_only_where_it_is_asked_for(tmp_path: Path) -> None:
    def words(file: Path) -> list[str | None]:
        return [element.text for element in ElementTree.parse(file).iter(f"{SVG}text")]

    drawn(tmp_path / "paths.svg")
    drawn(tmp_path / "text.svg", text_as="text")
    assert words(tmp_path / "paths.svg") == []
    assert {"a title", "squares"} <= set(words(tmp_path / "text.svg"))


def test_colours_can_be_those_of_a_page(tmp_path: Path) -> None:
    own = drawn(tmp_path / "own.svg").decode()
    assert all(colour in own for colour in (INK, MUTED, LINE))
    other = drawn(tmp_path / "other.svg", ink="#010101", muted="#020202", line="#030303").decode()
    assert not any(colour in other for colour in (INK, MUTED, LINE))
    assert all(colour in other for colour in ("#010101", "#020202", "#030303"))


def test_the_style_ends_with_its_block() -> None:
    matplotlib.get_backend()  # settled on first use, whoever asks
    before = matplotlib.rcParams.copy()
    with figure_style():
        assert matplotlib.rcParams["svg.hashsalt"] == "skipway"
        assert matplotlib.rcParams != before
    assert matplotlib.rcParams == before


@pytest.mark.parametrize("colour", [INK, MUTED, BLUE, ORANGE, PURPLE, TEAL])
def test_small_text_can_be_read_on_the_background(colour: str) -> None:
    """A contrast of 4.5 to 1, as WCAG 2 asks for at level AA."""

    def luminance(name: str) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(name)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    assert (luminance(PAPER) + 0.05) / (luminance(colour) + 0.05) >= 4.5
