"""Pictures are known by what is in them: by their bytes, and copies by their looks."""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from skipway.data.checking import Checked, check_split
from skipway.data.dataset import ArrayPictures, Split
from skipway.data.identity import MOST_THUMBNAILS, PictureList, part_of, seen
from skipway.data.sources import open_source
from skipway.data.thumbnails import array_thumbnails, look_alike, thumbnail


def _drawn(number: int, side: int = 64) -> Image.Image:
    """A smooth random picture, unlike any other."""
    noise = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side + 16), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        place = tmp_path / "data" / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        _drawn(number).save(place / f"{number}.png")
    return tmp_path / "data"


def _checked(folder: Path) -> tuple[Checked, tuple[str, ...]]:
    source = open_source(folder)
    return check_split(source.split("all")), source.labels


def _list(folder: Path) -> PictureList:
    checked, labels = _checked(folder)
    return PictureList((part_of("train", checked.split, labels, checked.digests),))


def test_the_fingerprint_is_of_names_classes_and_contents(folder: Path, tmp_path: Path) -> None:
    first = _list(folder).fingerprint()
    moved = Path(shutil.copytree(folder, tmp_path / "moved" / "deeper"))
    assert _list(moved).fingerprint() == first
    (moved / "cat" / "1.png").rename(moved / "cat" / "one.png")
    assert _list(moved).fingerprint() != first
    (moved / "cat" / "one.png").rename(moved / "cat" / "1.png")
    assert _list(moved).fingerprint() == first
    _drawn(99).save(moved / "cat" / "1.png")
    assert _list(moved).fingerprint() != first
    again = Path(shutil.copytree(folder, tmp_path / "renamed"))
    (again / "cat").rename(again / "kitten")
    assert _list(again).fingerprint() != first


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (lambda root: (root / "cat" / "3.png").unlink(), "missing: cat/3.png"),
    "added": (lambda root: _drawn(77).save(root / "dog" / "new.png"), "new: dog/new.png"),
    "changed": (lambda root: _drawn(77).save(root / "dog" / "4.png"), "changed: dog/4.png"),
    "moved": (
        lambda root: (root / "dog" / "4.png").rename(root / "cat" / "4.png"),
        "new: cat/4.png; missing: dog/4.png",
    ),
    "none": (lambda root: None, ""),
}


@pytest.mark.parametrize("name", CHANGES)
def test_differences_name_the_pictures(name: str, folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "pictures.csv.gz"
    _list(folder).write(listed)
    change, wanted = CHANGES[name]
    change(folder)
    assert _list(folder).differences_from(listed) == wanted


def test_a_list_that_is_none_tells_nothing(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "pictures.csv.gz"
    bomb = gzip.compress(b"part,class,digest,name\n" + b"x" * 50_000_000)
    for data in (b"", b"no gzip", gzip.compress(b"other,columns\n"), bomb):
        listed.write_bytes(data)
        assert _list(folder).differences_from(listed) == ""
    listed.unlink()
    assert _list(folder).differences_from(listed) == ""


def test_pictures_in_memory_have_identities_too() -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 12, 9, 3), dtype=np.uint8)
    split = Split(ArrayPictures(array, "x.npz"), np.zeros(20, np.int64))
    checked = check_split(split)
    assert checked.digests.shape == (20, 16)
    assert len(np.unique(checked.digests, axis=0)) == 20
    part = checked.split.subset(np.array([3, 5]))
    assert np.array_equal(check_split(part).digests, checked.digests[[3, 5]])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(64, 80), (28, 28), (300, 41), (320, 320)])
def test_thumbnails_of_files_and_arrays_agree(mode: str, size: tuple[int, int]) -> None:
    pictures = [_drawn(number).convert(mode).resize(size) for number in range(6)]
    ones = _thumbnails(pictures)
    many = array_thumbnails(np.stack([np.asarray(picture) for picture in pictures]))
    assert all(look_alike(ones[i : i + 1], many[i : i + 1])[0] for i in range(6))
    assert np.abs(ones.astype(int) - many.astype(int)).max() <= 2


def _resaved(picture: Image.Image, form: str = "JPEG", quality: int = 80, part: float = 0.5) -> Image.Image:
    stream = io.BytesIO()
    size = (round(picture.width * part), round(picture.height * part))
    picture.resize(size, Image.Resampling.BICUBIC).save(stream, form, quality=quality)
    return Image.open(stream)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 80, half size": _resaved,
    "JPEG 60": lambda picture: _resaved(picture, quality=60, part=1),
    "WebP, a third larger": lambda picture: _resaved(picture, "WEBP", part=1.33),
    "grey": lambda picture: picture.convert("L"),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
}


def _thumbnails(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.frombuffer(thumbnail(picture), np.uint8) for picture in pictures])


@pytest.mark.parametrize("name", COPIES)
def test_copies_look_alike_and_others_do_not(name: str) -> None:
    pictures = [_drawn(number) for number in range(100)]
    known = _thumbnails(pictures[:50])
    copies = _thumbnails([COPIES[name](picture) for picture in pictures])
    alike = look_alike(copies, known)
    assert alike[:50].mean() >= 0.95
    assert not alike[50:].any()


def test_even_tones_look_like_nothing() -> None:
    plain = np.full((3, 64), 127, np.uint8)
    assert not look_alike(plain, plain).any()
    assert not look_alike(plain, plain[:0]).any()


def test_real_resaved_pictures_are_known(real_data: Path) -> None:
    files = sorted((real_data / "signs" / "train").rglob("*.jpg"))[::4]
    pictures = [Image.open(file).convert("RGB") for file in files]
    known = _thumbnails(pictures[::2])
    assert look_alike(_thumbnails([_resaved(picture) for picture in pictures[::2]]), known).mean() >= 0.95


def test_what_was_seen_is_known_again_by_content(folder: Path) -> None:
    checked, _ = _checked(folder)
    known = seen(checked.digests[:10], checked.thumbnails[:10])
    assert known.has(checked.digests).tolist() == [True] * 10 + [False] * 30
    both = known.joined(seen(checked.digests[30:], checked.thumbnails[30:]))
    assert len(both) == 20
    assert both.has(checked.digests).sum() == 20
    many = seen(np.zeros((MOST_THUMBNAILS + 1, 8), np.uint8), np.zeros((MOST_THUMBNAILS + 1, 64), np.uint8))
    assert (len(many), len(many.thumbnails)) == (MOST_THUMBNAILS + 1, 0)
