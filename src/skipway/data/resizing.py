"""Scaling a picture as the library of each source does. With the same weights, each gives somewhat other answers.

Pillow's kernels, except "nearest", average all pixels that fall into one (antialiasing). TensorFlow 1 and OpenCV use
four of them, however small the result is, and disagree about where these four lie.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from skipway.data.picture_arrays import with_channels

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
FLOATING = frozenset({"tf1_bilinear"})  # kernels whose results have fractions of counts

_ONE = 2048  # OpenCV's INTER_RESIZE_COEF_SCALE: the weight 1 in fixed point


def resized(image: Image.Image, size: tuple[int, int], kernel: Kernel, box: Box | None = None) -> np.ndarray:
    """A picture, or a box of it, at another size.

    Arguments:
        image: the picture, in mode L or RGB.
        size: width and height of the result.
        kernel: the algorithm.
        box: the part to scale. Kernels other than Pillow's use whole pixels: its edges are rounded for them.

    Returns counts (H, W, C), float32 for a kernel of `FLOATING`, else uint8.
    """
    if kernel in PILLOW:
        is_unchanged = image.size == size and box is None
        if not is_unchanged:
            image = image.resize(size, PILLOW[kernel], box=box)
        return counts_of(image)
    if box is not None:
        left, top, right, bottom = (round(edge) for edge in box)
        right = max(right, left + 1)
        bottom = max(bottom, top + 1)
        image = image.crop((left, top, right, bottom))
    counts = counts_of(image)
    if kernel == "tf1_bilinear":
        return tf1_bilinear(counts, size)
    return opencv_bilinear(counts, size)


def counts_of(image: Image.Image) -> np.ndarray:
    """The counts of a picture in mode L or RGB, uint8 (H, W, C)."""
    return with_channels(np.asarray(image))


def tf1_bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Counts (H, W, C) at `size` (width, height), float32, in the order of operations of TensorFlow 1.

    Source: `tf.compat.v1.image.resize_bilinear`, with align_corners and half_pixel_centers false.
    """
    width, height = size
    top, bottom, down = _tf1_places(array.shape[0], height)
    left, right, across = _tf1_places(array.shape[1], width)
    # Each row that is needed is scaled once.
    kept, place = np.unique(np.concatenate((top, bottom)), return_inverse=True)
    lines = array[kept]
    starts = lines[:, left].astype(np.float32)
    middle = _between(starts, lines[:, right], across[:, None])
    upper_place, lower_place = np.split(place, 2)
    upper, lower = middle[upper_place], middle[lower_place]
    return _between(upper, lower, down[:, None, None])


def _between(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """start + (end - start) * share, in the memory of `start`."""
    step = end - start
    step *= share
    start += step
    return start


def _tf1_places(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each target pixel: its two source pixels, and its distance from the first towards the second."""
    at = np.arange(target, dtype=np.float32) * (np.float32(source) / np.float32(target))
    low = np.floor(at)
    first = low.astype(np.int64)
    second = np.minimum(first + 1, source - 1)
    return first, second, at - low


def opencv_bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 counts (H, W, C) at `size` (width, height) by `cv2.resize` with INTER_LINEAR, bit for bit.

    OpenCV calculates in fixed point: the weights have 11 bits, and sums along a row are cut to 15 bits before the rows
    are added.
    """
    width, height = size
    rows, columns = array.shape[:2]
    if (columns, rows) == size:
        return array
    if (columns, rows) == (2 * width, 2 * height):
        # OpenCV takes this as INTER_AREA: the mean of four pixels, with halves rounded up.
        quarters = array.reshape(height, 2, width, 2, -1).sum((1, 3), dtype=np.uint16)
        return ((quarters + 2) >> 2).astype(np.uint8)
    first, weights = _opencv_places(columns, width)
    # The ends of a row have only one source pixel. The ends of a column keep both weights.
    is_end = (first < 0) | (first >= columns - 1)
    weights[:, is_end] = np.array([[_ONE], [0]])
    first = first.clip(0, columns - 1)
    second = np.minimum(first + 1, columns - 1)
    top, shares = _opencv_places(rows, height)
    # Each row that is needed is scaled once.
    needed = np.concatenate((top, top + 1)).clip(0, rows - 1)
    kept, place = np.unique(needed, return_inverse=True)
    lines = array[kept]
    sums = lines[:, first] * weights[0][:, None]
    sums += lines[:, second] * weights[1][:, None]
    sums >>= 4
    upper_place, lower_place = np.split(place, 2)
    upper = (sums[upper_place] * shares[0][:, None, None]) >> 16
    lower = (sums[lower_place] * shares[1][:, None, None]) >> 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


def _opencv_places(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """For each target pixel: its first source pixel, and the weights (2, target) of that one and of the next.

    The first source pixel is -1 where the target lies before all of them.
    """
    scale = 1 / (target / source)  # source / target may differ in the last bit
    at = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    low = np.floor(at)
    share = at - low
    shares = np.stack((np.float32(1) - share, share))
    weights = np.rint(shares * np.float32(_ONE)).astype(np.int32)
    return low.astype(np.int64), weights
