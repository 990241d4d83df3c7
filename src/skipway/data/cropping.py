"""The crop of random area, aspect and place on which ImageNet networks train (Szegedy et al. 2014, section 6)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from skipway.data.encoded import Box, Encoded
from skipway.data.preprocessing import Picture, Preprocessing, to_tensor
from skipway.data.resizing import counts_of, resized

_Range = tuple[float, float]


def random_resized(
    picture: Picture | Encoded, preprocessing: Preprocessing, scale: _Range, ratio: _Range, draws: np.ndarray
) -> Tensor:
    """Counts (C, size, size) of a box whose share of the area lies in `scale` and its aspect in `ratio`, by four
    draws from [0, 1).

    A box of more than twice the network's size in each direction may be read from a JPEG at 1/2, 1/4 or 1/8, to at
    least that much. Everything else about it is as the kernel says.
    """

    def choose(size: tuple[int, int]) -> Box:
        return chosen_box(size, scale, ratio, draws)

    if isinstance(picture, Encoded):
        counts = picture.cut(choose, grey=preprocessing.channels == "L", least=2 * preprocessing.size)
        if counts is not None:
            return _resized(counts, preprocessing)
        picture = picture.decoded()
    image = preprocessing.coloured(picture)
    return _resized(counts_of(image.crop(choose(image.size))), preprocessing)


def chosen_box(size: tuple[int, int], scale: _Range, ratio: _Range, draws: np.ndarray) -> Box:
    """The box in a picture of `size`, of whole pixels. One that would not fit is narrowed to the picture."""
    low, high = scale
    area = size[0] * size[1] * (low + draws[0] * (high - low))
    narrow, wide = (math.log(one) for one in ratio)
    aspect = math.exp(narrow + draws[1] * (wide - narrow))
    width, height = (
        min(max(round(length), 1), side)
        for length, side in zip((math.sqrt(area * aspect), math.sqrt(area / aspect)), size, strict=True)
    )
    left, top = int(draws[2] * (size[0] - width + 1)), int(draws[3] * (size[1] - height + 1))
    return left, top, left + width, top + height


def _resized(counts: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    size = (preprocessing.size, preprocessing.size)
    if preprocessing.kernel != "bilinear":
        return to_tensor(resized(_image(counts), size, preprocessing.kernel))
    # Pillow's own algorithm with weights of 15 bits instead of 22: counts differ by 1 at most, in a third of the time.
    if not counts.flags.writeable:  # torch would warn
        counts = counts.copy()
    return F.interpolate(torch.from_numpy(counts).permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)[0]


def _image(counts: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(counts[:, :, 0] if counts.shape[2] == 1 else counts))
