"""Which pictures a step sees, and the batches that workers make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipway.data import loading
from skipway.data.augmentation import Augmentation, cropped
from skipway.data.dataset import ArrayPictures, FilePictures, Split
from skipway.data.draws import permutation
from skipway.data.loading import Batch, Plan, evaluation_batches, training_batches
from skipway.data.preprocessing import preset
from skipway.data.workers import default_workers
from skipway.errors import DataError

GREY = preset("unit", 8, grey=True)


def array_split(count: int, side: int = 8) -> Split:
    array = np.random.default_rng(count).integers(0, 256, (count, side, side), np.uint8)
    return Split(ArrayPictures(array, "test"), np.arange(count) % 3)


@pytest.fixture
def file_split(tmp_path: Path) -> Split:
    draw = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(11)]
    for file in files:
        Image.fromarray(draw.integers(0, 256, (12, 14, 3), np.uint8)).save(file)
    return Split(FilePictures(files), np.arange(11) % 2)


def epoch_of(plan: Plan, epoch: int = 0) -> list[np.ndarray]:
    steps = plan.steps_per_epoch
    return [key.indices for key in plan.keys(epoch * steps, (epoch + 1) * steps)]


@pytest.mark.parametrize(
    ("length", "batch_size", "drop_last", "sizes"),
    [
        (20, 5, False, [5, 5, 5, 5]),
        (20, 5, True, [5, 5, 5, 5]),
        (23, 5, False, [5, 5, 5, 5, 3]),
        (23, 5, True, [5, 5, 5, 5]),
        (21, 5, False, [5, 5, 5, 5]),  # one picture alone has no batch statistics
        (22, 5, False, [5, 5, 5, 5, 2]),
        (3, 5, False, [3]),
        (3, 5, True, [3]),  # the only batch there is
        (2, 128, True, [2]),
        (1, 1, False, [1]),
        (1, 5, False, []),
    ],
)
def test_steps_of_an_epoch(length: int, batch_size: int, drop_last: bool, sizes: list[int]) -> None:
    plan = Plan(length, batch_size, seed=1, drop_last=drop_last)
    assert plan.steps_per_epoch == len(sizes)
    batches = epoch_of(plan)
    assert [len(batch) for batch in batches] == sizes
    seen = np.concatenate(batches) if batches else np.empty(0)
    assert len(np.unique(seen)) == len(seen) == sum(sizes)  # none twice
    assert set(seen) <= set(range(length))


def test_epochs_differ_and_repeat() -> None:
    plan = Plan(100, 10, seed=1)
    first, second = np.concatenate(epoch_of(plan)), np.concatenate(epoch_of(plan, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.concatenate(epoch_of(Plan(100, 10, seed=1))), first)
    assert not np.array_equal(np.concatenate(epoch_of(Plan(100, 10, seed=2))), first)
    # A smaller batch visits in the same order: only the cuts change.
    np.testing.assert_array_equal(np.concatenate(epoch_of(Plan(100, 20, seed=1))), first)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("length", "batch_size", "drop_last"), [(50, 12, False), (50, 12, True), (57, 12, False), (9, 12, False)]
)
def test_ranks_share_out_each_batch(length: int, batch_size: int, drop_last: bool, world: int) -> None:
    plans = [Plan(length, batch_size, 3, drop_last, rank, world) for rank in range(world)]
    assert len({plan.steps_per_epoch for plan in plans}) == 1
    whole = Plan(length, batch_size, 3, drop_last)
    for step, parts in enumerate(zip(*(epoch_of(plan) for plan in plans), strict=True)):
        together = np.concatenate(parts)
        assert len(np.unique(together)) == len(together)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert min(map(len, parts)) >= 2
        # The ranks together see what one process would have seen.
        assert set(together) == set(next(iter(whole.keys(step, step + 1))).indices)


def test_a_run_that_starts_anywhere_sees_what_the_whole_run_saw() -> None:
    plan = Plan(23, 5, seed=9)
    whole = list(plan.keys(0, 4 * plan.steps_per_epoch))
    assert [key.epoch for key in whole] == [epoch for epoch in range(4) for _ in range(5)]
    assert [key.step for key in whole] == list(range(20))
    for start in (0, 1, 4, 5, 7, 14, 19):
        for key, before in zip(plan.keys(start, 20), whole[start:], strict=True):
            assert (key.epoch, key.step) == (before.epoch, before.step)
            np.testing.assert_array_equal(key.indices, before.indices)


def same(one: Batch, other: Batch) -> bool:
    tensors = zip(one[:3], other[:3], strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and (one.epoch, one.step) == (other.epoch, other.step)


def test_training_batches_do_not_depend_on_workers(file_split: Split) -> None:
    plan = Plan(11, 4, seed=5)
    strong = Augmentation(crop="random_resized", randaugment=1)
    runs = [
        list(
            training_batches(file_split, plan, preset("torch", 8), strong, start=1, stop=7, workers=workers, pin=False)
        )
        for workers in (0, 2)
    ]
    assert len(runs[0]) == len(runs[1]) == 6
    for one, other, key in zip(*runs, plan.keys(1, 7), strict=True):
        assert same(one, other)
        assert one.indices.tolist() == key.indices.tolist()
        assert one.targets.tolist() == file_split.targets[key.indices].tolist()
        assert (one.pixels.dtype, one.targets.dtype) == (torch.uint8, torch.int64)
        first = cropped(
            file_split.pictures[int(key.indices[0])], preset("torch", 8), strong, 5, key.epoch, int(key.indices[0])
        )
        assert torch.equal(one.pixels[0], first)


def test_a_step_is_the_same_wherever_the_run_starts(file_split: Split) -> None:
    plan, crop = Plan(11, 4, seed=5), Augmentation(crop="padded")
    whole = list(training_batches(file_split, plan, preset("unit", 8), crop, start=0, stop=6, workers=0, pin=False))
    later = list(training_batches(file_split, plan, preset("unit", 8), crop, start=4, stop=6, workers=0, pin=False))
    assert all(same(one, other) for one, other in zip(whole[4:], later, strict=True))


def test_a_long_run_starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a hundred epochs is not worked out before the first step."""
    epochs: list[int] = []

    def watched(seed: int, epoch: int, length: int) -> np.ndarray:
        epochs.append(epoch)
        return permutation(seed, epoch, length)

    monkeypatch.setattr(loading, "permutation", watched)
    split, plan = array_split(20), Plan(20, 10, 1)
    batches = training_batches(split, plan, GREY, Augmentation(), start=0, stop=200, workers=0, pin=False)
    assert next(iter(batches)).step == 0
    assert epochs == [0]


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(crop="padded", crop_padding=0)])
def test_arrays_take_a_short_cut_that_changes_nothing(augmentation: Augmentation) -> None:
    split = array_split(10)
    split.pictures.array.setflags(write=False)  # type: ignore[attr-defined]
    (batch,) = training_batches(split, Plan(10, 10, 1), GREY, augmentation, start=0, stop=1, workers=0, pin=False)
    expected = torch.stack([GREY.pixels(split.pictures[int(i)]) for i in batch.indices])
    assert torch.equal(batch.pixels, expected)


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_sees_each_picture_once_in_order(world: int) -> None:
    split = array_split(10)
    seen = []
    for rank in range(world):
        batches = evaluation_batches(split, GREY, batch_size=3, workers=0, pin=False, rank=rank, world=world)
        indices = torch.cat([batch.indices for batch in batches]).tolist()
        assert indices == sorted(indices)
        seen += indices
    assert sorted(seen) == list(range(10))


def test_evaluation_batches_do_not_depend_on_workers(file_split: Split) -> None:
    runs = [
        list(evaluation_batches(file_split, preset("torch", 8), batch_size=4, workers=workers, pin=False))
        for workers in (0, 2)
    ]
    assert [len(batch.targets) for batch in runs[0]] == [4, 4, 3]
    assert all(same(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_vanishes_is_named(file_split: Split, workers: int) -> None:
    gone = Path(file_split.pictures.name(7))
    gone.unlink()
    with pytest.raises(DataError, match=r"7\.png: cannot be read \(No such file or directory\)"):
        list(evaluation_batches(file_split, preset("unit", 8), batch_size=4, workers=workers, pin=False))


def test_default_workers(file_split: Split) -> None:
    assert default_workers(array_split(3), 8, cuda=True) == 0
    assert default_workers(file_split, 8, cuda=True) == 8
    assert default_workers(file_split, 96, cuda=True) == 16
    assert default_workers(file_split, 2, cuda=False) == 1
    assert default_workers(file_split, 1, cuda=False) == 1
