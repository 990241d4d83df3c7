"""Which part of a picture is used, and at what size, in whole pixels, rounded as each source rounds them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from skipway.data.pictures import MAX_PIXELS
from skipway.data.resizing import PILLOW, Kernel

# A photo is never 50 times as long as wide. A file of 60,000 x 1 pixels is an attack on the memory.
_LONGEST_STRIP = 50


def trimmed(image: Image.Image, target: int) -> Image.Image:
    """The middle of a picture that is a long strip; any other picture as it is.

    Arguments:
        image: the picture.
        target: the pixels to which its short side will be scaled. The whole of a long strip would fill the memory.
    """
    largest_ratio = min(_LONGEST_STRIP, MAX_PIXELS // target**2)
    largest_ratio = max(largest_ratio, 2)
    longest = largest_ratio * min(image.size)
    width = min(image.width, longest)
    height = min(image.height, longest)
    if (width, height) == image.size:
        return image
    left = (image.width - width) // 2
    top = (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def central_part(image: Image.Image, share: float) -> Image.Image:
    """The centre of a picture, at least `share` of each side, as `tf.image.central_crop` cuts it.

    The same whole number of pixels is cut from opposite sides.
    """
    if share == 1:
        return image
    width, height = image.size
    left = int((width - width * share) / 2)
    top = int((height - height * share) / 2)
    return image.crop((left, top, width - left, height - top))


def short_side_scaled(size: tuple[int, int], target: int, kernel: Kernel) -> tuple[int, int]:
    """Width and height of a picture once its shorter side has `target` pixels.

    The longer side is rounded down, as by torchvision's Resize. With TensorFlow's kernel it is rounded to the nearest
    whole number, in fp32, as by `_smallest_size_at_least` in TF-Slim's vgg_preprocessing.py.
    """
    short = min(size)
    width, height = size
    if kernel == "tf1_bilinear":
        scale = np.float32(target) / np.float32(short)
        width = int(np.rint(np.float32(width) * scale))
        height = int(np.rint(np.float32(height) * scale))
    else:
        width = int(target * width / short)
        height = int(target * height / short)
    return max(width, target), max(height, target)


def central_corner(size: tuple[int, int], cut: int, kernel: Kernel) -> tuple[int, int]:
    """Left and top of the central square of `cut` pixels a side.

    Where the rest of a side is odd, torchvision's CenterCrop (Pillow's kernels) rounds its half to the even number,
    while TF-Slim and Caffe round it down.
    """
    width, height = size
    if kernel in PILLOW:
        left = round((width - cut) / 2)
        top = round((height - cut) / 2)
    else:
        left = (width - cut) // 2
        top = (height - cut) // 2
    return left, top
