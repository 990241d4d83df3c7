"""Splits -> batches of counts, in the main process or in workers, for one rank of a world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skipway.data.augmentation import Augmentation, cropped
from skipway.data.dataset import ArrayPictures, FilePictures, Split
from skipway.data.draws import permutation
from skipway.data.preprocessing import Preprocessing
from skipway.errors import DataError, PictureError


class Batch(NamedTuple):
    """Counts (N, C, H, W) as `Preprocessing.pixels` gives them, uint8 or float32, int64 targets (N,), their positions
    in the split, and when they are due.

    `weight` is what this rank's mean loss counts in the mean over ranks, 1 where all have equally many pictures.
    """

    pixels: Tensor
    targets: Tensor
    indices: Tensor
    epoch: int
    step: int
    weight: float = 1.0


@dataclass(frozen=True)
class Key:
    """What a worker needs to make a batch."""

    epoch: int
    step: int
    indices: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Which pictures each step of a run sees: a pure function of its fields, so a resume starts anywhere.

    A step is one update of the weights and sees `batch_size` pictures over all ranks. The last batch of an epoch may
    be smaller, and is left out with `drop_last` or when a rank would get fewer than two pictures, which batch
    normalization could not take.
    """

    length: int
    batch_size: int
    seed: int
    drop_last: bool = False
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        full, rest = divmod(self.length, self.batch_size)
        partial = rest >= 2 * self.world and not (self.drop_last and full)
        return full + partial

    def keys(self, start: int, stop: int) -> Iterator[Key]:
        """Keys of the steps from `start` up to `stop`."""
        order = np.empty(0, np.int64)
        epoch = -1
        for step in range(start, stop):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = permutation(self.seed, epoch, self.length)
            first = step % self.steps_per_epoch * self.batch_size
            whole = order[first : first + self.batch_size]
            mine = whole[self.rank :: self.world]
            yield Key(epoch, step, mine, len(mine) * self.world / len(whole))


class _Batches(Dataset[Batch]):
    """Makes the batch of a key. Errors are returned, not raised: torch would bury them in a worker's traceback."""

    def __init__(
        self, split: Split, preprocessing: Preprocessing, augmentation: Augmentation | None = None, seed: int = 0
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.augmentation = augmentation or Augmentation()
        self.seed = seed

    def __getitems__(self, key: Key) -> Batch | PictureError:
        try:
            pixels = self._pixels(key)
        except PictureError as error:
            return error
        targets = torch.from_numpy(self.split.targets[key.indices])
        return Batch(pixels, targets, torch.from_numpy(key.indices), key.epoch, key.step, key.weight)

    def _pixels(self, key: Key) -> Tensor:
        pictures, one = self.split.pictures, self.augmentation
        if isinstance(pictures, ArrayPictures) and one.crop == "none" and not one.randaugment:
            whole = self.preprocessing.pixels_of(pictures.array[key.indices])
            if whole is not None:
                return whole
        return torch.stack(
            [cropped(pictures[i], self.preprocessing, one, self.seed, key.epoch, int(i)) for i in key.indices]
        )


def training_batches(
    split: Split,
    plan: Plan,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    start: int,
    stop: int,
    workers: int,
    pin: bool,
) -> Iterator[Batch]:
    """The batches of steps `start` to `stop`, across epochs without a pause between them. Raises DataError."""
    batches = _Batches(split, preprocessing, augmentation, plan.seed)
    return _checked(_loader(batches, plan.keys(start, stop), workers, pin=pin))


def evaluation_batches(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    pin: bool,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Each picture of this rank once, in order. Raises DataError."""
    mine = np.arange(len(split))[rank::world]
    keys = [Key(0, at, mine[at : at + batch_size]) for at in range(0, len(mine), batch_size)]
    return _checked(_loader(_Batches(split, preprocessing), keys, workers, pin=pin))


def _loader(batches: _Batches, keys: Iterable[Key], workers: int, *, pin: bool) -> Iterable[Any]:
    return DataLoader(
        batches,
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=_unchanged,
        num_workers=workers,
        pin_memory=pin,
    )


def _unchanged(batch: Any) -> Any:
    return batch


def _checked(batches: Iterable[Batch | PictureError]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, PictureError):
            raise DataError(f"{batch}; it could be read when the work began: put it back, then begin or resume again")
        yield batch


def default_workers(split: Split, cores: int, *, cuda: bool) -> int:
    """Worker processes for a split: none for arrays, where a copy costs more than it hides."""
    if not isinstance(split.pictures, FilePictures):
        return 0
    # On a CPU the network needs the cores; decoding for it takes a fraction of one.
    return min(cores, 16) if cuda else max(cores // 2, 1)
