"""TensorFlow 2.15 as TensorFlow 1: a session over a graph, with variables or with the weights frozen into it."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

from pictures import answers, pictures
from worker import Ready, fastest, serve, timed


def modules() -> tuple[Any, Any]:
    """TensorFlow 1 and tf_slim, which looks for TensorFlow's layers where they stood before tf_keras moved them."""
    import tf_keras
    import tf_keras.src.legacy_tf_layers as layers

    sys.modules["tf_keras.legacy_tf_layers"] = tf_keras.legacy_tf_layers = layers
    import tensorflow.compat.v1 as tf
    import tf_slim

    return tf, tf_slim


def ready(settings: dict[str, Any], build: Callable[[Any], Any]) -> Ready:
    """`build` makes the logits of a placeholder (N, S, S, 3); the weights are those of the checkpoint
    `weights`, or those that its variables begin with."""
    tf, _ = modules()
    batch = pictures(settings, channels_last=True)
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, batch.shape)
        tf.identity(build(x), "answers")
        session = tf.Session(config=_threads(tf, settings))
        if "weights" in settings:
            tf.train.Saver(tf.global_variables()).restore(session, settings["weights"])
        else:
            session.run(tf.global_variables_initializer())
        count = sum(one.shape.num_elements() for one in tf.trainable_variables())
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["answers"])
    other = tf.Graph()
    with other.as_default():
        tf.import_graph_def(frozen, name="")
    second = tf.Session(graph=other, config=_threads(tf, settings))

    def run(where: Any) -> Any:
        return where.run("answers:0", {x.name: batch})

    ways = {
        "session.run": lambda: timed(lambda: run(session)),
        "session.run, frozen": lambda: timed(lambda: run(second)),
    }
    way, chosen = fastest(ways)
    (second if way == "session.run" else session).close()
    facts = {
        "way": way,
        "parameters": count,
        "answers": answers(run(second if "frozen" in way else session)),
        "versions": {"tensorflow": tf.__version__, "tf_slim": importlib.metadata.version("tf_slim")},
    }
    return Ready(chosen, facts)


def _threads(tf: Any, settings: dict[str, Any]) -> Any:
    count = settings["threads"]
    return tf.ConfigProto(intra_op_parallelism_threads=count, inter_op_parallelism_threads=count)


def _slim(settings: dict[str, Any]) -> Ready:
    _, slim = modules()
    from tf_slim.nets import resnet_utils, resnet_v2

    name = settings["network"]

    def build(x: Any) -> Any:
        with slim.arg_scope(resnet_utils.resnet_arg_scope()):
            return getattr(resnet_v2, name)(x, num_classes=1001, is_training=False)[0]

    return ready(settings, build)


if __name__ == "__main__":
    serve(_slim)
