"""Which part of a picture counts, and at what size: whole pixels, rounded as each source rounds them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from skipway.data.pictures import MAX_PIXELS
from skipway.data.resizing import PILLOW, Kernel

# No photo is 50 times as long as wide; a file of 60,000 x 1 pixels is an attack on the memory.
_LONGEST_STRIP = 50


def trimmed(image: Image.Image, target: int) -> Image.Image:
    """The middle of a picture that is a mere strip: its short side scaled to `target` pixels, all of it would fill the
    memory."""
    longest = max(min(_LONGEST_STRIP, MAX_PIXELS // target**2), 2) * min(image.size)
    width, height = (min(side, longest) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def central_part(image: Image.Image, share: float) -> Image.Image:
    """What is left when the same whole number of pixels is cut from opposite sides, so that at least `share` of each
    side stays: `tf.image.central_crop`."""
    if share == 1:
        return image
    width, height = image.size
    left, top = (int((side - side * share) / 2) for side in image.size)
    return image.crop((left, top, width - left, height - top))


def short_side_scaled(size: tuple[int, int], target: int, kernel: Kernel) -> tuple[int, int]:
    """Width and height once the shorter of them has `target` pixels.

    The longer side is rounded down as by torchvision's Resize; with TensorFlow's kernel to the nearest, in fp32, as by
    TF-Slim's vgg_preprocessing, `_smallest_size_at_least`.
    """
    short = min(size)
    if kernel == "tf1_bilinear":
        scale = np.float32(target) / np.float32(short)
        width, height = (int(np.rint(np.float32(side) * scale)) for side in size)
    else:
        width, height = (int(target * side / short) for side in size)
    return max(width, target), max(height, target)


def central_corner(size: tuple[int, int], cut: int, kernel: Kernel) -> tuple[int, int]:
    """Left and top of the central square of `cut` pixels a side.

    Where as much cannot be left on both sides, torchvision's CenterCrop (Pillow's kernels) rounds to the even number,
    TF-Slim and Caffe round down.
    """
    left, top = (round((side - cut) / 2) if kernel in PILLOW else (side - cut) // 2 for side in size)
    return left, top
