"""Keras's ResNet v2 on the backend of KERAS_BACKEND, by the fastest of its documented calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from pictures import answers, pictures
from worker import Ready, Run, fastest, serve, timed


def set_up(settings: dict[str, Any]) -> Ready:
    backend = keras.backend.backend()
    ways, versions = {"tensorflow": _on_tensorflow, "torch": _on_torch}[backend](settings)
    way, run = fastest(ways)
    model = _model(settings)
    count = sum(int(np.prod(one.shape)) for one in model.trainable_weights)
    told = model.predict_on_batch(pictures(settings, channels_last=keras.config.image_data_format() == "channels_last"))
    facts = {"way": way, "parameters": count, "answers": answers(told)}
    return Ready(run, facts | {"versions": {"keras": keras.__version__} | versions})


def _model(settings: dict[str, Any]) -> Any:
    made = getattr(keras.applications, settings["network"])(weights=None, classifier_activation=None)
    made.load_weights(settings["weights"])
    return made


def _on_tensorflow(settings: dict[str, Any]) -> tuple[dict[str, Callable[[], Run]], dict[str, str]]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    model, array = _model(settings), pictures(settings, channels_last=True)
    batch = tf.constant(array)

    def called(*, jit: bool) -> Run:
        call = tf.function(lambda x: model(x, training=False), jit_compile=jit)
        return timed(lambda: call(batch).numpy())

    ways: dict[str, Callable[[], Run]] = {
        "predict_on_batch": lambda: timed(lambda: model.predict_on_batch(array)),
        "tf.function": lambda: called(jit=False),
        "tf.function, XLA": lambda: called(jit=True),
    }
    return ways, {"tensorflow": tf.__version__}


def _on_torch(settings: dict[str, Any]) -> tuple[dict[str, Callable[[], Run]], dict[str, str]]:
    import torch

    torch.set_num_threads(settings["threads"])

    def called(order: str, *, jit: bool) -> Run:
        keras.config.set_image_data_format(order)
        model = _model(settings)
        batch = torch.from_numpy(pictures(settings, channels_last=order == "channels_last"))
        program = torch.compile(model) if jit else model

        def step() -> Any:
            with torch.no_grad():
                return program(batch, training=False)

        return timed(step)

    # The last is the format that later calls see.
    ways: dict[str, Callable[[], Run]] = {
        "channels_first": lambda: called("channels_first", jit=False),
        "torch.compile": lambda: called("channels_last", jit=True),
        "channels_last": lambda: called("channels_last", jit=False),
    }
    return ways, {"torch": torch.__version__}


if __name__ == "__main__":
    serve(set_up)
