"""Preprocessed pictures kept in memory between epochs, where every epoch begins with the same and they fit."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipway.data.dataset import EncodedPictures, Split
from skipway.data.preprocessing import Preprocessing
from skipway.machine import memory_limit

_DIVISOR = 4  # pictures may take a quarter of the memory; the network and its gradients need the rest


class Memory:
    """The pixels of the pictures of a split, as `Preprocessing.pixels` gives them, by position.

    Processes that are forked later share its memory, which takes no room before it is written. Two workers may write
    the same picture at once: both write the same bytes.
    """

    def __init__(self, length: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Room for `length` pictures of this shape (C, size, size)."""
        values = length * math.prod(shape)
        pixels_size = values * dtype.itemsize
        flags_size = length
        pages = mmap.mmap(-1, pixels_size + flags_size)
        self._pixels = np.frombuffer(pages, dtype, values).reshape(length, *shape)
        self._is_known = np.frombuffer(pages, np.bool_, length, offset=pixels_size)

    def get(self, index: int) -> Tensor | None:
        """The pixels of a picture (C, size, size), which must not be changed; None where they are not known yet."""
        if not self._is_known[index]:
            return None
        return torch.from_numpy(self._pixels[index])

    def copy_to(self, batch: Tensor, indices: np.ndarray) -> bool:
        """Fill a batch (N, C, size, size) with the pictures at these positions.

        Returns False, and does nothing, where one of them is not known yet.
        """
        are_known = self._is_known[indices].all()
        if not are_known:
            return False
        # The mode "raise" would make one more copy.
        np.take(self._pixels, indices, axis=0, out=batch.numpy(), mode="clip")
        return True

    def put(self, index: int, pixels: Tensor) -> None:
        """Keep the pixels of a picture. They count as known only after all of them are written."""
        self._pixels[index] = pixels.numpy()
        self._is_known[index] = True


def memory_for(split: Split, preprocessing: Preprocessing) -> Memory | None:
    """Room for all pictures of a split; None where it is too little, or where they are in memory already."""
    if not isinstance(split.pictures, EncodedPictures):
        return None
    count = len(split)
    if count == 0:
        return None
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    if preprocessing.floating:
        dtype = np.dtype(np.float32)
    shape = (preprocessing.depth, preprocessing.size, preprocessing.size)
    needed = count * (math.prod(shape) * dtype.itemsize + 1)
    limit = memory_limit()
    if limit is None or needed > limit // _DIVISOR:
        return None
    return Memory(count, shape, dtype)
