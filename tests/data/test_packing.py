"""Shards of our own: the same pictures, or smaller ones, and nothing half-done."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from picture_kinds import encoded, exif, photo
from PIL import Image

from skipway.cli import main
from skipway.data import packing as module
from skipway.data.augmentation import Augmentation
from skipway.data.dataset import EncodedPictures, Source
from skipway.data.loading import Plan, training_batches
from skipway.data.packing import Packing, pack
from skipway.data.preprocessing import preset
from skipway.data.sources import open_source
from skipway.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Splits of two classes: small and large pictures, one of them lying on its side, one a PNG under a false name."""
    root = tmp_path / "pets"
    for split, count in (("train", 6), ("val", 2)):
        for name in ("cat", "a dog."):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                data = encoded(photo(40 + 10 * number, 50), "JPEG", exif=exif(6 if number == 1 else 1))
                (root / split / name / f"{number}.x.jpg").write_bytes(data)
    (root / "train" / "cat" / "0.x.jpg").write_bytes(encoded(photo(44, 20), "PNG"))
    return root


def raw(source: Source, split: str) -> list[bytes]:
    pictures = source.split(split).pictures
    assert isinstance(pictures, EncodedPictures)
    return [pictures.encoded(index).data for index in range(len(pictures))]


def test_short_side_0_keeps_every_byte_and_the_order(folder: Path, tmp_path: Path) -> None:
    source = open_source(folder)
    packed = pack(source, tmp_path / "packed", Packing(short_side=0))
    again = open_source(tmp_path / "packed")
    assert packed.pictures == {"train": 12, "val": 4}
    assert (again.name, again.labels, again.mirrors) == (source.name, source.labels, source.mirrors)
    for split in ("train", "val"):
        assert raw(again, split) == raw(source, split)
        assert again.split(split).targets.tolist() == source.split(split).targets.tolist()
    with tarfile.open(tmp_path / "packed" / "train" / "000000.tar") as tar:
        names = tar.getnames()
    assert names[:3] == ["00000000.jpg", "00000000.cls", "00000001.jpg"]
    assert "00000006.png" in names  # an ending that is true


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("crop", ["none", "random_resized"])
def test_training_sees_the_same_from_shards(folder: Path, tmp_path: Path, crop: str, workers: int) -> None:
    pack(open_source(folder), tmp_path / "packed", Packing(short_side=0))
    runs = [
        list(
            training_batches(
                open_source(data).split("train"),
                Plan(12, 5, seed=1),
                preset("torch", 16),
                Augmentation(crop=crop),  # type: ignore[arg-type]
                start=0,
                stop=5,
                workers=workers,
                pin=False,
            )
        )
        for data in (folder, tmp_path / "packed")
    ]
    for one, other in zip(*runs, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_large_pictures_are_scaled_and_small_ones_kept(folder: Path, tmp_path: Path) -> None:
    source = open_source(folder)
    pack(source, tmp_path / "packed", Packing(short_side=45, quality=90))
    again = open_source(tmp_path / "packed")
    before, after = source.split("train").pictures, again.split("train").pictures
    for index in range(12):
        old, new = before[index], after[index]
        assert isinstance(old, Image.Image)
        assert isinstance(new, Image.Image)
        if min(old.size) <= 45:
            assert raw(again, "train")[index] == raw(source, "train")[index]
            continue
        assert min(new.size) == 45
        assert new.width / new.height == pytest.approx(old.width / old.height, abs=1 / 45)
        expected = np.asarray(old.resize(new.size, Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(np.asarray(new) - expected).mean() < 6
        assert np.abs(np.asarray(new) - expected).mean() < 0.15 * np.abs(expected - expected.mean()).mean()


def test_pictures_in_memory_are_packed_without_loss(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(9) % 3)
    source = open_source(tmp_path / "d.npz")
    pack(source, tmp_path / "packed", Packing())
    again = open_source(tmp_path / "packed")
    for name, split in source.splits.items():
        assert [np.asarray(one).tolist() for one in again.split(name).pictures] == [  # type: ignore[attr-defined]
            np.asarray(one).tolist()
            for one in split.pictures  # type: ignore[attr-defined]
        ]


def test_shards_are_filled_to_their_size_and_repeat(folder: Path, tmp_path: Path) -> None:
    packing = Packing(short_side=0)
    object.__setattr__(packing, "shard_size", 12_000)
    for name, threads in (("one", 1), ("two", 3)):
        packed = pack(open_source(folder), tmp_path / name, packing, threads=threads)
        assert packed.shards == len(list((tmp_path / name).rglob("*.tar"))) > 4
    for file in (tmp_path / "one").rglob("*.tar"):
        assert file.stat().st_size <= 12_000 + 10_240 + 2_048  # a tar ends in zeros up to its own block
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    assert len(open_source(tmp_path / "one").split("train")) == 12


def test_bad_pictures_are_listed_and_left_out(colours: Path, tmp_path: Path) -> None:
    shutil.copytree(colours, tmp_path / "c")
    (tmp_path / "c" / "red" / "3.png").write_bytes(b"none")
    packed = pack(open_source(tmp_path / "c"), tmp_path / "packed", Packing())
    assert packed.pictures == {"all": 35}
    assert [one.file for one in packed.bad] == [str(tmp_path / "c" / "red" / "3.png")]
    assert "3.png" in (tmp_path / "packed" / "bad_files.csv").read_text()
    assert "1 left out" in packed.describe()
    assert len(open_source(tmp_path / "packed").split("all")) == 35
    (tmp_path / "c" / "red" / "4.png").write_bytes(b"none")
    with pytest.raises(DataError, match="2 of 36 pictures cannot be read"):
        pack(open_source(tmp_path / "c"), tmp_path / "again", Packing())
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def failing(self: object, ending: str, data: bytes, target: int) -> None:
        if target == 1:
            raise error
        add(self, ending, data, target)  # type: ignore[arg-type]

    add = module._Writer.add
    monkeypatch.setattr(module._Writer, "add", failing)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error):
        pack(open_source(folder), tmp_path / "packed", Packing())
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"short_side": -1}, "--short-side is -1; give 0"),
        ({"short_side": 10**6}, "--short-side is 1000000"),
        ({"quality": 0}, "--quality is 0; give 1 to 100"),
        ({"quality": 101}, "--quality is 101"),
        ({"shard_size": 0}, "--shard-size is less than 1"),
    ],
)
def test_odd_settings_are_refused(change: dict[str, int], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Packing(**change)


def command(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["pack", *arguments])
    assert isinstance(stop.value.code, int)
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def test_the_command(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    to = str(tmp_path / "deep" / "packed")
    status, out, _ = command(capfd, str(folder), to, "--short-side", "30", "--json")
    told = json.loads(out)
    assert (status, told["pictures"], told["shards"], told["bad"]) == (0, {"train": 12, "val": 4}, 2, [])
    assert told["bytes"] == sum(file.stat().st_size for file in Path(to).rglob("*.tar"))
    assert Path(to).stat().st_mode & 0o777 == (tmp_path / "deep").stat().st_mode & 0o777
    for arguments, message in (
        ((str(folder), to), "exists; name a folder that does not"),
        ((str(folder), str(folder / "packed")), "would lie among the pictures"),
        ((str(tmp_path / "none"), str(tmp_path / "x")), "no file or folder"),
        ((str(folder), str(tmp_path / "x"), "--quality", "0"), "--quality is 0"),
    ):
        status, out, err = command(capfd, *arguments)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err
    assert not (tmp_path / "x").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # WebDataset leaves the shard open
def test_webdataset_reads_them(folder: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    pack(open_source(folder), tmp_path / "packed", Packing(short_side=0))
    split = open_source(tmp_path / "packed").split("train")
    shard = str(tmp_path / "packed" / "train" / "000000.tar")
    read = list(webdataset.WebDataset(shard, shardshuffle=False).to_tuple("jpg;png", "cls", "__key__"))
    assert [int(target) for _, target, _ in read] == split.targets.tolist()
    assert [key for *_, key in read] == [f"{number:08d}" for number in range(12)]
    assert Image.open(io.BytesIO(read[6][0])).format == "PNG"
