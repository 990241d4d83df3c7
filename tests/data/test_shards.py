"""Shards that others wrote, well or badly."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from picture_kinds import encoded, photo

from skipway.data.dataset import joined
from skipway.data.shards import INDEX, ShardPictures, shards_of
from skipway.data.sources import open_source
from skipway.errors import DataError, PictureError

PICTURES = [encoded(photo(20 + number, 16), "JPEG") for number in range(6)]


def shard(file: Path, members: list[tuple[str, bytes]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, data in members:
            one = tarfile.TarInfo(name)
            one.size = len(data)
            tar.addfile(one, io.BytesIO(data))
    return file


def samples(start: int, stop: int) -> list[tuple[str, bytes]]:
    """Neighbours in either order, with companions that do not matter."""
    found: list[tuple[str, bytes]] = []
    for number in range(start, stop):
        pair = [(f"a/{number:03d}.jpg", PICTURES[number]), (f"a/{number:03d}.cls", f"{number % 3}\n".encode())]
        found += [*(pair if number % 2 else pair[::-1]), (f"a/{number:03d}.json", b"{}")]
    return found


def test_a_foreign_folder_of_shards_is_read_in_order(tmp_path: Path) -> None:
    for number in (1, 0):
        shard(tmp_path / f"{number:03d}.tar", samples(3 * number, 3 * number + 3))
    source = open_source(tmp_path)
    assert source.labels == ("0", "1", "2")
    split = source.split("all")
    assert split.targets.tolist() == [0, 1, 2, 0, 1, 2]
    for number in range(6):
        assert np.asarray(split.pictures[number]).shape == (16, 20 + number, 3)
    assert split.pictures.name(4) == f"{tmp_path / '001.tar'}:a/004.jpg"
    part = split.subset(np.array([5, 2]))
    assert [part.pictures.name(i)[-10:] for i in (0, 1)] == [":a/005.jpg", ":a/002.jpg"]
    both = joined(part, split)
    assert isinstance(both.pictures, ShardPictures)
    assert len(both) == len(both.pictures) == 8
    assert part.fingerprint() != split.fingerprint()


def test_shards_by_their_numbers(tmp_path: Path) -> None:
    for number in range(3):
        shard(tmp_path / f"x-{number:03d}.tar", samples(2 * number, 2 * number + 2))

    def count(text: str) -> int:
        return len(open_source(tmp_path / text).split("all"))

    assert count("x-{000..002}.tar") == 6
    assert count("x-{001..002}.tar") == 4
    assert count("x-{001..}.tar") == 4
    assert count("x-001.tar") == 2
    assert shards_of(str(tmp_path / "x.jpg")) is None
    with pytest.raises(DataError, match=r"no file .*x-003\.tar, which .* names"):
        count("x-{000..003}.tar")
    with pytest.raises(DataError, match=r"no file .*x-007\.tar"):
        count("x-{007..}.tar")


def test_splits_lie_in_folders(tmp_path: Path) -> None:
    shard(tmp_path / "train" / "0.tar", samples(0, 4))
    shard(tmp_path / "test" / "0.tar", samples(4, 6))
    source = open_source(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 4, "test": 2}


def test_names_that_climb_are_only_names(tmp_path: Path) -> None:
    shard(tmp_path / "in" / "0.tar", [("../../evil.jpg", PICTURES[0]), ("../../evil.cls", b"0")])
    before = set(tmp_path.rglob("*"))
    assert np.asarray(open_source(tmp_path / "in").split("all").pictures[0]).shape == (16, 20, 3)
    assert set(tmp_path.rglob("*")) == before


def _link(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        one = tarfile.TarInfo("a.jpg")
        one.type, one.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(one)


def _lying(file: Path) -> None:
    one = tarfile.TarInfo("a.jpg")
    one.size = 10**9
    file.write_bytes(one.tobuf() + bytes(2048))


def _spoilt_header(file: Path) -> None:
    shard(file, samples(0, 3))
    data = bytearray(file.read_bytes())
    at = data.index(b"a/002.json")
    data[at : at + 100] = b"\xff" * 100
    file.write_bytes(data)


def _cut(share: float, file: Path) -> None:
    shard(file, samples(0, 3))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def _cut_between_members(file: Path) -> None:
    shard(file, samples(0, 2))
    file.write_bytes(file.read_bytes().rstrip(b"\0").ljust(512 * 100, b"\0")[: file.stat().st_size])
    with tarfile.open(file) as tar:
        end = max(one.offset_data + -(-one.size // 512) * 512 for one in tar)
    file.write_bytes(file.read_bytes()[:end])


BAD = {
    "link": (_link, "is a link"),
    "lying size": (_lying, "claims 1,000,000,000 bytes"),
    "spoilt header": (_spoilt_header, r"damaged or cut off at byte [\d,]+"),
    "cut within": (lambda file: _cut(0.2, file), r"(claims [\d,]+ bytes|cut off|no whole tar file)"),
    "cut between": (_cut_between_members, "damaged or cut off"),
    "empty": (lambda file: file.write_bytes(b""), "no whole tar file"),
    "noise": (lambda file: file.write_bytes(bytes(range(256)) * 8), "no whole tar file"),
    "no samples": (lambda file: shard(file, [("a.txt", b"x")]), "hold no samples"),
    "picture alone": (lambda file: shard(file, [("a.jpg", PICTURES[0])]), r"a\.jpg stands alone"),
    "class alone": (lambda file: shard(file, [("a.cls", b"1")]), r"a\.cls stands alone"),
    "not neighbours": (
        lambda file: shard(file, [("a.jpg", b"x"), ("b.cls", b"1")]),
        r"a\.jpg has no class beside it",
    ),
    "two pictures": (lambda file: shard(file, [("a.jpg", b"x"), ("a.png", b"y")]), r"a\.jpg has no class beside it"),
    "class a word": (lambda file: shard(file, [("a.jpg", b"x"), ("a.cls", b"cat")]), "is no number of a class"),
    "class negative": (lambda file: shard(file, [("a.jpg", b"x"), ("a.cls", b"-1")]), "is no number of a class"),
    "class enormous": (lambda file: shard(file, [("a.jpg", b"x"), ("a.cls", b"9" * 20)]), "is no number of a class"),
    "class a book": (lambda file: shard(file, [("a.jpg", b"x"), ("a.cls", b"1" * 5000)]), "is no number of a class"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_shard_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    make, told = BAD[name]
    make(tmp_path / "0.tar")
    with pytest.raises(DataError, match=told) as caught:
        open_source(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"name": 1, "labels": ["a"], "mirrors": true, "pictures": {}}', "[" * 100_000,
     '{"name": "x", "labels": "abc", "mirrors": true, "pictures": {}}',
     '{"name": "x", "labels": [1], "mirrors": true, "pictures": {}}',
     '{"name": "x", "labels": ["a"], "mirrors": 1, "pictures": {}}',
     '{"name": "x", "labels": ["a"], "mirrors": true, "pictures": {"all": "9"}}',
     '{"name": "x", "labels": ["a"], "mirrors": true, "pictures": [1]}'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_bad_index_is_named(text: str, tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", samples(0, 2))
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(DataError, match=r"skipway\.json is no index of shards"):
        open_source(tmp_path)


def test_an_index_and_its_shards_must_agree(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", samples(0, 3))
    index = {"name": "x", "labels": ["a", "b", "c"], "mirrors": False, "pictures": {"all": 3}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    source = open_source(tmp_path)
    assert (source.name, source.labels, source.mirrors) == ("x", ("a", "b", "c"), False)
    (tmp_path / INDEX).write_text(json.dumps(index | {"pictures": {"all": 4}}))
    with pytest.raises(DataError, match=r"hold 3 pictures in all, but skipway\.json counts 4"):
        open_source(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps(index | {"labels": ["a", "b"]}))
    with pytest.raises(DataError, match="names 2 classes, but the shards have a class 2"):
        open_source(tmp_path)


def test_a_picture_that_goes_bad_later_is_named(tmp_path: Path) -> None:
    members = [*samples(0, 2), ("a/9.jpg", b"no picture"), ("a/9.cls", b"0")]
    file = shard(tmp_path / "0.tar", members)
    pictures = open_source(tmp_path).split("all").pictures
    with pytest.raises(PictureError, match=r"0\.tar:a/9\.jpg: is no picture"):
        _ = pictures[2]
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(PictureError, match=r"0\.tar:a/001\.jpg: lies beyond the end of its shard"):
        _ = pictures[1]
    file.unlink()
    with pytest.raises(PictureError, match=r"0\.tar:a/000\.jpg: cannot be read \(No such file"):
        _ = pictures[0]
