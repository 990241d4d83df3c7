"""Batches of a split's pictures, made in the main process or in workers, for one rank of several."""

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
    """The pictures of one step, for one rank."""

    pixels: Tensor  # counts (N, C, H, W), uint8 or float32, as `Preprocessing.pixels` gives them
    targets: Tensor  # int64 (N,)
    indices: Tensor  # the positions of the pictures in the split, int64 (N,)
    epoch: int
    step: int
    # What this rank's mean loss counts in the mean over ranks: 1 where all ranks have equally many pictures.
    weight: float = 1.0


@dataclass(frozen=True)
class SampleKey:
    """What a worker needs to make a batch: the fields of `Batch` without its pixels and targets."""

    epoch: int
    step: int
    indices: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Which pictures each step of a run sees. It depends on these fields alone, so that a run can resume at any step.

    A step is one update of the weights and sees `batch_size` pictures over all ranks. The last batch of an epoch may be
    smaller. It is left out where a rank would get fewer than two pictures, which batch normalization could not take.
    """

    length: int  # pictures of the split
    batch_size: int  # pictures of a step, over all ranks
    seed: int
    drop_last: bool = False  # whether a smaller last batch is always left out
    rank: int = 0
    world: int = 1  # the number of ranks

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches of an epoch."""
        full, rest = divmod(self.length, self.batch_size)
        is_large_enough = rest >= 2 * self.world
        is_dropped = self.drop_last and full > 0
        if is_large_enough and not is_dropped:
            return full + 1
        return full

    def keys(self, start: int, stop: int) -> Iterator[SampleKey]:
        """The keys of this rank's batches from step `start` up to, without it, step `stop`."""
        order = np.empty(0, np.int64)
        epoch = -1
        for step in range(start, stop):
            epoch_of_step, batch = divmod(step, self.steps_per_epoch)
            if epoch_of_step != epoch:
                epoch = epoch_of_step
                order = permutation(self.seed, epoch, self.length)
            first = batch * self.batch_size
            whole = order[first : first + self.batch_size]
            mine = whole[self.rank :: self.world]
            weight = len(mine) * self.world / len(whole)
            yield SampleKey(epoch, step, mine, weight)


class _Batches(Dataset[Batch]):
    """Makes the batch of a key. Errors are returned, not raised: torch would hide them in a worker's traceback."""

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        memory: Memory | None = None,
    ) -> None:
        """Batches of a split. `memory` keeps uncropped pictures between epochs."""
        self.split = split
        self.preprocessing = preprocessing
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.memory = memory

    def __getstate__(self) -> dict[str, Any]:
        """What pickle sends to a worker that is started afresh. Only forked workers share memory."""
        return {**self.__dict__, "memory": None}

    def __getitems__(self, key: SampleKey) -> Batch | PictureError:
        """The batch of a key, or the error of its first picture that cannot be read."""
        try:
            pixels = self._pixels(key)
        except PictureError as error:
            return error
        targets = torch.from_numpy(self.split.targets[key.indices])
        indices = torch.from_numpy(key.indices)
        return Batch(pixels, targets, indices, key.epoch, key.step, key.weight)

    def _pixels(self, key: SampleKey) -> Tensor:
        """The pixels of a batch: counts (N, C, size, size)."""
        preprocessing, augmentation = self.preprocessing, self.augmentation
        is_plain = augmentation.crop == "none" and not augmentation.randaugment
        if is_plain and isinstance(self.split.pictures, ArrayPictures):
            array = self.split.pictures.array[key.indices]
            pixels = preprocessing.pixels_of(array)
            if pixels is not None:
                return pixels
        shape = (len(key.indices), preprocessing.depth, preprocessing.size, preprocessing.size)
        dtype = torch.float32 if preprocessing.floating else torch.uint8
        batch = _empty_batch(shape, dtype)
        if is_plain and self.memory is not None:
            is_complete = self.memory.copy_to(batch, key.indices)
            if is_complete:
                return batch
        draws = crop_draws(self.seed, key.epoch, key.indices)
        for row, index, row_draws in zip(batch, key.indices.tolist(), draws, strict=True):
            picture = self._read(index)
            pixels = cropped(picture, preprocessing, augmentation, self.seed, key.epoch, index, row_draws)
            row.copy_(pixels)
        return batch

    def _read(self, index: int) -> Picture | Encoded | Tensor:
        """A picture: as it lies in its file, as an array, or, where there is a memory, its uncropped pixels."""
        pictures = self.split.pictures
        if self.memory is None:
            if isinstance(pictures, EncodedPictures):
                return pictures.encoded(index)
            return pictures[index]
        pixels = self.memory.get(index)
        if pixels is None:
            pixels = self.preprocessing.pixels(pictures[index])
            self.memory.put(index, pixels)
        return pixels


def _empty_batch(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A batch to fill. In a worker it lies in shared memory, so that the main process gets it without a copy."""
    is_main_process = get_worker_info() is None
    if is_main_process:
        return torch.empty(shape, dtype=dtype)
    size = math.prod(shape) * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(size, device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload]


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
    """The batches of the steps `start` to `stop`, without a pause between epochs.

    Uncropped pictures are kept in memory between epochs, if they fit.

    Arguments:
        split: the training pictures.
        plan: which pictures each step sees.
        preprocessing, augmentation: what becomes of each picture.
        start, stop: the first step, and the one after the last.
        workers: the number of worker processes; 0 makes the batches in this process.
        pin: whether the batches lie in pinned memory, from which copies to a GPU are fast.

    Raises DataError where a picture cannot be read.
    """
    is_uncropped = augmentation.crop in {"none", "padded"}
    has_several_epochs = stop - start > plan.steps_per_epoch
    memory = None
    if is_uncropped and has_several_epochs:
        memory = memory_for(split, preprocessing)
    batches = _Batches(split, preprocessing, augmentation, plan.seed, memory)
    keys = plan.keys(start, stop)
    return _checked(_loader(batches, keys, workers, pin=pin))


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
    """The batches of an evaluation: each picture of this rank once, in order.

    Arguments:
        split: the pictures.
        preprocessing: what becomes of each picture.
        batch_size: pictures of a batch of this rank.
        workers, pin: see `training_batches`.
        rank, world: the number of this rank, and how many there are.
        memory: keeps the pictures for the next evaluation of the same split.

    Raises DataError where a picture cannot be read.
    """
    mine = np.arange(len(split))[rank::world]
    keys = []
    for start in range(0, len(mine), batch_size):
        indices = mine[start : start + batch_size]
        keys.append(SampleKey(0, start, indices))
    batches = _Batches(split, preprocessing, memory=memory)
    return _checked(_loader(batches, keys, workers, pin=pin))


def _loader(batches: _Batches, keys: Iterable[SampleKey], workers: int, *, pin: bool) -> Iterable[Any]:
    """torch's loader, which gives a whole batch for each key."""
    return DataLoader(
        batches,
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=_unchanged,
        num_workers=workers,
        pin_memory=pin,
    )


def _unchanged(batch: Any) -> Any:
    """The batch itself. A function with a name, because a worker that is started afresh gets it by pickle."""
    return batch


def _checked(batches: Iterable[Batch | PictureError]) -> Iterator[Batch]:
    """The batches, up to the first error. Raises DataError for that."""
    for batch in batches:
        if isinstance(batch, PictureError):
            raise DataError(f"{batch}; it could be read when the work began: put it back, then begin or resume again")
        yield batch
