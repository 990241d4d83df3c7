"""BVLC's AlexNet in OpenCV's importer of Caffe models, and as calls of tf.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
from pictures import answers, pictures
from tensorflow_one import modules, ready
from worker import Ready, fastest, serve, timed


def set_up(settings: dict[str, Any]) -> Ready:
    return _opencv(settings) if settings["library"] == "opencv" else _tf_nn(settings)


def _opencv(settings: dict[str, Any]) -> Ready:
    import cv2

    cv2.setNumThreads(settings["threads"])
    batch = pictures(settings)
    facts: dict[str, Any] = {}

    def way(*, winograd: bool) -> Any:
        network = cv2.dnn.readNetFromCaffe(settings["prototxt"], settings["weights"])
        network.enableWinograd(winograd)

        def step() -> np.ndarray:
            network.setInput(batch)
            return network.forward("fc8")  # what comes before the softmax

        facts["answers"] = answers(step())
        return timed(step)

    name, run = fastest({"Winograd": lambda: way(winograd=True), "plain": lambda: way(winograd=False)})
    return Ready(run, facts | {"way": name, "versions": {"opencv": cv2.__version__}})


def _tf_nn(settings: dict[str, Any]) -> Ready:
    """The network of bvlc_alexnet's published tf.nn code, conv1 VALID and the pools rounded up as Caffe has them."""
    tf, _ = modules()
    stored = dict(np.load(settings["arrays"]))

    def pair(name: str) -> tuple[Any, Any]:
        weight = stored[f"{name}.weight"]
        weight = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        if name == "fc6.fc":  # rows in the order of (C, H, W), to that of (H, W, C)
            weight = weight.reshape(256, 6, 6, -1).transpose(1, 2, 0, 3).reshape(9216, -1)
        return tuple(tf.Variable(one) for one in (np.ascontiguousarray(weight), stored[f"{name}.bias"]))

    def conv(x: Any, number: int, stride: int, group: int) -> Any:
        kernel, biases = pair(f"conv{number}.conv")
        padding = "VALID" if number == 1 else "SAME"
        parts = zip(tf.split(x, group, 3), tf.split(kernel, group, 3), strict=True)
        outputs = [tf.nn.conv2d(i, k, [1, stride, stride, 1], padding=padding) for i, k in parts]
        return tf.nn.relu(tf.nn.bias_add(tf.concat(outputs, 3) if group > 1 else outputs[0], biases))

    def build(x: Any) -> Any:
        for number, stride, group in ((1, 4, 1), (2, 1, 2), (3, 1, 1), (4, 1, 2), (5, 1, 2)):
            x = conv(x, number, stride, group)
            if number in {1, 2}:
                x = tf.nn.local_response_normalization(x, depth_radius=2, alpha=2e-05, beta=0.75, bias=1.0)
            if number in {1, 2, 5}:  # at 227 pixels a side all three divide evenly: nothing is left to round
                x = tf.nn.max_pool(x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID")
        x = tf.reshape(x, [x.shape[0], -1])
        for name in ("fc6.fc", "fc7.fc"):
            x = tf.nn.relu_layer(x, *pair(name))
        return tf.nn.xw_plus_b(x, *pair("logits"))

    return ready(settings, build)


if __name__ == "__main__":
    serve(set_up)
