"""The conventions by which the sources of networks prepare pictures, for any size that a network takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """How one source prepares pictures."""

    # From the pixels that are cut out to those that a picture is resized to.
    resize_to: Callable[[int], int]
    # The other fields of `Preprocessing` that differ from their defaults.
    fields: dict[str, Any] = field(default_factory=dict)


def _in_proportion(cut: int, whole: int) -> Callable[[int], int]:
    """Pictures are resized to `whole` pixels where `cut` pixels are cut out, and other sizes in proportion."""
    return lambda size: round(size * whole / cut)


def _by_share(cut: float) -> Callable[[int], int]:
    """Pictures are resized so that this share of a side is cut out, rounded down as by timm (transforms_factory.py)."""
    return lambda size: math.floor(size / cut)


_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_SYMMETRIC = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # takes values of 0-1 to [-1, 1]
_WHOLE = _in_proportion(1, 1)

PRESETS = {
    # Counts scaled to 0-1 and nothing else: the MNIST code.
    "unit": Preset(_WHOLE),
    # Counts as they are: some Keras networks leave even the scaling to their first normalization.
    "counts": Preset(_WHOLE, {"scale": 1.0}),
    # deeplearning.ai's hand signs: arrays of 64 x 64 pixels over 255. Other pictures are squashed, as by Keras's
    # load_img with a target_size, but not by its default, the nearest pixels: the arrays had been scaled smoothly.
    "signs": Preset(_WHOLE, {"resize": "squash"}),
    # torchvision's ImageNet models: 224 from a short side of 256.
    "torch": Preset(_in_proportion(224, 256), {**_IMAGENET}),
    # Mean and deviation of the 50,000 training pictures of CIFAR-10.
    "cifar": Preset(_WHOLE, {"scale": 1.0, "mean": (125.307, 122.950, 113.865), "std": (62.993, 62.089, 66.705)}),
    # The mean alone is subtracted, from counts (Krizhevsky et al. 2012, section 2; there of each pixel, here of each
    # channel).
    "cifar_mean": Preset(_WHOLE, {"scale": 1.0, "mean": (125.307, 122.950, 113.865), "std": (1.0, 1.0, 1.0)}),
    # CIFAR networks that were trained with ImageNet's statistics (akamaster/pytorch_resnet_cifar10).
    "imagenet_statistics": Preset(_WHOLE, {**_IMAGENET}),
    # BVLC reference models: squashed to 256 by convert_imageset, that is cv::resize; central 227; BGR counts minus the
    # mean pixel of ILSVRC 2012.
    "caffe": Preset(
        _in_proportion(227, 256),
        {
            "resize": "squash",
            "kernel": "opencv_bilinear",
            "channels": "BGR",
            "scale": 1.0,
            "mean": (104.00699, 116.66877, 122.67892),
        },
    ),
    # He et al.'s Caffe models: 224 from a short side of 256, by code of their own; BGR counts minus the mean of their
    # training pictures, of which ResNet_mean.binaryproto has every pixel.
    "caffe_resnet": Preset(
        _in_proportion(224, 256), {"channels": "BGR", "scale": 1.0, "mean": (103.0626, 115.9029, 123.1516)}
    ),
    # Keras applications: load_img with a target_size, as in their documentation, squashes a picture and by default
    # takes the nearest pixels; preprocess_input in mode "caffe" gives BGR counts minus a mean ...
    "keras_caffe": Preset(
        _WHOLE,
        {
            "resize": "squash",
            "kernel": "nearest",
            "channels": "BGR",
            "scale": 1.0,
            "mean": (103.939, 116.779, 123.68),
        },
    ),
    # ... and in mode "tf" values in [-1, 1].
    "keras_tf": Preset(_WHOLE, {"resize": "squash", "kernel": "nearest", **_SYMMETRIC}),
    # timm's configuration of resnetv2_50 and deeper, and of 18 and 34: central 95 or 90 %, values in [-1, 1].
    "timm_95": Preset(_by_share(0.95), {"kernel": "bicubic", **_SYMMETRIC}),
    "timm_90": Preset(_by_share(0.9), {"kernel": "bicubic", **_SYMMETRIC}),
    # TF-Slim's vgg_preprocessing: 224 from a short side of 256, RGB counts minus a mean.
    "slim_v1": Preset(
        _in_proportion(224, 256), {"kernel": "tf1_bilinear", "scale": 1.0, "mean": (123.68, 116.78, 103.94)}
    ),
    # TF-Slim's inception_preprocessing: the central 87.5 % squashed, values in [-1, 1].
    "slim_v2": Preset(_WHOLE, {"resize": "squash", "kernel": "tf1_bilinear", "central": 0.875, **_SYMMETRIC}),
}
