"""Arrays of pictures: which ones are accepted, and how their axes are arranged."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skipway.errors import DataError


def check_picture_array(array: np.ndarray) -> None:
    """Raises DataError for an array that is not a picture, uint8 (H, W) or (H, W, 1 or 3), without pixels too."""
    if array.dtype != np.uint8:
        raise DataError(f"a picture is an array of {array.dtype}; give uint8 counts from 0 to 255")
    is_grey = array.ndim == 2
    has_channels = array.ndim == 3 and array.shape[2] in (1, 3)
    if not (is_grey or has_channels) or 0 in array.shape:
        raise DataError(f"a picture is an array of shape {array.shape}; give (H, W) or (H, W, 1 or 3)")


def with_channels(array: np.ndarray) -> np.ndarray:
    """A picture (H, W) or (H, W, C) as (H, W, C), without a copy."""
    if array.ndim == 2:
        return array[:, :, None]
    return array


def without_single_channel(array: np.ndarray) -> np.ndarray:
    """A picture (H, W, 1) as (H, W), any other as it is, without a copy."""
    if array.ndim == 3 and array.shape[2] == 1:
        return array[:, :, 0]
    return array


def to_tensor(counts: np.ndarray) -> Tensor:
    """Counts (H, W, C) as a tensor (C, H, W) with memory of its own."""
    channels_first = counts.transpose(2, 0, 1)
    copy = np.array(channels_first, order="C")
    return torch.from_numpy(copy)
