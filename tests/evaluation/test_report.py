"""report.html: complete, closed to strangers, and never in the way of a finished run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from page import Page
from PIL import Image
from readout import confident, judged

from skipway.data.dataset import ArrayPictures, FilePictures, Split
from skipway.data.mean_image import MeanImage
from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import StorageError
from skipway.evaluation.report import Report, describe_preprocessing, render, wilson_interval, write_report

SCRIPT = "<script>alert(1)</script>"
QUOTED, BROKEN = '"><img src=x onerror=alert(1)>', "</svg></style>" + SCRIPT


class Named(ArrayPictures):
    """Pictures with names of their own."""

    names: Sequence[str] = ()

    def name(self, index: int) -> str:
        return self.names[index]


def row(epoch: int, **columns: float) -> Mapping[str, float]:
    return {
        "epoch": float(epoch), "step": epoch * 10.0, "learning_rate": 0.1 / epoch, "train_loss": 2.0 / epoch,
        "train_top1": 1 - 0.5 / epoch, "images_per_second": 1234.0, "seconds": 70.0 * epoch, **columns,
    }  # fmt: skip


def full(epoch: int) -> Mapping[str, float]:
    return row(epoch, val_loss=2.5 / epoch, val_top1=1 - 0.6 / epoch, val_top5=1.0)


def report(
    labels: Sequence[str] = ("cat", "dog", "owl"),
    targets: Sequence[int] = (0, 1, 2, 0, 1, 2),
    answers: Sequence[int] = (0, 1, 2, 0, 2, 1),
    names: Sequence[str] = (),
    history: Sequence[Mapping[str, float]] = (),
) -> Report:
    """Six pictures, of which the last two got wrong answers."""
    shapes = Named(np.random.default_rng(0).integers(0, 256, (len(targets), 28, 28), np.uint8), "shapes")
    shapes.names = names or [f"shapes[{i}]" for i in range(len(targets))]
    return Report(
        title="resnet_v1_20.cifar on animals",
        split_name="val",
        evaluation=confident(targets, answers, labels),
        split=Split(shapes, np.array(targets)),
        history=history,
        preprocessing=preset("torch", 224),
        recipe_toml='name = "small"\nepochs = 3\n',
        facts={"device": "cpu", "versions": "torch 2.15.0"},
        remarks=["batch statistics recomputed: 21.7 % before, 93.3 % after"],
    )


def many(classes: int, label: str = "class {}") -> Report:
    """Each class once, the first five called by the next one's name."""
    answers = [min(i + 1, classes - 1) if i < 5 else i for i in range(classes)]
    return report([label.format(i) for i in range(classes)], range(classes), answers)


def test_it_tells_everything() -> None:
    one = report(history=[full(i) for i in (1, 2, 3)])
    text = Page(render(one)).text
    for words in (
        "resnet_v1_20.cifar on animals", "split val", "66.7 %", f"{one.evaluation.loss:.3f}",
        f"{one.evaluation.ece * 100:.1f} %", "Of 6 pictures, 4 got the right answer and 2 a wrong one.",
        "Loss", "Top-1 accuracy", "Learning rate", "validation", "Highest validation top-1", "80.0 %, epoch 3",
        "Precision", "Recall", "F1", "Support", "in truth owl", "shapes[5]", "224 × 224 pixels, red, green, blue",
        'name = "small"', "torch 2.15.0", "21.7 % before", "4 min",
    ):  # fmt: skip
        assert words in text, words


def test_it_needs_nothing_else() -> None:
    source = render(report(history=[full(1), full(2)]))
    page = Page(source)
    assert not page.open + page.all("script") + page.all("link") + page.all("iframe")
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,"))
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)
    assert "default-src 'none'" in page.all("meta")[-1]["content"]


@pytest.mark.parametrize("classes", [3, 25])
def test_ids_are_unique_and_found(classes: int) -> None:
    source = render(replace(many(classes), history=[full(1), full(2)]))
    page = Page(source)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r"url\(#([^)]+)\)", source) + re.findall(r'href="#([^"]+)"', source)
    assert wanted
    assert set(wanted) <= set(ids)


@pytest.mark.parametrize("classes", [6, 25])
def test_it_can_be_read_aloud(classes: int) -> None:
    page = Page(render(replace(many(classes), history=[full(1), full(2)])))
    assert all(one["role"] == "img" and one["aria-label"] for one in page.all("svg"))
    assert all(one["alt"] for one in page.all("img"))
    assert all(one.get("scope") for one in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"


@pytest.mark.parametrize("hostile", [SCRIPT, QUOTED, BROKEN, "{{ 7 * 7 }}", "]]>" + SCRIPT])
@pytest.mark.parametrize("classes", [3, 25])
def test_strangers_words_stay_words(classes: int, hostile: str) -> None:
    labels = [f"{hostile}{i}" for i in range(classes)]
    targets, answers = range(classes), [(i + 1) % classes for i in range(classes)]
    one = report(labels, targets, answers, names=[f"{hostile}{i}.png" for i in targets])
    one = replace(
        one, title=hostile, split_name=hostile, recipe_toml=hostile, facts={hostile: hostile}, remarks=[hostile]
    )
    page = Page(render(one))
    assert not page.open + page.all("script")
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert page.text.count(hostile) > classes
    # Long labels are cut short in the heat map, which shows every one of 25.
    assert "".join(page.pieces).count(hostile[:15]) >= (4 if classes > 20 else 2) * classes


def test_odd_names() -> None:
    odd = ["caf\udce9", "a\x00b\x1b[31m", "桜の花", "$x^2$ \\frac", "line\nbreak", "\u202egnp.exe", "🌷 tulip", ""]
    labels = [f"{odd[i % len(odd)]} {i}" for i in range(24)]
    one = report(labels, range(24), [(i + 1) % 24 for i in range(24)], names=labels)
    source = render(one)
    page = Page(source.encode().decode())
    assert not page.open
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", source)
    for words in ("caf\\udce9 0", "line\\nbreak 4", "\\u202egnp.exe 5", "桜の花 2", "$x^2$ \\frac 3", "🌷 tulip 6"):
        assert words in page.text


def test_mistakes_are_the_surest_first() -> None:
    targets, answers = [0, 1] * 20, [1, 0] * 20
    one = report(("cat", "dog"), targets, answers)
    source = render(replace(one, evaluation=replace(one.evaluation, confidences=torch.linspace(0.5, 0.99, 40))))
    names = re.findall(r"<bdi>shapes\[(\d+)\]</bdi>", source)
    assert names == [str(i) for i in range(39, 15, -1)]
    assert "The 24 of 40 wrong answers" in Page(source).text


def test_mistakes_show_their_own_picture(tmp_path: Path) -> None:
    # Evaluation indices need not start at 0 or be in order.
    one = report()
    files = [tmp_path / "birds" / f"{i}.png" for i in range(10)]
    files[0].parent.mkdir()
    for i, file in enumerate(files):
        Image.new("L", (40, 20), i).save(file)
    evaluation = replace(one.evaluation, indices=one.evaluation.indices + 4)
    source = render(replace(one, evaluation=evaluation, split=Split(FilePictures(files), np.zeros(10, int))))
    assert re.findall(r'title="([^"]+)"><bdi>birds/<wbr>', source) == [str(files[9]), str(files[8])]


def test_no_mistakes() -> None:
    page = Page(render(report(answers=(0, 1, 2, 0, 1, 2))))
    assert "every picture got the right answer" in page.text
    assert not page.all("img")


def test_unreadable_pictures(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(6)]
    files[5].write_bytes(b"no picture")
    page = Page(render(replace(report(), split=Split(FilePictures(files), np.zeros(6, int)))))
    assert not page.all("img")
    assert "is no picture in a known format" in page.text
    assert "cannot be read (No such file or directory)" in page.text


def test_pictures_of_an_impossible_kind() -> None:
    split = Split(ArrayPictures(np.zeros((6, 4, 4, 7), np.uint8), "odd"), np.zeros(6, int))
    page = Page(render(replace(report(), split=split)))
    assert not page.all("img")
    assert len([one for _, one in page.tags if "unread" in one.get("class", "")]) == 2


def test_no_history_no_curves() -> None:
    page = Page(render(report()))
    assert "training" not in [attributes.get("id") for _, attributes in page.tags]
    assert not [one for one in page.all("a") if one["href"] == "#training"]


@pytest.mark.parametrize(
    "history",
    [
        [row(1), row(2)],
        [row(1, val_loss=float("nan"), val_top1=float("nan")), row(2)],
        [full(1)],
        [row(1), full(2), row(3)],
        [{**row(1), "val_loss": "", "val_top1": None}],
        [{"epoch": 1.0, "train_loss": float("inf")}],
        [row(1, learning_rate=0.0)],
        [full(i) for i in range(1, 2000)],
    ],
)
def test_histories_with_gaps(history: list[Mapping[str, float]]) -> None:
    assert not Page(render(report(history=history))).open


def test_a_run_without_validation_says_so() -> None:
    text = Page(render(report(history=[row(1), row(2)]))).text
    assert "none were held out" in text
    assert "Highest validation" not in text


def test_classes_without_pictures_have_no_scores() -> None:
    one = report(("cat", "dog", "owl", "yak"), (0, 0, 1, 1), (0, 0, 1, 2))
    text = Page(render(one)).text
    assert "cat 100.0 100.0 100.0 2" in text
    assert "owl 0.0 – – 0 yak – – – 0" in text
    assert "Mean 100.0 75.0 83.3 4" in text  # over the two that have pictures


@pytest.mark.parametrize("classes", [2, 6, 20])
def test_few_classes_are_a_table_of_numbers(classes: int) -> None:
    page = Page(render(many(classes)))
    assert [one for one in page.all("table") if one["class"].startswith("matrix")]
    assert not [one for one in page.all("svg") if "confusion" in one["class"]]


@pytest.mark.parametrize("classes", [21, 100, 300])
def test_many_classes_are_a_heat_map_and_a_table(classes: int) -> None:
    source = render(many(classes))
    page = Page(source)
    assert [one for one in page.all("svg") if "confusion" in one["class"]]
    assert "class 0 class 1 1 100.0 class 1 class 2 1 100.0" in page.text
    assert len(source) < 1_000_000


def test_pages_are_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 300, 300, 3), np.uint8)
    one = report(("cat", "dog"), [0, 1] * 20, [1, 0] * 20)
    source = render(replace(one, split=Split(ArrayPictures(noise, "noise"), np.zeros(40, int))))
    assert source.count("data:image/png") == 24
    assert len(source) < 3_000_000


def test_it_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "report.html"
    write_report(file, report())
    assert file.read_text(encoding="utf-8").endswith("</html>")
    assert [one.name for one in file.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        write_report(tmp_path / "file" / "report.html", report())


def test_the_same_report_twice() -> None:
    assert render(many(30)) == render(many(30))


def test_interval() -> None:
    assert wilson_interval(0.9, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_preprocessing_in_words() -> None:
    caffe = describe_preprocessing(preset("caffe", 227))
    assert caffe["Resize"] == "both sides to 256 pixels, whatever the shape, then the central 227 × 227 cut out"
    assert caffe["Values"] == "counts 0 to 255, less mean, over deviation"
    assert "blue, green, red" in caffe["Input"]
    assert caffe["Kernel"] == "opencv_bilinear"
    slim = describe_preprocessing(preset("slim_v2", 299))
    assert slim["Resize"] == "the central 87.5 % of both sides kept; both sides to 299 pixels, whatever the shape"
    image = replace(preset("caffe", 8), mean=(1.0, 2.0, 3.0), mean_image=MeanImage(np.ones((3, 8, 8))))
    assert describe_preprocessing(image)["Mean"] == "an image, on average 1, 2, 3"
    grey = describe_preprocessing(Preprocessing(28, channels="L", mean=(0.1307,), std=(0.3081,)))
    assert grey["Input"] == "28 × 28 pixels, grey"
    assert grey["Values"] == "counts 0 to 255 times 1/255, less mean, over deviation"
    assert (grey["Mean"], grey["Deviation"]) == ("0.1307", "0.3081")


def test_probabilities_that_are_no_numbers() -> None:
    one = report()
    evaluation = replace(one.evaluation, confidences=one.evaluation.confidences * float("nan"), loss=float("nan"))
    assert "nan" in Page(render(replace(one, evaluation=evaluation))).text


def test_evaluation_of_another_rank() -> None:
    # On several ranks the counts cover all pictures, the single answers this rank's alone.
    one = report()
    empty = judged([[1, 0, 0]], [0]).indices[:0]
    evaluation = replace(one.evaluation, indices=empty, targets=empty, answers=empty, confidences=empty.float())
    assert "another process" in Page(render(replace(one, evaluation=evaluation))).text
