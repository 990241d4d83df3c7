"""The hand-signs ResNet50 of deeplearning.ai in Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers
from keras.initializers import GlorotUniform, RandomUniform

SIDE, CLASSES = 64, 6
# Width of the two narrow convolutions, and how many blocks, of each stage; the last convolution is four times as wide.
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))

Draw = Callable[[], Any]


def drawn_glorot() -> Any:
    """First weights of everything but the identity blocks."""
    return GlorotUniform(seed=0)


def drawn_uniform() -> Any:
    """First weights of the identity blocks: U(-0.05, 0.05)."""
    return RandomUniform(seed=0)


def channels() -> int:
    """The axis of channels."""
    return 3 if keras.config.image_data_format() == "channels_last" else 1


def conv_norm(x: Any, width: int, kernel: int, stride: int, draw: Draw) -> Any:
    """A convolution and a batch normalization that always uses the batch's statistics."""
    padding = "same" if kernel > 1 else "valid"
    x = layers.Conv2D(width, kernel, strides=stride, padding=padding, kernel_initializer=draw())(x)
    return layers.BatchNormalization(axis=channels())(x, training=True)


def bottleneck(x: Any, width: int, stride: int, *, project: bool) -> Any:
    """1x1, 3x3, 1x1 and the shortcut: the input itself, or projected to the new shape."""
    draw = drawn_glorot if project else drawn_uniform
    shortcut = conv_norm(x, 4 * width, 1, stride, draw) if project else x
    x = layers.Activation("relu")(conv_norm(x, width, 1, stride, draw))
    x = layers.Activation("relu")(conv_norm(x, width, 3, 1, draw))
    x = conv_norm(x, 4 * width, 1, 1, draw)
    return layers.Activation("relu")(layers.Add()([x, shortcut]))


def signs_resnet50() -> Any:
    """The network for 64x64 pictures of six classes."""
    pictures = layers.Input((SIDE, SIDE, 3) if channels() == 3 else (3, SIDE, SIDE))
    x = layers.ZeroPadding2D(3)(pictures)
    x = layers.Conv2D(64, 7, strides=2, kernel_initializer=drawn_glorot())(x)
    x = layers.BatchNormalization(axis=channels())(x)
    x = layers.Activation("relu")(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, (width, blocks) in enumerate(STAGES):
        for block in range(blocks):
            first = block == 0
            x = bottleneck(x, width, 2 if first and stage else 1, project=first)
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    answers = layers.Dense(CLASSES, activation="softmax", kernel_initializer=drawn_glorot())(x)
    return keras.Model(pictures, answers)
