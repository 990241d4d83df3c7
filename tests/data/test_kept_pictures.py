"""Pictures kept between epochs: the same batches, decoded once."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipway.data import loading, memory
from skipway.data.augmentation import Augmentation
from skipway.data.dataset import ArrayPictures, FilePictures, Split
from skipway.data.loading import Batch, Plan, evaluation_batches, training_batches
from skipway.data.memory import Memory, memory_for
from skipway.data.preprocessing import Preprocessing, preset


@pytest.fixture
def split(tmp_path: Path) -> Split:
    draw = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(11)]
    for file in files:
        Image.fromarray(draw.integers(0, 256, (12, 14, 3), np.uint8)).save(file)
    return Split(FilePictures(files), np.arange(11) % 2)


def batches(split: Split, augmentation: Augmentation, preprocessing: Preprocessing, workers: int = 0) -> list[Batch]:
    plan = Plan(11, 4, seed=5)
    return list(
        training_batches(split, plan, preprocessing, augmentation, start=1, stop=10, workers=workers, pin=False)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["torch", "slim_v1"])  # counts as uint8 and as float32
@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(crop="padded"), Augmentation(randaugment=1)],
    ids=["none", "padded", "randaugment"],
)
def test_memory_changes_no_batch(
    split: Split, augmentation: Augmentation, name: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = preset(name, 8)
    kept = batches(split, augmentation, preprocessing, workers)
    monkeypatch.setattr(loading, "memory_for", lambda *_: None)
    plain = batches(split, augmentation, preprocessing)
    assert len(kept) == len(plain) == 9
    for one, other in zip(kept, plain, strict=True):
        assert one.pixels.dtype == other.pixels.dtype == (torch.float32 if name == "slim_v1" else torch.uint8)
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("crop", ["none", "padded"])
def test_a_picture_is_decoded_in_the_first_epoch_only(split: Split, crop: str, workers: int) -> None:
    plan, augmentation = Plan(11, 11, seed=5), Augmentation(crop=crop)  # type: ignore[arg-type]
    stream = training_batches(
        split, plan, preset("torch", 8), augmentation, start=0, stop=12, workers=workers, pin=False
    )
    # Workers are up to two batches each ahead, and take turns: after six epochs either has seen all pictures.
    seen = [next(stream) for _ in range(6)]
    for index in range(11):
        Path(split.pictures.name(index)).unlink()
    seen += stream
    assert [batch.epoch for batch in seen] == list(range(12))


def test_a_batch_may_be_changed_without_harm(split: Split) -> None:
    plan = Plan(11, 11, seed=5)
    stream = training_batches(split, plan, preset("unit", 8), Augmentation(), start=0, stop=3, workers=0, pin=False)
    batch = next(stream)
    first = {int(i): pixels.clone() for i, pixels in zip(batch.indices, batch.pixels, strict=True)}
    for batch in stream:
        assert all(torch.equal(first[int(i)], pixels) for i, pixels in zip(batch.indices, batch.pixels, strict=True))
        batch.pixels.zero_()


def test_validation_keeps_its_pictures_where_asked(split: Split) -> None:
    room = memory_for(split, preset("torch", 8))
    assert room is not None

    def read() -> list[Batch]:
        return list(evaluation_batches(split, preset("torch", 8), batch_size=4, workers=0, pin=False, memory=room))

    before = read()
    for index in range(11):
        Path(split.pictures.name(index)).unlink()
    assert all(torch.equal(one.pixels, other.pixels) for one, other in zip(before, read(), strict=True))


def test_only_what_fits_is_kept(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 11 * (3 * 8 * 8 + 1)
    for limit, fits in ((None, False), (4 * needed - 1, False), (4 * needed, True)):
        monkeypatch.setattr(memory, "memory_limit", lambda limit=limit: limit)
        assert (memory_for(split, preset("unit", 8)) is not None) is fits
        assert memory_for(split, preset("slim_v1", 8)) is None  # float32 takes four times as much
    array = Split(ArrayPictures(np.zeros((3, 8, 8, 3), np.uint8), "x"), np.zeros(3, np.int64))
    assert memory_for(array, preset("unit", 8)) is None


def test_random_crops_and_a_single_epoch_keep_nothing(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("asked for memory")

    monkeypatch.setattr(loading, "memory_for", never)
    plan = Plan(11, 4, seed=5)
    for crop, stop in (("random", 9), ("random_resized", 9), ("none", plan.steps_per_epoch)):
        one = Augmentation(crop=crop)  # type: ignore[arg-type]
        assert list(training_batches(split, plan, preset("unit", 8), one, start=0, stop=stop, workers=0, pin=False))


def test_a_process_started_afresh_goes_without() -> None:
    split = Split(FilePictures([Path("x.png")]), np.zeros(1, np.int64))
    made = loading._Batches(split, preset("unit", 8), memory=Memory(1, (3, 8, 8), np.dtype(np.uint8)))
    assert made.memory is not None
    assert pickle.loads(pickle.dumps(made)).memory is None
