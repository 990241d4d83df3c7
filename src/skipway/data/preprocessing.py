"""Picture -> tensor: one frozen value, the same for training, evaluation, prediction and export."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skipway.data.geometry import central_corner, central_part, short_side_scaled, trimmed
from skipway.data.mean_image import MeanImage, shape_text
from skipway.data.pictures import flattened, upright
from skipway.data.resizing import FLOATING, Kernel, resized
from skipway.errors import DataError, SkipwayError, UnknownNameError
from skipway.reporting import counted
from skipway.values import from_plain

Picture = Image.Image | np.ndarray

# Wider than any pictures' own scale, mean and deviation; all that is made of them stays within fp32.
_SMALLEST, _LARGEST = 1e-8, 1e8
_SMALLEST_SHARE = 0.01  # of a side; a smaller one would leave no pixel


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Geometry: the `central` share of both sides is kept; `resize` scales the `short_side` to `resize_to` pixels, or
    squashes both sides to it, by a `kernel` (`data.resizing`); then the central `size` x `size` is cut out. Fractions
    of pixels are rounded as the kernel's library does.

    Values: channels in the stated order ("L" is grey), counts 0-255 times `scale`, minus `mean`, over `std`. A
    `mean_image` is subtracted in place of `mean`, which then is only its average: one of `size` as it is, one of the
    squashed picture where the picture is cut, as Caffe's data layer does. Where training cuts at random, Caffe moves
    the mean image along; here its centre is subtracted wherever the cut lies.
    """

    size: int
    resize: Literal["short_side", "squash"] = "short_side"
    resize_to: int = 0
    kernel: Kernel = "bilinear"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    central: float = 1.0
    mean_image: MeanImage | None = None

    def __post_init__(self) -> None:
        if self.resize_to == 0:
            object.__setattr__(self, "resize_to", self.size)
        if not 1 <= self.size <= self.resize_to <= 16_384:
            raise SkipwayError(
                f"preprocessing cuts {self.size} pixels from {self.resize_to}; give 1 <= size <= resize_to <= 16384"
            )
        if len(self.mean) != self.depth or len(self.std) != self.depth or 0.0 in self.std:
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
        for name, values in (("scale", (self.scale,)), ("deviation", self.std)):
            for value in values:
                if not _SMALLEST <= abs(value) <= _LARGEST:
                    raise SkipwayError(
                        f"preprocessing has a {name} of {value}; give one between {_SMALLEST} and {_LARGEST}"
                    )
        for value in self.mean:
            if not abs(value) <= _LARGEST:  # NaN, too, is refused
                raise SkipwayError(f"preprocessing has a mean of {value}; give one below {_LARGEST}")

    @property
    def depth(self) -> int:
        """Number of channels."""
        return 1 if self.channels == "L" else 3

    @property
    def floating(self) -> bool:
        """Whether pixels keep the fractions of counts, float32, as TensorFlow's kernel leaves them; else uint8."""
        return self.kernel in FLOATING

    def pixels(self, picture: Picture) -> Tensor:
        """A picture as counts (C, size, size), channels still in RGB order: uint8, or float32 if `floating`.

        A uint8 array (H, W) or (H, W, 1 or 3) counts as a picture.
        """
        if isinstance(picture, np.ndarray):
            _check_array(picture)
            if self._fits(picture):  # copied: the caller's array may be read-only, or change later
                whole = to_tensor(_with_axis(picture))
                return whole.float() if self.floating else whole
        image = central_part(self.coloured(picture), self.central)
        if self.resize == "short_side":
            image = trimmed(image, self.resize_to)
        size = self.scaled(image.size, self.resize_to)
        left, top = central_corner(size, self.size, self.kernel)
        counts = resized(image, size, self.kernel)
        return to_tensor(counts[top : top + self.size, left : left + self.size])

    def pixels_of(self, array: np.ndarray) -> Tensor | None:
        """Many uint8 pictures of the right size at once, (N, H, W[, C]) -> (N, C, H, W); None if they need resizing."""
        if not self._fits(array[0]):
            return None
        whole = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
        pixels = torch.from_numpy(np.ascontiguousarray(whole))
        return pixels.float() if self.floating else pixels

    def standardized(self, counts: Tensor) -> Tensor:
        """Counts 0-255 (N, C, H, W), uint8 or floating, as the network's fp32 input, on the same device."""
        factor, offset = _on_gpu(self, counts.device) if counts.is_cuda else self._affine(counts.device)
        if self.channels == "BGR":
            counts = counts.flip(1)
        # Bytes become floats within the multiplication: one pass over the memory less.
        return (counts if counts.dtype == torch.uint8 else counts.float()) * factor + offset

    def _affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Factor (C, 1, 1) and offset, (C, 1, 1) or with a mean image (C, size, size), of each count:
        (count * scale - mean) / std in one multiplication and sum."""
        factor = torch.tensor([self.scale / one for one in self.std], dtype=torch.float32)[:, None, None]
        if self.mean_image is None:
            means = zip(self.mean, self.std, strict=True)
            offset = torch.tensor([-mean / one for mean, one in means], dtype=torch.float32)[:, None, None]
        else:
            height, width = self.mean_image.shape[1:]
            left, top = central_corner((width, height), self.size, self.kernel)
            centre = self.mean_image.values[:, top : top + self.size, left : left + self.size]
            offset = -centre / torch.tensor(self.std, dtype=torch.float32)[:, None, None]
        return factor.to(device), offset.to(device)

    def tensor(self, picture: Picture) -> Tensor:
        """One picture as the network's input (1, C, size, size)."""
        return self.standardized(self.pixels(picture)[None])

    def coloured(self, picture: Picture) -> Image.Image:
        """The picture in the mode that the network looks at, L or RGB. A Pillow image may come in any mode, or lie on
        its side by its EXIF: it gives what `open_picture` gives for its file."""
        if isinstance(picture, Image.Image) and 0 in picture.size:
            raise DataError(f"a picture is {picture.width} x {picture.height} pixels; give one that has any")
        image = upright(picture) if isinstance(picture, Image.Image) else Image.fromarray(_squeezed(picture))
        mode = "L" if self.channels == "L" else "RGB"
        if image.mode not in {"L", "RGB"} or image.has_transparency_data:
            image = flattened(image)
        return image if image.mode == mode else image.convert(mode)

    def scaled(self, size: tuple[int, int], target: int) -> tuple[int, int]:
        """Width and height of a picture of `size` once the resize rule has brought it to `target` pixels."""
        return (target, target) if self.resize == "squash" else short_side_scaled(size, target, self.kernel)

    def check_mean_image(self, shape: tuple[int, ...]) -> None:
        """Raises SkipwayError unless a mean image of this shape (C, H, W) covers the pictures."""
        sides = {self.size, self.resize_to} if self.resize == "squash" else {self.size}
        if shape not in {(self.depth, side, side) for side in sides}:
            wanted = " or ".join(shape_text((self.depth, side, side)) for side in sorted(sides))
            raise SkipwayError(
                f"the mean image has {shape_text(shape)}, pictures have {wanted}; give the mean of such pictures, or "
                "one pixel, its average over the picture"
            )

    def of_size(self, size: int) -> Preprocessing:
        """The same preparation for pictures of another size in pixels, cut from a resized one in proportion. Raises
        SkipwayError where a mean image would have to be resized."""
        if size == self.size:
            return self
        if self.mean_image is not None:
            raise SkipwayError(
                f"the model subtracts a mean image of {self.size} pixels, which does not fit {size}; leave out "
                "--image-size"
            )
        return replace(self, size=size, resize_to=round(self.resize_to * size / self.size))

    @property
    def mean_values(self) -> Tensor | None:
        """The mean image's counts (C, H, W), which go beside `to_dict` into a file."""
        return None if self.mean_image is None else self.mean_image.values

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the mean image's."""
        return {key: value for key, value in asdict(replace(self, mean_image=None)).items() if key != "mean_image"}

    @classmethod
    def from_dict(cls, plain: Any, mean_image: Tensor | None = None, where: str = "preprocessing") -> Preprocessing:
        """The inverse of `to_dict`, with the values of the mean image (C, H, W). Raises SkipwayError."""
        if mean_image is not None and isinstance(plain, Mapping):
            plain = {**plain, "mean_image": MeanImage(mean_image)}
        return from_plain(cls, plain, where)

    def _fits(self, picture: np.ndarray) -> bool:
        depth = 1 if picture.ndim == 2 else picture.shape[2]
        untouched = self.resize_to == self.size and self.central == 1
        return depth == self.depth and picture.shape[:2] == (self.size, self.size) and untouched


@cache
def _on_gpu(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept: copied from the host at every step they would stall a GPU."""
    with torch.inference_mode(mode=False):
        return preprocessing._affine(device)


def to_tensor(counts: np.ndarray) -> Tensor:
    """Counts (H, W, C) as a tensor (C, H, W) of its own memory."""
    return torch.from_numpy(np.array(counts.transpose(2, 0, 1), order="C"))


def _check_array(array: np.ndarray) -> None:
    if array.dtype != np.uint8:
        raise DataError(f"a picture is an array of {array.dtype}; give uint8 counts from 0 to 255")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)) or 0 in array.shape:
        raise DataError(f"a picture is an array of shape {array.shape}; give (H, W) or (H, W, 1 or 3)")


def _with_axis(array: np.ndarray) -> np.ndarray:
    return array[:, :, None] if array.ndim == 2 else array


def _squeezed(array: np.ndarray) -> np.ndarray:
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _of(cut: int, whole: int) -> Callable[[int], int]:
    """Pictures resized to `whole` where `cut` pixels are cut out, and other sizes in proportion."""
    return lambda size: round(size * whole / cut)


def _share(cut: float) -> Callable[[int], int]:
    """Pictures resized so that `cut` of a side is cut out, rounded down as by timm (transforms_factory.py)."""
    return lambda size: math.floor(size / cut)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)  # mean and deviation that take values of 0-1 to [-1, 1]
_WHOLE = _of(1, 1)

# Conventions of the sources for pictures of a size that the network chooses: what they are resized to, and the rest.
_PRESETS: dict[str, tuple[Callable[[int], int], Preprocessing]] = {
    # Counts scaled to 0-1 and nothing else: the MNIST code.
    "unit": (_WHOLE, Preprocessing(1)),
    # Counts as they are: some Keras networks leave even the scaling to their first normalization.
    "counts": (_WHOLE, Preprocessing(1, scale=1.0)),
    # deeplearning.ai's hand signs: arrays of 64 x 64 pixels over 255. Other pictures are squashed, as by Keras's
    # load_img with a target_size, but not by the nearest pixels, its default: the arrays had been scaled smoothly.
    "signs": (_WHOLE, Preprocessing(1, resize="squash")),
    # torchvision's ImageNet models: 224 from a short side of 256.
    "torch": (_of(224, 256), Preprocessing(1, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)),
    # Mean and deviation of the 50,000 training pictures of CIFAR-10.
    "cifar": (
        _WHOLE,
        Preprocessing(1, scale=1.0, mean=(125.307, 122.950, 113.865), std=(62.993, 62.089, 66.705)),
    ),
    # The mean alone is subtracted, from counts (Krizhevsky et al. 2012, section 2; there of each pixel, here of each
    # channel).
    "cifar_mean": (_WHOLE, Preprocessing(1, scale=1.0, mean=(125.307, 122.950, 113.865), std=(1.0, 1.0, 1.0))),
    # CIFAR networks that were trained with ImageNet's statistics (akamaster/pytorch_resnet_cifar10).
    "imagenet_statistics": (_WHOLE, Preprocessing(1, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)),
    # BVLC reference models: squashed to 256 by convert_imageset, that is cv::resize; central 227; BGR counts minus the
    # mean pixel of ILSVRC 2012.
    "caffe": (
        _of(227, 256),
        Preprocessing(
            1,
            resize="squash",
            kernel="opencv_bilinear",
            channels="BGR",
            scale=1.0,
            mean=(104.00699, 116.66877, 122.67892),
        ),
    ),
    # He et al.'s Caffe models: 224 from a short side of 256, by code of their own; BGR counts minus the mean of their
    # training pictures, of which ResNet_mean.binaryproto has every pixel.
    "caffe_resnet": (
        _of(224, 256),
        Preprocessing(1, channels="BGR", scale=1.0, mean=(103.0626, 115.9029, 123.1516)),
    ),
    # Keras applications: load_img with a target_size, as their documentation has it, squashes a picture and by default
    # takes the nearest pixels; preprocess_input in mode "caffe" gives BGR counts minus a mean ...
    "keras_caffe": (
        _WHOLE,
        Preprocessing(1, resize="squash", kernel="nearest", channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68)),
    ),
    # ... and in mode "tf" values in [-1, 1].
    "keras_tf": (_WHOLE, Preprocessing(1, resize="squash", kernel="nearest", mean=_HALF, std=_HALF)),
    # timm's configuration of resnetv2_50 and deeper, and of 18 and 34: central 95 or 90 %, values in [-1, 1].
    "timm_95": (_share(0.95), Preprocessing(1, kernel="bicubic", mean=_HALF, std=_HALF)),
    "timm_90": (_share(0.9), Preprocessing(1, kernel="bicubic", mean=_HALF, std=_HALF)),
    # TF-Slim's vgg_preprocessing: 224 from a short side of 256, RGB counts minus a mean.
    "slim_v1": (_of(224, 256), Preprocessing(1, kernel="tf1_bilinear", scale=1.0, mean=(123.68, 116.78, 103.94))),
    # TF-Slim's inception_preprocessing: the central 87.5 % squashed, values in [-1, 1].
    "slim_v2": (
        _WHOLE,
        Preprocessing(1, resize="squash", kernel="tf1_bilinear", mean=_HALF, std=_HALF, central=0.875),
    ),
}


def preset(name: str, size: int, *, grey: bool = False) -> Preprocessing:
    """The named convention for pictures of `size` pixels a side. Raises UnknownNameError."""
    if name not in _PRESETS:
        raise UnknownNameError("preprocessing", name, sorted(_PRESETS))
    resize_to, base = _PRESETS[name]
    changes: dict[str, object] = {"size": size, "resize_to": resize_to(size)}
    if grey:
        changes |= {
            "channels": "L",
            "mean": (sum(base.mean) / 3,),
            "std": (sum(base.std) / 3,),
        }
    return replace(base, **changes)  # type: ignore[arg-type]


def picture_values(rule: Preprocessing) -> dict[str, Any]:
    """How a network must be given pictures, as plain values for JSON."""
    return {
        "size": rule.size,
        "channels": rule.channels,
        "scale": rule.scale,
        "mean": list(rule.mean),
        "std": list(rule.std),
    }


def rule_text(rule: Preprocessing) -> str:
    """What becomes of a picture's counts, in words."""
    mean = rule.mean if rule.mean_image is None else "a mean image"
    return f"{rule.channels}, counts times {rule.scale:.4g}, minus {mean}, over {rule.std}"
