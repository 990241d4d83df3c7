"""Caffe's AlexNet and the authors' ResNet-50 as OpenCV reads them, with the layers' names of the released files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tests.parity.files.pair import Pair

_CV = "OpenCV 4.11, readNetFromCaffe"
PAIRS = (
    Pair("caffe", "alexnet", f"{_CV}, bvlc_alexnet", "tensorflow", ("net.caffemodel",)),
    Pair("caffe", "resnet_50", f"{_CV}, ResNet-50-deploy", "tensorflow", ("net.caffemodel",)),
)

ALEXNET_MEAN, _RESNET_MEAN = (104.00699, 116.66877, 122.67892), (103.0626, 115.9029, 123.1516)


def write(pair: Pair, photos: list[Path], folder: Path) -> np.ndarray:
    """The caffemodel; returns the logits (N, classes)."""
    import cv2

    from tests.interchange.fixtures.importing.caffe import _lettered
    from tests.parity.caffe_writer import caffemodel, prototxt
    from tests.parity.case import Case
    from tests.parity.references import opencv_caffe

    alexnet = pair.name == "alexnet"
    prepared, mean = (squashed, ALEXNET_MEAN) if alexnet else (scaled, _RESNET_MEAN)
    pictures = np.stack([prepared(photo) for photo in photos]) - np.array(mean, np.float32)
    side = pictures.shape[1]
    net = opencv_caffe._Prototxt((len(photos), 3, side, side))
    case = Case("", "alexnet.caffe" if alexnet else "resnet_v1_50.original", side, full=True)
    ends = (opencv_caffe._alexnet if alexnet else opencv_caffe._resnet)(net, case)
    layers = [_lettered(one, everywhere=True) for one in net.layers]
    if not alexnet:  # a stem that sees counts would drown the statistics that follow
        layers[0] = dataclasses.replace(layers[0], blobs=tuple(blob / np.float32(64) for blob in layers[0].blobs))
    text, model = prototxt(net.shape, layers), caffemodel(layers)
    (folder / pair.files[0]).write_bytes(model)
    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.frombuffer(model, np.uint8))
    network.enableWinograd(False)  # another formula, with larger rounding errors
    network.setInput(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    return np.array(network.forward(ends["logits"]))


def squashed(photo: Path) -> np.ndarray:
    """BGR counts (227, 227, 3), float32: the centre of a picture whose sides OpenCV brings to 256, as Caffe's
    convert_imageset does."""
    import cv2

    picture = cv2.resize(cv2.imread(str(photo)), (256, 256), interpolation=cv2.INTER_LINEAR)
    return picture[14:241, 14:241].astype(np.float32)


def scaled(photo: Path) -> np.ndarray:
    """BGR counts (224, 224, 3), float32: the centre of a picture whose shorter side is brought to 256. What the authors
    of ResNet did it with is not published; here it is Pillow."""
    from PIL import Image

    with Image.open(photo) as opened:
        short = min(opened.size)
        picture = opened.resize(tuple(side * 256 // short for side in opened.size), Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in picture.size)
    return np.asarray(picture)[top : top + 224, left : left + 224, ::-1].astype(np.float32)
