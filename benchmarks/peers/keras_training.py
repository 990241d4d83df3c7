"""Keras's training of the hand-signs ResNet50 on arrays, on the backend of KERAS_BACKEND, by its fastest way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras_signs import CLASSES, signs_resnet50
from pictures import counts
from worker import Ready, Run, fastest, serve, timed

FIRST, LAST = "channels_first", "channels_last"
Jit = bool | str  # as Keras's jit_compile


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of each batch of a fit, without what comes before the first and after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._begun = self._begun or time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        now = time.perf_counter()
        self.seconds.append(now - self._begun)
        self._begun = now


def set_up(settings: dict[str, Any]) -> Ready:
    backend = keras.backend.backend()
    versions = _prepare(backend, settings["threads"])
    # JAX is compiled by XLA in any case; torch alone has a choice of the axis.
    jits: tuple[Jit, ...] = ("auto",) if backend == "jax" else (False, True)
    orders = (FIRST, LAST) if backend == "torch" else (LAST,)
    ways: dict[str, Callable[[], Run]] = {}
    for jit in jits:
        for order in orders:
            if (jit, order) == (True, FIRST):
                continue
            told = {"auto": "", True: ", compiled", False: ""}[jit] + (f", {order}" if len(orders) > 1 else "")
            ways[f"fit{told}"] = _fit(settings, jit, order)
            ways[f"train_on_batch{told}"] = _on_batch(settings, jit, order)
    way, run = fastest(ways)
    count = sum(int(np.prod(one.shape)) for one in signs_resnet50().trainable_weights)
    return Ready(run, {"way": way, "parameters": count, "versions": {"keras": keras.__version__} | versions})


def _prepare(backend: str, threads: int) -> dict[str, str]:
    """Set the backend's threads; its version."""
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        return {"tensorflow": tf.__version__}
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
        return {"torch": torch.__version__}
    import jax

    return {"jax": jax.__version__}  # which takes the cores that it may run on


def _compiled(settings: dict[str, Any], jit: Jit, order: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The model, and a batch of pictures in 0-1 and one-hot targets."""
    keras.config.set_image_data_format(order)
    model = signs_resnet50()
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    pixels, targets = counts(settings | {"classes": CLASSES}, channels_last=order == LAST)
    return model, pixels.astype(np.float32) / 255, keras.utils.to_categorical(targets, CLASSES)


def _fit(settings: dict[str, Any], jit: Jit, order: str) -> Callable[[], Run]:
    def build() -> Run:
        model, pixels, targets = _compiled(settings, jit, order)

        def run(count: int) -> list[float]:
            clock = Clock()
            many = np.tile(pixels, (count, 1, 1, 1)), np.tile(targets, (count, 1))
            model.fit(*many, batch_size=len(pixels), verbose=0, callbacks=[clock])
            return clock.seconds

        return run

    return build


def _on_batch(settings: dict[str, Any], jit: Jit, order: str) -> Callable[[], Run]:
    def build() -> Run:
        model, pixels, targets = _compiled(settings, jit, order)
        return timed(lambda: model.train_on_batch(pixels, targets))

    return build


if __name__ == "__main__":
    serve(set_up)
