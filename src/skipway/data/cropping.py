"""The crop of random area, aspect and place on which ImageNet networks train (Szegedy et al. 2014, section 6)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from skipway.data.encoded import Box, Encoded
from skipway.data.picture_arrays import to_tensor, without_single_channel
from skipway.data.preprocessing import Picture, Preprocessing
from skipway.data.resizing import counts_of, resized

_Range = tuple[float, float]


def random_resized(
    picture: Picture | Encoded, preprocessing: Preprocessing, scale: _Range, ratio: _Range, draws: np.ndarray
) -> Tensor:
    """A random box of a picture, resized to the network's size.

    Arguments:
        picture: the picture. A box of more than twice the network's size in each direction may be read from a JPEG at
            1/2, 1/4 or 1/8 of its size, to at least twice the network's size.
        preprocessing: gives the size, the channels and the kernel.
        scale: the least and the largest share of the picture's area.
        ratio: the least and the largest aspect, width over height.
        draws: four random numbers from [0, 1).

    Returns counts (C, size, size). Raises PictureError for an encoded picture that cannot be decoded.
    """

    def choose(size: tuple[int, int]) -> Box:
        """The box in a picture of this width and height."""
        return chosen_box(size, scale, ratio, draws)

    if isinstance(picture, Encoded):
        is_grey = preprocessing.channels == "L"
        counts = picture.cut(choose, grey=is_grey, least=2 * preprocessing.size)
        if counts is not None:
            return _resized(counts, preprocessing)
        picture = picture.decoded()
    image = preprocessing.coloured(picture)
    part = image.crop(choose(image.size))
    return _resized(counts_of(part), preprocessing)


def chosen_box(size: tuple[int, int], scale: _Range, ratio: _Range, draws: np.ndarray) -> Box:
    """The box, in whole pixels, that four draws choose in a picture of `size` (width, height).

    A box that would not fit is narrowed to the picture. See `random_resized` for the other arguments.
    """
    whole_width, whole_height = size
    least_share, largest_share = scale
    share = least_share + draws[0] * (largest_share - least_share)
    area = whole_width * whole_height * share
    # Logarithms: an aspect is as likely as its inverse.
    narrowest, widest = math.log(ratio[0]), math.log(ratio[1])
    aspect = math.exp(narrowest + draws[1] * (widest - narrowest))
    width = _bounded(math.sqrt(area * aspect), whole_width)
    height = _bounded(math.sqrt(area / aspect), whole_height)
    left = int(draws[2] * (whole_width - width + 1))
    top = int(draws[3] * (whole_height - height + 1))
    return left, top, left + width, top + height


def _bounded(length: float, most: int) -> int:
    """A length in whole pixels, from 1 to `most`."""
    pixels = max(round(length), 1)
    return min(pixels, most)


def _resized(counts: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Counts (H, W, C) at the network's size: (C, size, size)."""
    size = (preprocessing.size, preprocessing.size)
    if preprocessing.kernel != "bilinear":
        image = _image(counts)
        return to_tensor(resized(image, size, preprocessing.kernel))
    # Pillow's own algorithm, with weights of 15 bits in place of 22. Counts differ by 1 at most, and it takes a third
    # of the time.
    if not counts.flags.writeable:
        # torch warns about memory that it must not write to.
        counts = counts.copy()
    batch = torch.from_numpy(counts).permute(2, 0, 1)[None]
    return F.interpolate(batch, size, mode="bilinear", antialias=True)[0]


def _image(counts: np.ndarray) -> Image.Image:
    """Counts (H, W, 1 or 3) as a Pillow image."""
    squeezed = without_single_channel(counts)
    return Image.fromarray(np.ascontiguousarray(squeezed))
