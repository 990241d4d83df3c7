"""Finds copies of pictures by their looks: one that was saved again, smaller or in another format, has other bytes.

The thumbnail of a picture has 8 x 8 grey values, each the mean over its part of the picture. Two pictures look alike
when their thumbnails, each without its mean, differ by less than `ALIKE` of their common contrast.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

SIDE = 8
# Of pictures saved as JPEG of quality 80 at half their size, 95 % differ by up to 0.018 (64-pixel hand signs),
# 0.052 (photographs) and 0.107 (CIFAR-10). Of 3,000 pictures of CIFAR-10, 99.9 % are 0.229 or more from all others.
ALIKE = 0.12
_INTERMEDIATE = 64  # pixels a side, to which Pillow reduces a large picture first
_AT_ONCE = 1024  # pictures
_FLAT = 2.0  # counts; a thumbnail of less contrast could be of any picture
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow makes grey


def thumbnail(picture: Image.Image) -> bytes:
    """The 64 grey values of a picture, row by row."""
    grey = picture
    if picture.mode != "L":
        grey = picture.convert("L")
    if min(grey.size) >= 2 * _INTERMEDIATE:
        # Pillow is fast, but takes means over whole pixels only. Among so many pixels that makes no difference.
        grey = grey.resize((_INTERMEDIATE, _INTERMEDIATE), Image.Resampling.BOX)
    batch = np.asarray(grey)[None]
    return array_thumbnails(batch).tobytes()


def array_thumbnails(array: np.ndarray) -> np.ndarray:
    """Thumbnails, uint8 (N, 64), of pictures in memory, uint8 (N, H, W) or (N, H, W, 1 or 3)."""
    rows = _area_means(array.shape[1])
    columns = _area_means(array.shape[2])
    found = np.empty((len(array), SIDE * SIDE), np.uint8)
    for start in range(0, len(array), _AT_ONCE):
        part = array[start : start + _AT_ONCE]
        means = rows @ _grey(part) @ columns.T
        found[start : start + len(part)] = np.rint(means).reshape(len(part), -1)
    return found


def _grey(array: np.ndarray) -> np.ndarray:
    """Grey values, float32 (N, H, W), of pictures, uint8 (N, H, W) or (N, H, W, 1 or 3)."""
    counts = array.astype(np.float32)
    if counts.ndim == 3:
        return counts
    if counts.shape[3] == 1:
        return counts[..., 0]
    return counts @ _LUMA


@cache
def _area_means(size: int) -> np.ndarray:
    """The matrix (8, size) that takes the mean over each eighth of a side. A pixel on an edge counts by its share."""
    edges = np.linspace(0, size, SIDE + 1)
    pixels = np.arange(size)
    starts, ends = edges[:-1, None], edges[1:, None]
    overlaps = np.minimum(pixels + 1, ends) - np.maximum(pixels, starts)
    shares = np.clip(overlaps, 0, None)
    means: np.ndarray = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return means


def look_alike(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the thumbnails `some`, uint8 (N, 64), look like any of `others`, uint8 (M, 64): bool (N,).

    A picture of a single tone looks like no other.
    """
    found = np.zeros(len(some), bool)
    if len(others) == 0:
        return found
    theirs, their_contrast = _centred(others)
    for start in range(0, len(some), _AT_ONCE):
        ours, contrast = _centred(some[start : start + _AT_ONCE])
        distance = contrast[:, None] + their_contrast[None] - 2 * ours @ theirs.T
        bound = ALIKE**2 * (contrast[:, None] + their_contrast[None]) / 2
        is_near = (distance < bound).any(1)
        has_contrast = contrast > SIDE * SIDE * _FLAT**2
        found[start : start + len(ours)] = is_near & has_contrast
    return found


def _centred(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of thumbnails without their mean, float32 (N, 64), and the sums of their squares (N,)."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    contrast = np.square(values).sum(1)
    return values, contrast
