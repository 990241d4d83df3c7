"""What `skipway predict` takes and tells."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from skipway.errors import DataError
from skipway.inference.classifier import CHUNK, Classifier, load
from skipway.inference.predict import describe_predictions, find_pictures, predict_files

NOTHING = io.BytesIO()


def picture(form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 20, 20)).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures in natural order 2, 10 and below it more."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "p/10.png",
        "p/2.png",
        "p/sub/1.png",
        "p/.hidden/1.png",
        "p/sub/.ipynb_checkpoints/1.png",
        "p/._2.png",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture())
    (tmp_path / "p" / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return load(trained / "model.safetensors", "cpu")


def names(*given: str, stdin: bytes = b"") -> list[str]:
    return [name for name, _ in find_pictures(given, io.BytesIO(stdin))]


def test_files_stay_in_their_order(place: Path) -> None:
    assert names("p/10.png", "p/2.png", "p/10.png") == ["p/10.png", "p/2.png", "p/10.png"]


def test_a_folder_gives_its_pictures_in_natural_order(place: Path) -> None:
    assert names("p") == ["p/2.png", "p/10.png", "p/sub/1.png"]
    assert names(str(place / "p")) == [str(place / one) for one in ("p/2.png", "p/10.png", "p/sub/1.png")]


def test_a_folder_below_a_hidden_one_counts_when_it_is_asked_for(place: Path) -> None:
    assert names("p/.hidden") == ["p/.hidden/1.png"]


def test_patterns(place: Path) -> None:
    assert names("p/*.png") == ["p/2.png", "p/10.png"]
    assert names("p/**/*.png") == ["p/2.png", "p/10.png", "p/sub/1.png"]
    assert names("p/[1-2].png") == ["p/2.png"]
    assert names(str(place / "p" / "1?.png")) == [str(place / "p" / "10.png")]


def test_a_file_named_like_a_pattern_is_that_file(place: Path) -> None:
    shutil.copy("p/2.png", "p/cat[1].png")
    assert names("p/cat[1].png") == ["p/cat[1].png"]


def test_nothing_found_is_said_with_its_fix(place: Path) -> None:
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty holds no pictures; give another folder"):
        names("empty")
    with pytest.raises(DataError, match=r"no file matches q\*\.png; check the pattern"):
        names("q*.png")
    with pytest.raises(DataError, match=r"no file matches p/s\*; check the pattern"):
        names("p/s*")  # a folder is no file


def test_a_name_without_a_file_stays(place: Path) -> None:
    assert names("none.png", "x" * 300, "") == ["none.png", "x" * 300, ""]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_a_picture_on_stdin(form: str) -> None:
    data = picture(form)
    assert find_pictures(["-"], io.BytesIO(data)) == [("-", data)]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_portable_picture_on_stdin(mode: str) -> None:
    stream = io.BytesIO()
    Image.new(mode, (9, 9)).save(stream, "PPM")
    assert names("-", stdin=stream.getvalue()) == ["-"]
    assert names("-", stdin=b"P3\n1 1\n255\n10 20 30\n") == ["-"]


@pytest.mark.parametrize(
    "stdin",
    [
        b"a.png\nb c.png\n",
        b"a.png\nb c.png",
        b"a.png\r\nb c.png\r\n",
        b"\xef\xbb\xbfa.png\r\nb c.png",
        b"\n\na.png\n  \n\nb c.png\n\n",
    ],
)
def test_names_on_stdin(stdin: bytes) -> None:
    assert names("-", stdin=stdin) == ["a.png", "b c.png"]


@pytest.mark.parametrize("first", ["BMW.jpg", "RIFF.webp", "P5.png", "P600/1.JPG", "BM x.bmp", "GIF89.gif"])
def test_names_that_begin_like_a_picture(first: str) -> None:
    assert names("-", stdin=f"{first}\nb.png\n".encode()) == [first, "b.png"]


def test_odd_names_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = [b"caf\xe9.png", "größe.png".encode(), "line\u2028separator.png".encode(), b"tab\there.png"]
    for name in odd:
        Path(os.fsdecode(name)).write_bytes(picture())
    files = find_pictures(["-"], io.BytesIO(b"\n".join(odd)))
    assert len(files) == 4
    assert all(Path(path).is_file() for _, path in files)  # type: ignore[arg-type]


@pytest.mark.parametrize("stdin", [b"", b"\n \n", b"\0\1\2", b"a.png\nb\0c.png"])
def test_nothing_useful_on_stdin(stdin: bytes) -> None:
    with pytest.raises(DataError, match="neither a picture nor names of pictures; pipe one of them in"):
        names("-", stdin=stdin)


def test_stdin_beside_files(place: Path) -> None:
    assert names("p/2.png", "-", "p/10.png", stdin=b"p/sub/1.png\n") == ["p/2.png", "p/sub/1.png", "p/10.png"]


def test_a_bad_file_has_a_row_and_the_others_are_answered(classifier: Classifier, place: Path) -> None:
    (place / "cut.png").write_bytes(picture()[:60])
    Path("text.jpg").write_text("hello")
    Path("nothing.png").touch()
    given = ["p/2.png", "none.png", "cut.png", "text.jpg", "p", "nothing.png", "x" * 300, ""]
    rows = predict_files(classifier, find_pictures(given, NOTHING), top=2)
    good = [row["file"] for row in rows if "predictions" in row]
    bad = {row["file"]: row["error"] for row in rows if "error" in row}
    assert good == ["p/2.png", "p/2.png", "p/10.png", "p/sub/1.png"]
    assert bad.keys() == {"none.png", "cut.png", "text.jpg", "nothing.png", "x" * 300, ""}
    assert all("; " in reason for reason in bad.values())
    assert [row["file"] for row in rows][:4] == ["p/2.png", "none.png", "cut.png", "text.jpg"]
    assert all(row.keys() in ({"file", "predictions"}, {"file", "error"}) for row in rows)


def test_a_row_names_label_index_and_probability(classifier: Classifier, place: Path) -> None:
    (row,) = predict_files(classifier, [("-", picture())], top=2)
    assert row["file"] == "-"
    assert [one.keys() for one in row["predictions"]] == [{"label", "index", "probability"}] * 2
    assert row["predictions"][0]["label"] == "red"
    assert isinstance(row["predictions"][0]["probability"], float)


def test_rows_and_answers_keep_together_across_chunks(classifier: Classifier, colours: Path) -> None:
    files: list[tuple[str, Path | bytes]] = []
    for number in range(CHUNK + 5):
        name = ("red", "green", "blue", "none")[number % 4]
        files.append((name, colours / name / "1.png"))
    rows = predict_files(classifier, files, top=1)
    for (name, _), row in zip(files, rows, strict=True):
        assert row["file"] == name
        assert ("error" in row) == (name == "none")
        if name != "none":
            assert row["predictions"][0]["label"] == name


def test_only_bad_files(classifier: Classifier) -> None:
    rows = predict_files(classifier, [("a", Path("none")), ("b", b"text")], top=5)
    assert all("error" in row for row in rows)
    assert len(rows) == 2


def test_rows_as_text(classifier: Classifier, colours: Path) -> None:
    files: list[tuple[str, Path | bytes]] = [("a picture", colours / "red" / "0.png"), ("gone", Path("gone.png"))]
    lines = describe_predictions(predict_files(classifier, files, top=2)).splitlines()
    assert lines[0] == "a picture"
    assert lines[1].endswith("%  red")
    assert lines[3:] == [
        "gone",
        "  not read: cannot be read (No such file or directory); check the path and its permissions",
    ]


def test_an_endless_stdin_is_refused_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipway.inference.predict.MAX_STDIN", 1 << 20)
    with Path("/dev/zero").open("rb") as endless, pytest.raises(DataError, match=r"more than 1 MiB.*; name the files"):
        find_pictures(["-"], endless)
