"""Picture -> tensor: one frozen value, the same for training, evaluation, prediction and export."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skipway.data.pictures import flattened, upright
from skipway.errors import DataError, SkipwayError, UnknownNameError

Picture = Image.Image | np.ndarray

KERNELS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}

# No photo is 50 times as long as wide; a file of 60,000 x 1 pixels is an attack on the memory.
_LONGEST_STRIP = 50


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input.

    Geometry: `resize` scales the `short_side` to `resize_to` pixels, or squashes both sides to it; then the central
    `size` x `size` is cut out. `kernel` is Pillow's, always antialiased.

    Values: channels in the stated order ("L" is grey), counts 0-255 times `scale`, minus `mean`, over `std`.
    """

    size: int
    resize: Literal["short_side", "squash"] = "short_side"
    resize_to: int = 0
    kernel: Literal["bilinear", "bicubic", "nearest", "lanczos", "box"] = "bilinear"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.resize_to == 0:
            object.__setattr__(self, "resize_to", self.size)
        if not 1 <= self.size <= self.resize_to <= 16_384:
            raise SkipwayError(
                f"preprocessing cuts {self.size} pixels from {self.resize_to}; give 1 <= size <= resize_to <= 16384"
            )
        if len(self.mean) != self.depth or len(self.std) != self.depth or 0.0 in self.std:
            raise SkipwayError(f"preprocessing needs {self.depth} means and as many deviations other than 0")

    @property
    def depth(self) -> int:
        """Number of channels."""
        return 1 if self.channels == "L" else 3

    def pixels(self, picture: Picture) -> Tensor:
        """A picture as a uint8 tensor (C, size, size), channels still in RGB order.

        A uint8 array (H, W) or (H, W, 1 or 3) counts as a picture.
        """
        if isinstance(picture, np.ndarray):
            _check_array(picture)
            if self._fits(picture):  # copied: the caller's array may be read-only, or change later
                return torch.from_numpy(np.array(_with_axis(picture).transpose(2, 0, 1), order="C"))
        image = self.coloured(picture)
        if self.resize == "short_side":
            image = trimmed(image)
        width, height = self._scaled(image.size)
        if image.size != (width, height):
            image = image.resize((width, height), KERNELS[self.kernel])
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return to_tensor(image.crop((left, top, left + self.size, top + self.size)))

    def pixels_of(self, array: np.ndarray) -> Tensor | None:
        """Many uint8 pictures of the right size at once, (N, H, W[, C]) -> (N, C, H, W); None if they need resizing."""
        if not self._fits(array[0]):
            return None
        whole = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(whole))

    def standardized(self, counts: Tensor) -> Tensor:
        """Counts 0-255 (N, C, H, W), uint8 or floating, as the network's fp32 input, on the same device."""
        factor, offset = _on_gpu(self, counts.device) if counts.is_cuda else self._affine(counts.device)
        if self.channels == "BGR":
            counts = counts.flip(1)
        return counts.float() * factor + offset

    def _affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Factor and offset of each channel, (C, 1, 1): (count * scale - mean) / std in one multiplication and sum."""
        factor = torch.tensor([self.scale / one for one in self.std], dtype=torch.float32)
        offset = torch.tensor([-mean / one for mean, one in zip(self.mean, self.std, strict=True)], dtype=torch.float32)
        return factor[:, None, None].to(device), offset[:, None, None].to(device)

    def tensor(self, picture: Picture) -> Tensor:
        """One picture as the network's input (1, C, size, size)."""
        return self.standardized(self.pixels(picture)[None])

    def coloured(self, picture: Picture) -> Image.Image:
        """The picture in the mode that the network looks at, L or RGB. A Pillow image may come in any mode, or lie on
        its side by its EXIF: it gives what `open_picture` gives for its file."""
        image = upright(picture) if isinstance(picture, Image.Image) else Image.fromarray(_squeezed(picture))
        mode = "L" if self.channels == "L" else "RGB"
        if image.mode not in {"L", "RGB"} or image.has_transparency_data:
            image = flattened(image)
        return image if image.mode == mode else image.convert(mode)

    def _scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.resize == "squash":
            return self.resize_to, self.resize_to
        short = min(size)
        width, height = (max(round(side * self.resize_to / short), self.resize_to) for side in size)
        return width, height

    def _fits(self, picture: np.ndarray) -> bool:
        depth = 1 if picture.ndim == 2 else picture.shape[2]
        return depth == self.depth and picture.shape[:2] == (self.size, self.size) and self.resize_to == self.size


@cache
def _on_gpu(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept: copied from the host at every step they would stall a GPU."""
    with torch.inference_mode(mode=False):
        return preprocessing._affine(device)


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 (C, H, W) of an L or RGB picture."""
    return torch.from_numpy(np.ascontiguousarray(_with_axis(np.array(image)).transpose(2, 0, 1)))


def trimmed(image: Image.Image) -> Image.Image:
    """The middle of a picture that is a mere strip: scaled by its short side, all of it would fill the memory."""
    longest = _LONGEST_STRIP * min(image.size)
    width, height = (min(side, longest) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _check_array(array: np.ndarray) -> None:
    if array.dtype != np.uint8:
        raise DataError(f"a picture is an array of {array.dtype}; give uint8 counts from 0 to 255")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)) or 0 in array.shape:
        raise DataError(f"a picture is an array of shape {array.shape}; give (H, W) or (H, W, 1 or 3)")


def _with_axis(array: np.ndarray) -> np.ndarray:
    return array[:, :, None] if array.ndim == 2 else array


def _squeezed(array: np.ndarray) -> np.ndarray:
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


# Conventions of the sources, for a picture side that the network chooses. `resize_ratio` is resize_to / size.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PRESETS: dict[str, tuple[float, Preprocessing]] = {
    # Counts scaled to 0-1 and nothing else: the MNIST and hand-signs code.
    "unit": (1.0, Preprocessing(1)),
    # Counts as they are: some Keras networks leave even the scaling to their first normalization.
    "counts": (1.0, Preprocessing(1, scale=1.0)),
    # torchvision's ImageNet models: 224 from a short side of 256.
    "torch": (256 / 224, Preprocessing(1, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)),
    # Mean and deviation of the 50,000 training pictures of CIFAR-10.
    "cifar": (
        1.0,
        Preprocessing(1, scale=1.0, mean=(125.307, 122.950, 113.865), std=(62.993, 62.089, 66.705)),
    ),
    # CIFAR networks that were trained with ImageNet's statistics (akamaster/pytorch_resnet_cifar10).
    "imagenet_statistics": (1.0, Preprocessing(1, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)),
    # BVLC reference models: squashed to 256, central 227, BGR counts minus the mean pixel of ILSVRC 2012.
    "caffe": (
        256 / 227,
        Preprocessing(1, resize="squash", channels="BGR", scale=1.0, mean=(104.00699, 116.66877, 122.67892)),
    ),
    # He et al.'s Caffe models: 224 from a short side of 256, BGR counts minus the mean of their training pictures.
    "caffe_resnet": (
        256 / 224,
        Preprocessing(1, channels="BGR", scale=1.0, mean=(103.0626, 115.9029, 123.1516)),
    ),
    # Keras applications, mode "caffe": squashed, BGR counts minus a mean.
    "keras_v1": (
        1.0,
        Preprocessing(1, resize="squash", channels="BGR", scale=1.0, mean=(103.939, 116.779, 123.68)),
    ),
    # Keras applications, mode "tf": squashed, values in [-1, 1].
    "keras_v2": (1.0, Preprocessing(1, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
    # timm's configuration of resnetv2_50 and deeper, and of 18 and 34: central 95 or 90 %, values in [-1, 1].
    "timm_95": (1 / 0.95, Preprocessing(1, kernel="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
    "timm_90": (1 / 0.9, Preprocessing(1, kernel="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
    # TF-Slim's VGG style: RGB counts minus a mean.
    "slim_v1": (256 / 224, Preprocessing(1, scale=1.0, mean=(123.68, 116.78, 103.94))),
    # TF-Slim's inception style: central 87.5 %, values in [-1, 1].
    "slim_v2": (1 / 0.875, Preprocessing(1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))),
}


def preset(name: str, size: int, *, grey: bool = False) -> Preprocessing:
    """The named convention for pictures of `size` pixels a side. Raises UnknownNameError."""
    if name not in _PRESETS:
        raise UnknownNameError("preprocessing", name, sorted(_PRESETS))
    ratio, base = _PRESETS[name]
    changes: dict[str, object] = {"size": size, "resize_to": round(size * ratio)}
    if grey:
        changes |= {
            "channels": "L",
            "mean": (sum(base.mean) / 3,),
            "std": (sum(base.std) / 3,),
        }
    return replace(base, **changes)  # type: ignore[arg-type]
