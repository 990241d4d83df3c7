"""Keras's side of signs_vs_keras: `model.fit` on arrays with the hand-signs ResNet50, on the TensorFlow backend.

Runs in an environment of its own (`make peers`), which knows nothing of skipway.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.initializers import GlorotUniform, RandomUniform
from PIL import Image
from stretch import Stretch, leave, run_side, side_options

SIDE, CLASSES, BATCH = 64, 6, 32
TOTAL_PARAMETERS, TRAINABLE_PARAMETERS = 23_600_006, 23_546_886
# Width of the two narrow convolutions, and how many blocks, of each stage; the last convolution is four times as wide.
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))

Draw = Callable[[], Any]


def drawn_glorot() -> Any:
    """First weights of everything but the identity blocks."""
    return GlorotUniform(seed=0)


def drawn_uniform() -> Any:
    """First weights of the identity blocks: U(-0.05, 0.05)."""
    return RandomUniform(seed=0)


def conv_norm(x: Any, width: int, kernel: int, stride: int, draw: Draw) -> Any:
    """A convolution and a batch normalization that always uses the batch's statistics."""
    padding = "same" if kernel > 1 else "valid"
    x = layers.Conv2D(width, kernel, strides=stride, padding=padding, kernel_initializer=draw())(x)
    return layers.BatchNormalization(axis=3)(x, training=True)


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
    pictures = layers.Input((SIDE, SIDE, 3))
    x = layers.ZeroPadding2D(3)(pictures)
    x = layers.Conv2D(64, 7, strides=2, kernel_initializer=drawn_glorot())(x)
    x = layers.BatchNormalization(axis=3)(x)
    x = layers.Activation("relu")(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, (width, blocks) in enumerate(STAGES):
        for block in range(blocks):
            first = block == 0
            x = bottleneck(x, width, 2 if first and stage else 1, project=first)
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    answers = layers.Dense(CLASSES, activation="softmax", kernel_initializer=drawn_glorot())(x)
    return keras.Model(pictures, answers)


def trainable(model: Any) -> int:
    """Trainable parameters, after a check that this is the network it should be."""
    count = sum(int(np.prod(one.shape)) for one in model.trainable_weights)
    if (model.count_params(), count) != (TOTAL_PARAMETERS, TRAINABLE_PARAMETERS):
        raise AssertionError(f"{model.count_params():,} parameters, {count:,} trainable: another network")
    return count


def read_pictures(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """float32 pictures (N, 64, 64, 3) in 0-1 and one-hot labels (N, 6) of a folder of class folders."""
    labels = sorted(one.name for one in folder.iterdir() if one.is_dir())
    if len(labels) != CLASSES:
        leave(f"{folder} has {len(labels)} class folders; the hand signs have {CLASSES}")
    pixels, targets = [], []
    for target, label in enumerate(labels):
        for file in sorted((folder / label).iterdir()):
            if file.suffix.lower() not in {".jpg", ".jpeg", ".png"}:
                continue
            with Image.open(file) as picture:
                pixels.append(np.asarray(picture.convert("RGB")))
            if pixels[-1].shape != (SIDE, SIDE, 3):
                leave(f"{file} is not {SIDE} pixels a side; this network takes no other size")
            targets.append(target)
    if not pixels:
        leave(f"{folder} has no pictures")
    return np.stack(pixels).astype(np.float32) / 255, keras.utils.to_categorical(targets, CLASSES)


class Timer(keras.callbacks.Callback):  # type: ignore[misc]
    """Times the steps of a fit and ends it when there are enough."""

    def __init__(self, stretch: Stretch) -> None:
        super().__init__()
        self.stretch, self.loss = stretch, float("nan")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self.stretch.step()
        self.loss = (logs or {}).get("loss", self.loss)
        if self.stretch.full:
            self.model.stop_training = True


def main() -> None:
    """Measure one stretch."""
    parser = side_options("Time Keras's training of the hand-signs ResNet50.")
    parser.add_argument("--threads", type=int, default=0, help="threads of an operation; 0: all cores")
    parser.add_argument("--jit", action="store_true", help="compile with XLA, which Keras leaves off on a CPU")
    options = parser.parse_args()
    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    pictures, answers = read_pictures(options.data / "train")
    stretch = Stretch("keras", warmup=options.warmup, steps=options.steps)
    stretch.plan(len(pictures), BATCH, -(-len(pictures) // BATCH))
    model = signs_resnet50()
    parameters = trainable(model)
    more = {"jit_compile": True} if options.jit else {}
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"], **more)
    timer = Timer(stretch)
    epochs = options.warmup + options.steps + 1  # an upper bound: the timer ends it
    model.fit(pictures, answers, epochs=epochs, batch_size=BATCH, verbose=0, callbacks=[timer])
    stretch.tell(
        parameters=parameters,
        loss=float(timer.loss),
        threads=options.threads or len(os.sched_getaffinity(0)),
        decoders=0,
        versions={"keras": keras.__version__, "tensorflow": tf.__version__, "python": platform.python_version()},
    )


if __name__ == "__main__":
    run_side(main)
