"""The report's drawings and thumbnails."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image
from readout import judged

from skipway.evaluation.figures import (
    calibration_bins,
    heat_map,
    learning_curves,
    percent,
    reliability_diagram,
)
from skipway.evaluation.mistakes import THUMBNAIL, thumbnail
from skipway.evaluation.report import confused_pairs

HISTORY = [{"epoch": i, "train_loss": 1 / i, "val_loss": 1.1 / i, "learning_rate": 0.1} for i in range(1, 6)]


def texts(svg: str) -> list[tuple[str, float, float, float]]:
    """Words, place and size of each text of a drawing."""
    found = []
    for element in ElementTree.fromstring(svg).iter("text"):
        size = re.search(r"font-size: ([\d.]+)px", element.attrib["style"])
        assert size
        found.append((element.text or "", float(element.attrib["x"]), float(element.attrib["y"]), float(size[1])))
    return found


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))


@pytest.mark.parametrize("classes", [21, 40, 72, 73, 102, 365, 1000])
def test_labels_of_a_heat_map_do_not_touch(classes: int) -> None:
    drawing = heat_map(np.eye(classes, dtype=np.int64), [f"a label of some length {i}" for i in range(classes)])
    rows = [one for one in texts(drawing.svg) if one[0].startswith("a label")]
    half = len(rows) // 2
    columns, rows = rows[:half], rows[half:]
    assert len(columns) == len(rows) >= 20
    for axis, labels in ((1, columns), (2, rows)):
        places = sorted(float(one[axis]) for one in labels)
        assert min(np.diff(places)) > labels[0][3]
    assert ("is labelled" in drawing.caption) == (len(rows) < classes)


def test_a_heat_map_stays_small() -> None:
    confusion = np.random.default_rng(0).integers(0, 3, (1000, 1000))
    drawing = heat_map(confusion, [str(i) for i in range(1000)])
    assert len(drawing.svg) < 400_000
    assert "A cell stands for 5 × 5 classes" in drawing.caption


def test_the_page_colours_the_drawings() -> None:
    drawings = [*learning_curves(HISTORY), reliability_diagram(calibration_bins(judged([[1, 0]], [0])), 0.1)]
    for drawing in drawings:
        assert "var(--accent)" in drawing.svg
        assert not re.search(r"#0\d0\d0\d", drawing.svg)
        assert "font-family" not in drawing.svg
        assert "<style" not in drawing.svg


def test_own_settings_of_matplotlib_do_not_matter() -> None:
    before = [one.svg for one in learning_curves(HISTORY)]
    with matplotlib.rc_context(
        {"text.usetex": True, "axes.facecolor": "red", "lines.marker": "x", "svg.fonttype": "path"}
    ):
        assert [one.svg for one in learning_curves(HISTORY)] == before
        assert matplotlib.rcParams["text.usetex"] is True


def test_curves_are_named() -> None:
    loss, rate = learning_curves(HISTORY)
    words = [text for text, *_ in texts(loss.svg)]
    assert {"training", "validation", "epoch"} <= set(words)
    assert "training from 1 to 0.2; validation from 1.1 to 0.22" in loss.svg
    assert rate.title == "Learning rate"
    heights = {text: y for text, _, y, _ in texts(loss.svg)}
    assert abs(heights["training"] - heights["validation"]) > 9  # they end close together, their names do not


def test_a_rate_that_falls_by_tens_is_logarithmic() -> None:
    (drawing,) = learning_curves([{"epoch": i, "learning_rate": 10.0 ** -(i // 10)} for i in range(1, 40)])
    assert drawing.caption == "Logarithmic scale."
    assert {"1", "0.1", "0.01", "0.001"} <= {text for text, *_ in texts(drawing.svg)}


def test_bins_add_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(1)
    rows, targets = rng.integers(0, 12, (500, 5)), rng.integers(0, 5, 500)
    rows[:20] = [255, 0, 0, 0, 0]
    evaluation = judged(rows.tolist(), targets.tolist())
    bins = calibration_bins(evaluation)
    assert sum(one.count for one in bins) == 500
    error = sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / 500
    assert error == pytest.approx(evaluation.ece, abs=1e-6)


def test_bins_are_counted_in_the_diagram() -> None:
    bins = calibration_bins(judged([[0, 0], [0, 0], [9, 0]], [0, 1, 0]))
    assert [one.count for one in bins if one.count] == [2, 1]
    words = [text for text, *_ in texts(reliability_diagram(bins, 0.0).svg)]
    assert {"2", "1"} <= set(words)


def test_confused_pairs_are_the_most_frequent() -> None:
    pairs = confused_pairs(np.array([[5, 3, 0], [0, 9, 0], [4, 1, 5]]), ["a", "b", "c"])
    assert [(one["truth"], one["answer"], one["count"]) for one in pairs] == [
        ("c", "a", 4),
        ("a", "b", 3),
        ("c", "b", 1),
    ]
    assert pairs[0]["share"] == 0.4


@pytest.mark.parametrize(
    "fraction, words",
    [(0.9333, "93.3 %"), (1.0, "100.0 %"), (0.9996, "99.96 %"), (0.99999, "> 99.99 %"), (0, "0.0 %"), (np.nan, "–")],
)
def test_percent(fraction: float, words: str) -> None:
    assert percent(fraction) == words.replace(" ", "\u00a0")


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (28, 28, 3)])
def test_small_pictures_keep_their_pixels(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).choice(np.array([0, 90, 255], np.uint8), shape)
    url, enlarged = thumbnail(array)
    image = decoded(url)
    assert enlarged
    assert image.size == (THUMBNAIL, THUMBNAIL)
    assert set(np.unique(np.asarray(image))) == {0, 90, 255}


@pytest.mark.parametrize(
    "size, expected",
    [((300, 150), (96, 48)), ((70, 70), (96, 96)), ((5000, 2), (96, 1)), ((1, 50), (2, 96)), ((1, 1), (96, 96))],
)
def test_sizes_of_thumbnails(size: tuple[int, int], expected: tuple[int, int]) -> None:
    url, enlarged = thumbnail(Image.new("RGB", size, "teal"))
    assert decoded(url).size == expected
    assert enlarged == (max(size) < 64)


def test_thumbnails_carry_no_baggage() -> None:
    image = Image.new("RGB", (100, 100))
    image.info = {"icc_profile": bytes(500_000), "comment": "who took it and where", "transparency": (0, 0, 0)}
    url, _ = thumbnail(image)
    assert len(url) < 2_000
    assert set(decoded(url).info) == set()
    assert "icc_profile" in image.info
