"""What is remembered about picture files is used only while they are the same files."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipway.data import checking, remembered
from skipway.data.checking import Checked, check_split
from skipway.data.sources import open_source
from skipway.user_cache import cache_folder, inspect_cache, picture_memory


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_SETTLED_NS", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            picture = draw.integers(0, 256, (12, 14, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pictures that were opened, by position."""
    probe, seen = checking._probe, []

    def counted(pictures: object, index: int) -> object:
        seen.append(index)
        return probe(pictures, index)  # type: ignore[arg-type]

    monkeypatch.setattr(checking, "_probe", counted)
    return seen


def _check(folder: Path) -> Checked:
    return check_split(open_source(folder).split("all"))


def _same(one: Checked, other: Checked) -> bool:
    arrays = ((one.digests, other.digests), (one.thumbnails, other.thumbnails))
    return (one.side, one.grey) == (other.side, other.grey) and all(np.array_equal(*pair) for pair in arrays)


def test_known_files_are_not_opened_again(folder: Path, opened: list[int]) -> None:
    first = _check(folder)
    assert len(opened) == 10
    again = _check(folder)
    assert len(opened) == 10
    assert _same(first, again)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written again": lambda file: file.write_bytes(file.read_bytes()),
    "replaced": lambda file: shutil.copy(file.with_name("4.png"), file),
    "replaced by a rename": lambda file: file.with_name("4.png").replace(file),
    "its time set back": lambda file: os.utime(file, (1, 1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_opened(folder: Path, opened: list[int], name: str) -> None:
    _check(folder)
    opened.clear()
    before = (folder / "cat" / "1.png").stat()
    CHANGES[name](folder / "cat" / "1.png")
    if name == "replaced":  # as whoever hides a change would
        os.utime(folder / "cat" / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    found = _check(folder)
    assert opened
    opened.clear()
    remembered_now = found
    inspect_cache(clear=True)
    assert _same(_check(folder), remembered_now)


def test_a_file_that_was_just_written_is_not_remembered(
    folder: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_SETTLED_NS", 3 * 10**9)
    _check(folder)
    _check(folder)
    assert len(opened) == 20


def test_bad_pictures_are_looked_at_every_time(folder: Path, opened: list[int]) -> None:
    (folder / "cat" / "2.png").write_bytes(b"no picture")
    assert len(_check(folder).bad) == 1
    assert len(_check(folder).bad) == 1
    assert opened.count(2) == 2


def test_flipped_bytes_in_the_memory_change_nothing(folder: Path) -> None:
    first = _check(folder)
    file = picture_memory()
    whole = file.read_bytes()
    draw = random.Random(3)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(3):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
        assert _same(_check(folder), first)


def test_a_forged_row_is_not_believed(folder: Path, opened: list[int]) -> None:
    first = _check(folder)
    opened.clear()
    with sqlite3.connect(picture_memory()) as memory:
        memory.execute(f"UPDATE pictures_{remembered._FORMAT} SET digest = ?, side = 5", (bytes(16),))
    assert _same(_check(folder), first)
    assert len(opened) == 10


@pytest.mark.parametrize("spoil", ["text", "link", "folder", "writable by all"])
def test_whatever_stands_in_its_place(folder: Path, tmp_path: Path, spoil: str) -> None:
    first = _check(folder)
    file = picture_memory()
    outside = tmp_path / "outside.sqlite"
    if spoil == "text":
        file.write_text("no database")
    elif spoil == "link":
        file.rename(outside)
        file.symlink_to(outside)
    elif spoil == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.chmod(0o666)
    before = outside.read_bytes() if outside.exists() else b""
    assert _same(_check(folder), first)
    assert not before or outside.read_bytes() == before


def test_the_oldest_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_MOST_ROWS", 4)
    _check(folder)
    with sqlite3.connect(picture_memory()) as memory:
        assert memory.execute(f"SELECT COUNT(*) FROM pictures_{remembered._FORMAT}").fetchone() == (4,)


def test_the_cache_shows_and_clears_it(folder: Path) -> None:
    _check(folder)
    assert inspect_cache().pictures_bytes == picture_memory().stat().st_size > 0
    assert "remembered about picture files" in inspect_cache().describe()
    assert inspect_cache(clear=True).pictures_bytes == 0
    assert not (cache_folder() / "pictures.sqlite").exists()
