"""Bad pictures are counted, named and left out before work starts."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipway.data.checking import bad_files_csv, check_split, require_mostly_good
from skipway.data.dataset import ArrayPictures, FilePictures, Split
from skipway.errors import DataError, PictureError


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Ten pictures, of which 3 is text and 7 is empty."""
    files = [tmp_path / f"{number}.png" for number in range(10)]
    for number, file in enumerate(files):
        Image.new("L", (20 + number, 50)).save(file)
    files[3].write_text("text")
    files[7].write_bytes(b"")
    return Split(FilePictures(files), np.arange(10))


@pytest.mark.parametrize("threads", [1, 4])
def test_bad_pictures_are_named_and_left_out(split: Split, threads: int) -> None:
    progress: list[tuple[int, int]] = []
    checked = check_split(split, threads, lambda done, total: progress.append((done, total)))
    assert [Path(error.file).name for error in checked.bad] == ["3.png", "7.png"]
    assert "is no picture" in checked.bad[0].reason
    assert "is empty" in checked.bad[1].reason
    assert checked.split.targets.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert [Path(checked.split.pictures.name(i)).name for i in range(8)] == [
        f"{i}.png" for i in (0, 1, 2, 4, 5, 6, 8, 9)
    ]
    assert checked.side == 24  # the median of 20 21 22 24 25 26 28 29, rounded down
    assert checked.grey
    assert progress == [(done, 10) for done in range(1, 11)]


def test_one_coloured_picture_makes_the_split_coloured(split: Split, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (1, 2, 3)).save(tmp_path / "5.png")
    assert not check_split(split).grey


def test_a_good_split_is_kept_as_it_is(split: Split) -> None:
    good = split.subset(np.array([0, 1, 2]))
    assert check_split(good).split is good


def test_all_bad(split: Split) -> None:
    checked = check_split(split.subset(np.array([3, 7])))
    assert (len(checked.split), len(checked.bad), checked.side) == (0, 2, 0)


@pytest.mark.parametrize(
    ("shape", "side", "grey"), [((5, 8, 6), 6, True), ((5, 8, 6, 1), 6, True), ((5, 8, 9, 3), 8, False)]
)
def test_arrays_are_good(shape: tuple[int, ...], side: int, grey: bool) -> None:
    array = Split(ArrayPictures(np.zeros(shape, np.uint8), "test"), np.zeros(5, np.int64))
    checked = check_split(array)
    assert (checked.split, checked.bad, checked.side, checked.grey) == (array, (), side, grey)


def test_more_than_one_in_twenty_is_too_many(tmp_path: Path) -> None:
    require_mostly_good(0, 0, None)
    require_mostly_good(5, 100, None)
    with pytest.raises(DataError, match="6 of 100 pictures cannot be read, more than 5%; repair or remove them"):
        require_mostly_good(6, 100, None)
    with pytest.raises(DataError, match=r"bad\.csv lists them"):
        require_mostly_good(6, 100, tmp_path / "bad.csv")


def test_the_table_of_bad_files() -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")  # a name that is no UTF-8
    bad = (PictureError("a, b.jpg", 'is "odd"; delete it'), PictureError(odd, "is empty"))
    text = bad_files_csv(bad)
    assert list(csv.reader(io.StringIO(text))) == [
        ["file", "reason"],
        ["a, b.jpg", 'is "odd"; delete it'],
        ["caf\\udce9.jpg", "is empty"],
    ]
    text.encode("utf-8")  # it can be written
    assert bad_files_csv(()).split() == ["file,reason"]
