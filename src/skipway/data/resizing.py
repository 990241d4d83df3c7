"""Scaling a picture as the library of each source does: one picture, one set of weights, and other answers by each.

Pillow's kernels average all pixels that fall into one (antialiased); TensorFlow 1 and OpenCV look at four of them,
however many fall away, and disagree about where these lie.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

Kernel = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "tf1_bilinear", "opencv_bilinear"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}

ANTIALIASED = frozenset(PILLOW) - {"nearest"}
FLOATING = frozenset({"tf1_bilinear"})  # kernels that keep the fractions of counts

_ONE = 2048  # OpenCV's INTER_RESIZE_COEF_SCALE


def resized(image: Image.Image, size: tuple[int, int], kernel: Kernel, box: Box | None = None) -> np.ndarray:
    """An L or RGB picture, or a `box` of it, at `size` (width, height): counts (H, W, C), float32 for a kernel of
    `FLOATING`, else uint8. Kernels other than Pillow's take whole pixels: their box is rounded."""
    if kernel in PILLOW:
        whole = image.size == size and box is None
        return counts_of(image if whole else image.resize(size, PILLOW[kernel], box=box))
    if box is not None:
        left, top, right, bottom = (round(side) for side in box)
        image = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return (tf1_bilinear if kernel == "tf1_bilinear" else opencv_bilinear)(counts_of(image), size)


def counts_of(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, C) of an L or RGB picture."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def tf1_bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Counts (H, W, C) at `size` (width, height) by `tf.compat.v1.image.resize_bilinear`, align_corners and
    half_pixel_centers false: float32, in that library's order of operations."""
    width, height = size
    top, bottom, down = _tf1_places(array.shape[0], height)
    left, right, across = _tf1_places(array.shape[1], width)
    kept, place = np.unique(np.concatenate((top, bottom)), return_inverse=True)
    lines = array[kept]
    middle = _between(lines[:, left].astype(np.float32), lines[:, right], across[:, None])
    upper, lower = (middle[part] for part in np.split(place, 2))
    return _between(upper, lower, down[:, None, None])


def _between(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """start + (end - start) * share, in the memory of `start`."""
    step = end - start
    step *= share
    start += step
    return start


def _tf1_places(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each target pixel: the two source pixels, and how far it lies from the first towards the second."""
    at = np.arange(target, dtype=np.float32) * (np.float32(source) / np.float32(target))
    low = np.floor(at)
    first = low.astype(np.int64)
    return first, np.minimum(first + 1, source - 1), at - low


def opencv_bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 counts (H, W, C) at `size` (width, height) by `cv2.resize` with INTER_LINEAR, bit for bit.

    OpenCV reckons in fixed point: weights of 11 bits, sums along a row cut to 15 bits before the rows are added.
    """
    width, height = size
    rows, columns = array.shape[:2]
    if (columns, rows) == size:
        return array
    if (columns, rows) == (2 * width, 2 * height):  # taken as INTER_AREA: the mean of four, halves rounded up
        quarters = array.reshape(height, 2, width, 2, -1).sum((1, 3), dtype=np.uint16)
        return ((quarters + 2) >> 2).astype(np.uint8)
    first, weights = _opencv_places(columns, width)
    beyond = (first < 0) | (first >= columns - 1)
    weights[:, beyond] = np.array([[_ONE], [0]])  # only along a row: a column's ends keep both weights
    first = first.clip(0, columns - 1)
    top, shares = _opencv_places(rows, height)
    kept, place = np.unique(np.concatenate((top, top + 1)).clip(0, rows - 1), return_inverse=True)
    lines = array[kept]
    sums = lines[:, first] * weights[0][:, None]
    sums += lines[:, np.minimum(first + 1, columns - 1)] * weights[1][:, None]
    sums >>= 4
    upper, lower = (
        (sums[part] * share[:, None, None]) >> 16 for part, share in zip(np.split(place, 2), shares, strict=True)
    )
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


def _opencv_places(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each target pixel: the first source pixel, -1 before the first of all, and the weights (2, target) of it and
    of the next."""
    scale = 1 / (target / source)  # not source / target: the last bit may differ
    at = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    low = np.floor(at)
    share = at - low
    weights = np.rint(np.stack((np.float32(1) - share, share)) * np.float32(_ONE)).astype(np.int32)
    return low.astype(np.int64), weights
