"""Finished pictures kept between epochs, where they are the same in each and fit into the memory."""

from __future__ import annotations

import math
import mmap

import numpy as np
import torch
from torch import Tensor

from skipway.data.dataset import EncodedPictures, Split
from skipway.data.preprocessing import Preprocessing
from skipway.machine import memory_limit

_SHARE = 4  # a quarter of the memory; the network and its gradients want the rest


class Memory:
    """What `Preprocessing.pixels` gave for the pictures of a split, by position.

    The pages are shared with processes that are forked later, and take no memory before they are written. Workers may
    write one picture twice: both write the same.
    """

    def __init__(self, length: int, shape: tuple[int, ...], kind: np.dtype) -> None:
        row = math.prod(shape) * kind.itemsize
        pages = mmap.mmap(-1, length * row + length)
        self._rows = np.frombuffer(pages, kind, length * math.prod(shape)).reshape(length, *shape)
        self._known = np.frombuffer(pages, np.bool_, length, offset=length * row)

    def get(self, index: int) -> Tensor | None:
        """Counts (C, size, size) of a picture, not to be written to; None if it has not been put in yet."""
        return torch.from_numpy(self._rows[index]) if self._known[index] else None

    def copy_to(self, batch: Tensor, indices: np.ndarray) -> bool:
        """Fill a batch (N, C, size, size) with these pictures; False, and nothing done, if any is missing."""
        if not self._known[indices].all():
            return False
        np.take(self._rows, indices, axis=0, out=batch.numpy(), mode="clip")  # "raise" would go by another copy
        return True

    def put(self, index: int, pixels: Tensor) -> None:
        """Keep a picture. It counts as known only once it is there as a whole."""
        self._rows[index] = pixels.numpy()
        self._known[index] = True


def memory_for(split: Split, preprocessing: Preprocessing) -> Memory | None:
    """Room for all pictures of a split, None where there is too little, or where they lie in memory already."""
    if not isinstance(split.pictures, EncodedPictures) or len(split) == 0:
        return None
    kind = np.dtype(np.float32 if preprocessing.floating else np.uint8)
    shape = (preprocessing.depth, preprocessing.size, preprocessing.size)
    limit = memory_limit()
    if limit is None or len(split) * (math.prod(shape) * kind.itemsize + 1) > limit // _SHARE:
        return None
    return Memory(len(split), shape, kind)
