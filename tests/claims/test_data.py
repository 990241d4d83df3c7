"""The pictures of claims: found, or said what to type; cut evenly and always alike."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipway.claims.data import place_for, require_data, smaller
from skipway.data.dataset import ArrayPictures, Split
from skipway.data.sources import open_source
from skipway.errors import DataError
from tests.claims.conftest import SMALL


def split(count: int, classes: int = 5) -> Split:
    array = np.arange(count, dtype=np.uint8).reshape(count, 1, 1)
    return Split(ArrayPictures(array, "x"), np.arange(count, dtype=np.int64) % classes)


@pytest.mark.parametrize("count", [5, 7, 20, 23])
def test_smaller_sets_are_even_and_always_the_same(count: int) -> None:
    found = smaller(split(50), count)
    counts = np.bincount(found.targets, minlength=5)
    assert len(found) == count
    assert counts.max() - counts.min() <= 1
    again = smaller(split(50), count)
    assert np.array_equal(found.pictures.array, again.pictures.array)  # type: ignore[attr-defined]
    assert len(np.unique(found.pictures.array)) == count  # type: ignore[attr-defined]


def test_a_smaller_set_lies_in_every_larger_one() -> None:
    few, many = (set(smaller(split(50), count).pictures.array.ravel().tolist()) for count in (10, 30))  # type: ignore[attr-defined]
    assert few < many


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="60 pictures are needed and there are 50"):
        smaller(split(50), 60)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("cifar10", r"none of train.npz, cifar-10-batches-py.*put the files of CIFAR-10 there, or leave --data out"),
        ("signs", "put the hand signs there"),
    ],
)
def test_missing_data_say_what_to_type(tmp_path: Path, kind: str, told: str) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match=told):
            require_data(str(tmp_path), {kind}, tmp_path)  # type: ignore[arg-type]
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / "readme.txt").write_text("not these")


def test_nothing_fetches_the_signs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give --data DIR"):
        require_data("", {"signs"}, tmp_path)


def test_a_cut_set_is_written_once_and_again_when_the_pictures_change(data: Path, tmp_path: Path) -> None:
    arm = replace(SMALL.arms("quick")[0], pictures=20, test_pictures=10)
    opened = require_data(str(data), {"cifar10"}, tmp_path)
    place = place_for(arm, opened, tmp_path)
    source = open_source(place.data)
    assert [len(source.split(name)) for name in ("train", "test")] == [20, 10]
    file = Path(place.data) / "train.npz"
    written, whole = file.stat().st_mtime_ns, file.read_bytes()
    assert place_for(arm, opened, tmp_path) == place
    assert file.stat().st_mtime_ns == written
    file.write_bytes(whole[:1000])
    assert place_for(arm, opened, tmp_path) == place
    assert file.read_bytes() == whole, "a damaged set is written again"

    changed = tmp_path / "changed"
    shutil.copytree(data / "cifar10", changed / "cifar10")
    with np.load(changed / "cifar10" / "train.npz") as old:
        x, y = old["x"], old["y"]
    np.savez(changed / "cifar10" / "train.npz", x=255 - x, y=y)
    other = place_for(arm, require_data(str(changed), {"cifar10"}, tmp_path), tmp_path)
    assert other.digest != place.digest
    assert other.data != place.data
    assert file.read_bytes() == whole, "others may be training on it"


def test_signs_train_on_all_that_is_not_for_the_test(tmp_path: Path) -> None:
    for part, count in (("train", 2), ("val", 1), ("test", 1)):
        for label in "01":
            folder = tmp_path / "in" / "signs" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (number, 50, 99)).save(folder / f"{part}{number}.png")
    arm = replace(SMALL.arms("quick")[0], data="signs", pictures=0)
    place = place_for(arm, require_data(str(tmp_path / "in"), {"signs"}, tmp_path), tmp_path / "out")
    source = open_source(place.data)
    assert [len(source.split(name)) for name in ("train", "test")] == [6, 2]
    assert set(source.splits) == {"train", "test"}
