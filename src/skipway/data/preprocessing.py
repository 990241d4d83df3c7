"""How a picture becomes a tensor: a frozen value, the same for training, evaluation, prediction and export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skipway.data.geometry import central_corner, central_part, short_side_scaled, trimmed
from skipway.data.mean_image import MeanImage, shape_text
from skipway.data.picture_arrays import check_picture_array, to_tensor, with_channels, without_single_channel
from skipway.data.pictures import flattened, upright
from skipway.data.presets import PRESETS
from skipway.data.resizing import FLOATING, Kernel, resized
from skipway.errors import DataError, SkipwayError, UnknownNameError
from skipway.reporting import counted
from skipway.values import from_plain

Picture = Image.Image | np.ndarray

# Wider than the scale, mean and deviation of any pictures. All results within these limits fit into fp32.
_SMALLEST, _LARGEST = 1e-8, 1e8
_SMALLEST_SHARE = 0.01  # of a side; a smaller one would leave no pixel
_LARGEST_SIDE = 16_384  # pixels


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Geometry: the `central` share of both sides is kept. `resize` scales the `short_side` to `resize_to` pixels, or
    squashes both sides to it, with a `kernel` (`data.resizing`). Then the central `size` x `size` pixels are cut out.
    Fractions of pixels are rounded as the kernel's library rounds them.

    Values: channels in the stated order ("L" is grey), counts 0-255 times `scale`, minus `mean`, over `std`. A
    `mean_image` is subtracted in place of `mean`, which then is only its average. It has `size` pixels a side, or
    `resize_to` pixels for squashed pictures. Then its centre is cut out as the picture's is, as Caffe's data layer does
    it. Where training cuts at random, Caffe cuts the mean image at the same place; here it always is the centre.
    """

    size: int  # pixels a side of the network's input
    resize: Literal["short_side", "squash"] = "short_side"
    resize_to: int = 0  # pixels; 0 becomes `size`
    kernel: Kernel = "bilinear"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # of each channel
    std: tuple[float, ...] = (1.0, 1.0, 1.0)  # of each channel
    central: float = 1.0  # a share, up to 1
    mean_image: MeanImage | None = None

    def __post_init__(self) -> None:
        """Check the fields. Raises SkipwayError."""
        if self.resize_to == 0:
            object.__setattr__(self, "resize_to", self.size)
        if not 1 <= self.size <= self.resize_to <= _LARGEST_SIDE:
            raise SkipwayError(
                f"preprocessing cuts {self.size} pixels from {self.resize_to}; give 1 <= size <= resize_to <= "
                f"{_LARGEST_SIDE}"
            )
        is_for_each_channel = len(self.mean) == self.depth and len(self.std) == self.depth
        if not is_for_each_channel or 0.0 in self.std:
            raise SkipwayError(
                f"preprocessing needs {counted(self.depth, 'mean')} and as many deviations other than 0; give one a "
                "channel"
            )
        self._check_values()
        if not _SMALLEST_SHARE <= self.central <= 1:
            raise SkipwayError(
                f"preprocessing keeps {self.central} of a picture's sides; give a share from {_SMALLEST_SHARE} to 1"
            )
        if self.mean_image is not None:
            self.check_mean_image(self.mean_image.shape)

    def _check_values(self) -> None:
        """Raises SkipwayError for numbers that no pictures have, and whose products would overflow."""
        factors = [("scale", self.scale)]
        factors += [("deviation", deviation) for deviation in self.std]
        for name, value in factors:
            if not _SMALLEST <= abs(value) <= _LARGEST:
                raise SkipwayError(
                    f"preprocessing has a {name} of {value}; give one between {_SMALLEST} and {_LARGEST}"
                )
        for value in self.mean:
            is_in_range = abs(value) <= _LARGEST  # false for NaN, too
            if not is_in_range:
                raise SkipwayError(f"preprocessing has a mean of {value}; give one below {_LARGEST}")

    @property
    def depth(self) -> int:
        """The number of channels."""
        if self.channels == "L":
            return 1
        return 3

    @property
    def floating(self) -> bool:
        """Whether pixels are float32 with fractions of counts, as TensorFlow's kernel leaves them; else uint8."""
        return self.kernel in FLOATING

    def pixels(self, picture: Picture) -> Tensor:
        """A picture as counts (C, size, size), channels still in RGB order: uint8, or float32 if `floating`.

        Arguments:
            picture: a Pillow image of any mode, or a uint8 array (H, W) or (H, W, 1 or 3).

        Raises DataError for any other array and for a picture without pixels.
        """
        if isinstance(picture, np.ndarray):
            check_picture_array(picture)
            if self._fits(picture):
                return self._typed(to_tensor(with_channels(picture)))
        image = central_part(self.coloured(picture), self.central)
        if self.resize == "short_side":
            image = trimmed(image, self.resize_to)
        size = self.scaled(image.size, self.resize_to)
        left, top = central_corner(size, self.size, self.kernel)
        counts = resized(image, size, self.kernel)
        return to_tensor(counts[top : top + self.size, left : left + self.size])

    def pixels_of(self, array: np.ndarray) -> Tensor | None:
        """Many pictures of the network's size as counts (N, C, H, W); None if they need resizing.

        Arguments:
            array: uint8 (N, H, W) or (N, H, W, C).
        """
        if not self._fits(array[0]):
            return None
        if array.ndim == 3:
            whole = array[:, None]
        else:
            whole = array.transpose(0, 3, 1, 2)
        pixels = torch.from_numpy(np.ascontiguousarray(whole))
        return self._typed(pixels)

    def _typed(self, pixels: Tensor) -> Tensor:
        """Counts as float32 if `floating`, else as they are."""
        if self.floating:
            return pixels.float()
        return pixels

    def standardized(self, counts: Tensor) -> Tensor:
        """The network's fp32 input (N, C, H, W) on the same device.

        Arguments:
            counts: 0-255, (N, C, H, W), channels in RGB order, uint8 or floating.
        """
        if counts.is_cuda:
            factor, offset = _affine_on_gpu(self, counts.device)
        else:
            factor, offset = self._affine(counts.device)
        if self.channels == "BGR":
            counts = counts.flip(1)
        # The multiplication turns bytes into floats itself, which reads the memory once less.
        if counts.dtype != torch.uint8:
            counts = counts.float()
        return counts * factor + offset

    def _affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The factor (C, 1, 1) and the offset with which (count * scale - mean) / std is count * factor + offset.

        The offset is (C, 1, 1), or (C, size, size) with a mean image.
        """
        factors = [self.scale / deviation for deviation in self.std]
        factor = _of_channels(factors)
        if self.mean_image is None:
            offsets = [-mean / deviation for mean, deviation in zip(self.mean, self.std, strict=True)]
            offset = _of_channels(offsets)
        else:
            height, width = self.mean_image.shape[1:]
            left, top = central_corner((width, height), self.size, self.kernel)
            centre = self.mean_image.values[:, top : top + self.size, left : left + self.size]
            offset = -centre / _of_channels(self.std)
        return factor.to(device), offset.to(device)

    def tensor(self, picture: Picture) -> Tensor:
        """The network's input (1, C, size, size) for a single picture."""
        counts = self.pixels(picture)
        return self.standardized(counts[None])

    def coloured(self, picture: Picture) -> Image.Image:
        """A picture in mode L where the network takes grey pictures, else in mode RGB.

        A Pillow image may have any mode, or an EXIF rotation: it gives what `open_picture` gives for its file. Raises
        DataError for one without pixels.
        """
        if isinstance(picture, Image.Image):
            if 0 in picture.size:
                raise DataError(f"a picture is {picture.width} x {picture.height} pixels; give one that has any")
            image = upright(picture)
        else:
            image = Image.fromarray(without_single_channel(picture))
        if image.mode not in {"L", "RGB"} or image.has_transparency_data:
            image = flattened(image)
        mode = "L" if self.channels == "L" else "RGB"
        if image.mode == mode:
            return image
        return image.convert(mode)

    def scaled(self, size: tuple[int, int], target: int) -> tuple[int, int]:
        """Width and height of a picture of `size` after the resize rule has brought it to `target` pixels."""
        if self.resize == "squash":
            return target, target
        return short_side_scaled(size, target, self.kernel)

    def check_mean_image(self, shape: tuple[int, ...]) -> None:
        """Raises SkipwayError unless a mean image of this shape (C, H, W) fits the pictures."""
        sides = {self.size}
        if self.resize == "squash":
            sides.add(self.resize_to)
        allowed = [(self.depth, side, side) for side in sorted(sides)]
        if shape not in allowed:
            wanted = " or ".join(shape_text(allowed_shape) for allowed_shape in allowed)
            raise SkipwayError(
                f"the mean image has {shape_text(shape)}, pictures have {wanted}; give the mean of such pictures, or "
                "one pixel, its average over the picture"
            )

    def of_size(self, size: int) -> Preprocessing:
        """The same for pictures of another size in pixels, cut from a resized picture in proportion.

        Raises SkipwayError where a mean image would have to be resized.
        """
        if size == self.size:
            return self
        if self.mean_image is not None:
            raise SkipwayError(
                f"the model subtracts a mean image of {self.size} pixels, which does not fit {size}; leave out "
                "--image-size"
            )
        resize_to = round(self.resize_to * size / self.size)
        return replace(self, size=size, resize_to=resize_to)

    @property
    def mean_values(self) -> Tensor | None:
        """The counts of the mean image (C, H, W), which a file holds beside `to_dict`; None where there is none."""
        if self.mean_image is None:
            return None
        return self.mean_image.values

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without those of the mean image."""
        values = asdict(replace(self, mean_image=None))
        del values["mean_image"]
        return values

    @classmethod
    def from_dict(cls, plain: Any, mean_image: Tensor | None = None, where: str = "preprocessing") -> Preprocessing:
        """The inverse of `to_dict`.

        Arguments:
            plain: what `to_dict` gave.
            mean_image: the counts of the mean image (C, H, W), if there is one.
            where: the start of the error messages.

        Raises SkipwayError.
        """
        if mean_image is not None and isinstance(plain, Mapping):
            plain = {**plain, "mean_image": MeanImage(mean_image)}
        return from_plain(cls, plain, where)

    def _fits(self, picture: np.ndarray) -> bool:
        """Whether an array (H, W) or (H, W, C) needs neither resizing nor another number of channels."""
        depth = 1 if picture.ndim == 2 else picture.shape[2]
        if depth != self.depth or picture.shape[:2] != (self.size, self.size):
            return False
        return self.resize_to == self.size and self.central == 1


@cache
def _affine_on_gpu(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """As `Preprocessing._affine`, kept: a copy from the host at every step would make a GPU wait."""
    with torch.inference_mode(mode=False):
        return preprocessing._affine(device)


def _of_channels(values: tuple[float, ...] | list[float]) -> Tensor:
    """A value for each channel, float32 (C, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def preset(name: str, size: int, *, grey: bool = False) -> Preprocessing:
    """A named convention (`data.presets`) for pictures of `size` pixels a side.

    With `grey`, mean and deviation are the averages of those of the channels. Raises UnknownNameError.
    """
    if name not in PRESETS:
        raise UnknownNameError("preprocessing", name, sorted(PRESETS))
    found = PRESETS[name]
    rule = Preprocessing(size, resize_to=found.resize_to(size), **found.fields)
    if not grey:
        return rule
    mean = sum(rule.mean) / 3
    deviation = sum(rule.std) / 3
    return replace(rule, channels="L", mean=(mean,), std=(deviation,))


def picture_values(rule: Preprocessing) -> dict[str, Any]:
    """What a network's input must be like, as plain values for JSON."""
    return {
        "size": rule.size,
        "channels": rule.channels,
        "scale": rule.scale,
        "mean": list(rule.mean),
        "std": list(rule.std),
    }


def rule_text(rule: Preprocessing) -> str:
    """What becomes of a picture's counts, in words."""
    mean = "a mean image"
    if rule.mean_image is None:
        mean = str(rule.mean)
    return f"{rule.channels}, counts times {rule.scale:.4g}, minus {mean}, over {rule.std}"
