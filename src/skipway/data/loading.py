"""Splits -> batches of counts, in the main process or in workers, for one rank of a world."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from skipway.data.augmentation import Augmentation, crop_draws, cropped
from skipway.data.dataset import ArrayPictures, EncodedPictures, Split
from skipway.data.draws import permutation
from skipway.data.encoded import Encoded
from skipway.data.memory import Memory, memory_for
from skipway.data.preprocessing import Picture, Preprocessing
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
        self,
        split: Split,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        memory: Memory | None = None,
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.memory = memory

    def __getstate__(self) -> dict[str, Any]:
        # Only forked workers share memory: one that is started afresh would fill a whole one of its own.
        return {**self.__dict__, "memory": None}

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
        size, depth = self.preprocessing.size, self.preprocessing.depth
        kind = torch.float32 if self.preprocessing.floating else torch.uint8
        batch = _empty((len(key.indices), depth, size, size), kind)
        untouched = one.crop == "none" and not one.randaugment
        if untouched and self.memory is not None and self.memory.copy_to(batch, key.indices):
            return batch
        draws = crop_draws(self.seed, key.epoch, key.indices)
        for row, index, drawn in zip(batch, key.indices.tolist(), draws, strict=True):
            row.copy_(cropped(self._read(index), self.preprocessing, one, self.seed, key.epoch, index, drawn))
        return batch

    def _read(self, index: int) -> Picture | Encoded | Tensor:
        pictures = self.split.pictures
        if self.memory is None:
            return pictures.encoded(index) if isinstance(pictures, EncodedPictures) else pictures[index]
        pixels = self.memory.get(index)
        if pixels is None:
            pixels = self.preprocessing.pixels(pictures[index])
            self.memory.put(index, pixels)
        return pixels


def _empty(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    """A batch to fill. In a worker it lies where the main process will see it, so that it need not be copied there."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    size = math.prod(shape)
    storage = torch.UntypedStorage._new_shared(size * kind.itemsize, device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=kind).set_(storage, 0, shape)  # type: ignore[call-overload]


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
    """The batches of steps `start` to `stop`, across epochs without a pause between them. Raises DataError.

    Pictures that each epoch begins with anew, uncropped, are kept in memory if they fit.
    """
    fixed = augmentation.crop in {"none", "padded"} and stop - start > plan.steps_per_epoch
    memory = memory_for(split, preprocessing) if fixed else None
    batches = _Batches(split, preprocessing, augmentation, plan.seed, memory)
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
    memory: Memory | None = None,
) -> Iterator[Batch]:
    """Each picture of this rank once, in order. `memory` serves whoever evaluates again. Raises DataError."""
    mine = np.arange(len(split))[rank::world]
    keys = [Key(0, at, mine[at : at + batch_size]) for at in range(0, len(mine), batch_size)]
    return _checked(_loader(_Batches(split, preprocessing, memory=memory), keys, workers, pin=pin))


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
