"""How an array lies in its source, and the way there and back. Every layout is undone exactly, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Layout = Literal["same", "hwio", "io", "pixel_io", "pixel", "hwc_io"]


@dataclass(frozen=True)
class Place:
    """Where one of our tensors lies: `source` is its name there, and `layout` its layout.

    - `same`: our own;
    - `hwio`: a convolution's (H, W, in, out), TensorFlow and Keras;
    - `io`: a linear layer's (in, out);
    - `pixel_io`: a linear layer kept as a 1x1 convolution (1, 1, in, out), TF-Slim;
    - `pixel`: a linear layer kept as a 1x1 convolution (out, in, 1, 1), timm;
    - `hwc_io`: a linear layer's (in, out) behind a map that the source flattens as (H, W, C) and we as (C, H, W).

    `map_shape` is our (C, H, W) of the map before `hwc_io`. `optional`: sources may lack the array (a batch counter).
    `divisor` is the name of a stored factor that the array was multiplied by (third blob of Caffe's BatchNorm).
    """

    source: str
    layout: Layout = "same"
    map_shape: tuple[int, int, int] = (0, 0, 0)
    optional: bool = False
    divisor: str = ""


def to_ours(array: np.ndarray, place: Place) -> np.ndarray:
    """The source's array in our layout. The caller compares its shape with our tensor's."""
    match place.layout:
        case "hwio":
            return array.transpose(3, 2, 0, 1)
        case "io":
            return array.transpose(1, 0)
        case "pixel_io":
            matrix = array[0, 0]
            return matrix.transpose(1, 0)
        case "pixel":
            return array[:, :, 0, 0]
        case "hwc_io":
            channels, height, width = place.map_shape
            outputs = array.shape[1]
            maps = array.reshape(height, width, channels, -1)
            ours = maps.transpose(3, 2, 0, 1)
            return ours.reshape(outputs, -1)
    return array


def to_source(array: np.ndarray, place: Place) -> np.ndarray:
    """Our array in the source's layout: the inverse of `to_ours`."""
    match place.layout:
        case "hwio":
            return array.transpose(2, 3, 1, 0)
        case "io":
            return array.transpose(1, 0)
        case "pixel_io":
            matrix = array.transpose(1, 0)
            return matrix[None, None]
        case "pixel":
            return array[:, :, None, None]
        case "hwc_io":
            channels, height, width = place.map_shape
            inputs = array.shape[1]
            maps = array.reshape(-1, channels, height, width)
            theirs = maps.transpose(2, 3, 1, 0)
            return theirs.reshape(inputs, -1)
    return array


def source_shape(shape: tuple[int, ...], place: Place) -> tuple[int, ...]:
    """The shape in the source of a tensor that has this shape in our layout."""
    match place.layout:
        case "hwio":
            outputs, inputs, height, width = shape
            return (height, width, inputs, outputs)
        case "io" | "hwc_io":
            outputs, inputs = shape
            return (inputs, outputs)
        case "pixel_io":
            outputs, inputs = shape
            return (1, 1, inputs, outputs)
        case "pixel":
            return (*shape, 1, 1)
    return shape
