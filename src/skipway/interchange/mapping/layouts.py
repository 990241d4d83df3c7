"""How an array lies in its source, and the way there and back. Every layout is undone exactly, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Layout = Literal["same", "hwio", "io", "pixel_io", "pixel", "hwc_io"]


@dataclass(frozen=True)
class Place:
    """Where one of our tensors lies: the source's name for it, and its layout there.

    `same`: as ours. `hwio`: a convolution's (H, W, in, out), TensorFlow and Keras. `io`: a linear layer's (in, out).
    `pixel_io`: a linear layer kept as a 1x1 convolution (1, 1, in, out), TF-Slim. `pixel`: the same as (out, in, 1, 1),
    timm. `hwc_io`: a linear layer's (in, out) behind a map that the source flattens as (H, W, C) and we as (C, H, W);
    `map_shape` is our (C, H, W). `optional`: sources may lack it (a batch counter). `divisor` names a stored factor
    that the array was multiplied by (third blob of Caffe's BatchNorm).
    """

    source: str
    layout: Layout = "same"
    map_shape: tuple[int, int, int] = (0, 0, 0)
    optional: bool = False
    divisor: str = ""


def to_ours(array: np.ndarray, place: Place) -> np.ndarray:
    """The source's array in our layout; shapes are checked by who knows ours."""
    match place.layout:
        case "hwio":
            return array.transpose(3, 2, 0, 1)
        case "io":
            return array.transpose(1, 0)
        case "pixel_io":
            return array[0, 0].transpose(1, 0)
        case "pixel":
            return array[:, :, 0, 0]
        case "hwc_io":
            channels, height, width = place.map_shape
            return array.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
    return array


def to_source(array: np.ndarray, place: Place) -> np.ndarray:
    """Our array in the source's layout: the inverse of `to_ours`."""
    match place.layout:
        case "hwio":
            return array.transpose(2, 3, 1, 0)
        case "io":
            return array.transpose(1, 0)
        case "pixel_io":
            return array.transpose(1, 0)[None, None]
        case "pixel":
            return array[:, :, None, None]
        case "hwc_io":
            channels, height, width = place.map_shape
            return array.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(array.shape[1], -1)
    return array


def source_shape(shape: tuple[int, ...], place: Place) -> tuple[int, ...]:
    """Shape that one of our tensors has in the source."""
    match place.layout:
        case "hwio":
            return (shape[2], shape[3], shape[1], shape[0])
        case "io" | "hwc_io":
            return (shape[1], shape[0])
        case "pixel_io":
            return (1, 1, shape[1], shape[0])
        case "pixel":
            return (*shape, 1, 1)
    return shape
