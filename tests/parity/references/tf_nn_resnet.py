"""A post's `class ResNet50` as calls of tf.nn: `_block` and `_bottleneck` in its order and with its arguments.

Its helpers are not in the post. Here they are tf.nn with SAME padding, as its comments on the maps' sizes need, without
biases before a normalization. Its last pool, of 7x7, is global for pictures of other sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.parity.case import Case, plain_blocks

OURS = 'resnet_v1_50.original (Stem(padding="same", pool="same"))'
THEIRS = "TensorFlow 2.15, tf.nn as the post's class ResNet50 calls it"
ENVIRONMENT = "tensorflow"

_ROW = "resnet_v1_50.original"
_EPSILON = 1e-5  # ours; the post does not show its own


def _stem(width: int) -> dict[str, Any]:
    return {"stem": {"kernel": 7, "stride": 2, "width": width, "pool": "same", "padding": "same", "bias": False}}


_TINY = _stem(8) | {
    "blocks": plain_blocks("bottleneck", ((16, 4, 1), (16, 4, 1)), ((24, 6, 2),), ((32, 8, 2),), ((40, 10, 2),)),
    "num_classes": 7,
}
# Outputs and units of `block2` to `block5`.
_STAGES = ((256, 3), (512, 4), (1024, 6), (2048, 3))

CASES = [
    *(Case(f"tf_nn_resnet_{side}", _ROW, side, _TINY, batch=1) for side in (64, 65, 224, 225)),
    *(Case(f"tf_nn_resnet_full_{side}", _ROW, side, _stem(64), batch=1, full=True) for side in (64, 225)),
]


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints."""
    from tests.parity.keras_model import our_map, tensorflow, their_pictures

    tf = tensorflow()
    stages = _STAGES
    if "blocks" in case.fields:
        stages = tuple((block["rows"][0][0], len(block["rows"])) for block in case.fields["blocks"])
    classes = case.fields.get("num_classes", 1000)
    ends = _resnet50(tf.constant(their_pictures(case, 3)), case.fields["stem"]["width"], stages, classes)
    return {name: our_map(value.numpy()) for name, value in ends.items()}


def _resnet50(x: Any, width: int, stages: tuple[tuple[int, int], ...], classes: int) -> dict[str, Any]:
    import tensorflow as tf

    ends = {}
    net = _conv2d(x, width, 7, 2, key="stem.conv")
    net = tf.nn.relu(_batch_norm(net, "stem.norm"))
    net = ends["stem"] = tf.nn.max_pool(net, [1, 3, 3, 1], [1, 2, 2, 1], padding="SAME")
    for number, (n_out, n) in enumerate(stages, 1):
        units = _block(net, n_out, n, init_stride=1 if number == 1 else 2, key=f"stage{number}")
        ends |= units
        net = ends[f"stage{number}"] = units[f"stage{number}.unit{n}"]
    side = net.shape[1]
    net = tf.nn.avg_pool(net, [1, side, side, 1], [1, side, side, 1], padding="VALID")
    net = ends["pre_logits"] = tf.squeeze(net, [1, 2])
    logits = ends["logits"] = _fc(net, classes, "logits")
    return ends | {"predictions": tf.nn.softmax(logits)}


def _block(x: Any, n_out: int, n: int, *, init_stride: int, key: str) -> dict[str, Any]:
    h_out = n_out // 4
    out = _bottleneck(x, h_out, n_out, stride=init_stride, key=f"{key}.unit1")
    units = {f"{key}.unit1": out}
    for i in range(1, n):
        out = units[f"{key}.unit{i + 1}"] = _bottleneck(out, h_out, n_out, key=f"{key}.unit{i + 1}")
    return units


def _bottleneck(x: Any, h_out: int, n_out: int, stride: int | None = None, *, key: str) -> Any:
    import tensorflow as tf

    n_in = x.shape[-1]
    if stride is None:
        stride = 1 if n_in == n_out else 2
    h = _conv2d(x, h_out, 1, stride=stride, key=f"{key}.conv1")
    h = tf.nn.relu(_batch_norm(h, f"{key}.norm1"))
    h = _conv2d(h, h_out, 3, stride=1, key=f"{key}.conv2")
    h = tf.nn.relu(_batch_norm(h, f"{key}.norm2"))
    h = _conv2d(h, n_out, 1, stride=1, key=f"{key}.conv3")
    h = _batch_norm(h, f"{key}.norm3")
    shortcut = x
    if n_in != n_out:
        shortcut = _conv2d(x, n_out, 1, stride=stride, key=f"{key}.shortcut.conv")
        shortcut = _batch_norm(shortcut, f"{key}.shortcut.norm")
    return tf.nn.relu(shortcut + h)


def _conv2d(x: Any, n_out: int, kernel: int, stride: int, *, key: str) -> Any:
    import tensorflow as tf

    from tests.parity.keras_model import their_weight

    w = their_weight(f"{key}.weight", (kernel, kernel, x.shape[-1], n_out))
    return tf.nn.conv2d(x, w, [1, stride, stride, 1], padding="SAME")


def _batch_norm(x: Any, key: str) -> Any:
    import tensorflow as tf

    from tests.parity.keras_model import their_weight

    kinds = ("running_mean", "running_var", "bias", "weight")
    mean, variance, offset, scale = (their_weight(f"{key}.{kind}", (x.shape[-1],)) for kind in kinds)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, _EPSILON)


def _fc(x: Any, n_out: int, key: str) -> Any:
    import tensorflow as tf

    from tests.parity.keras_model import their_weight

    w = their_weight(f"{key}.weight", (x.shape[-1], n_out))
    return tf.compat.v1.nn.xw_plus_b(x, w, their_weight(f"{key}.bias", (n_out,)))
