"""Three AlexNets as calls of tf.nn, in the order and with the arguments of the posts' codes.

tflearn no longer imports: its layers are written as the tf.nn calls that they make. Dropout keeps everything. The third
is the bvlc_alexnet of the University of Toronto's page: its conv1 is SAME, where Caffe does not pad, and its pools are
VALID, where Caffe rounds up; both are fields of ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.parity.case import Case

OURS = "alexnet.mnist, alexnet.tflearn, alexnet.caffe (conv1 SAME, pools VALID)"
THEIRS = "TensorFlow 2.15, tf.nn as the MNIST, tflearn and bvlc_alexnet codes call it"
ENVIRONMENT = "tensorflow"

# Depths of the convolutions, widths of the fully connected layers with the classes.
_REAL = {
    "mnist": ((64, 128, 256), (1024, 1024, 10)),
    "tflearn": ((96, 256, 384, 384, 256), (4096, 4096, 17)),
    "caffe": ((96, 256, 384, 384, 256), (4096, 4096, 1000)),
}
_TINY = {
    "mnist": ((12, 16, 24), (40, 32, 7)),
    "tflearn": ((16, 24, 24, 24, 16), (40, 32, 7)),
    "caffe": ((16, 24, 24, 24, 16), (40, 32, 7)),
}
_SIDES = {"mnist": (28, 27, 29, 32), "tflearn": (227, 224, 225, 64), "caffe": (227, 224, 225, 67)}


def _convs(depths: tuple[int, ...], **columns: tuple[Any, ...]) -> dict[str, Any]:
    rows = zip(depths, *columns.values(), strict=True)
    return {"convs": [dict(zip(("depth", *columns), row, strict=True)) for row in rows]}


def _fields(source: str, depths: tuple[int, ...]) -> dict[str, Any]:
    """Our row of a source with these depths."""
    if source == "mnist":
        after = (("pool", "norm", "dropout"),) * 3
        return _convs(depths, kernel=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1), after=after)
    columns: dict[str, Any] = {"kernel": (11, 5, 3, 3, 3), "stride": (4, 1, 1, 1, 1)}
    if source == "tflearn":
        both = ("pool", "norm")
        return _convs(depths, **columns, padding=("same",) * 5, after=(both, both, (), (), both))
    both = ("norm", "pool")
    columns |= {"padding": ("same", 2, 1, 1, 1), "groups": (1, 2, 1, 2, 2), "after": (both, both, (), (), ("pool",))}
    return _convs(depths, **columns) | {"pool": {"kernel": 3, "stride": 2, "padding": "valid"}}


def _cases(source: str) -> list[Case]:
    row, prefix = f"alexnet.{source}", f"tf_nn_{source}"
    own, *_, small = _SIDES[source]
    depths, (*hidden, classes) = _TINY[source]
    tiny = _fields(source, depths) | {"hidden": tuple(hidden), "num_classes": classes}
    if source == "tflearn":
        return _tflearn_cases(row, prefix, tiny)
    # Pictures of a scale at which the response norm divides by far more than one.
    real = _fields(source, _REAL[source][0]) if source == "caffe" else {}
    return [
        *(Case(f"{prefix}_{side}", row, side, tiny | {"input_size": side}, scale=100) for side in _SIDES[source]),
        Case(f"{prefix}_gradient_{small}", row, small, tiny | {"input_size": small}, gradient=True, scale=100),
        Case(f"{prefix}_full_{own}", row, own, real, full=True, scale=100),
    ]


def _tflearn_cases(row: str, prefix: str, tiny: dict[str, Any]) -> list[Case]:
    """Bright pictures for the response norm, without hidden layers: many summands of that size saturate the tanh, and
    what it keeps of them is their rounding. Faint pictures for the tanh."""
    return [
        *(
            Case(f"{prefix}_{side}", row, side, tiny | {"hidden": (), "input_size": side}, scale=100)
            for side in _SIDES["tflearn"]
        ),
        *(Case(f"{prefix}_tanh_{side}", row, side, tiny | {"input_size": side}, scale=0.5) for side in (225, 227)),
        Case(f"{prefix}_gradient_64", row, 64, tiny | {"input_size": 64}, gradient=True, scale=20),
        Case(f"{prefix}_full_227", row, 227, {"hidden": ()}, full=True, scale=100),
        Case(f"{prefix}_full_tanh_227", row, 227, full=True, scale=0.2),
    ]


CASES = [case for source in _SIDES for case in _cases(source)]


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients."""
    from tests.parity.formula import loss_weights
    from tests.parity.keras_model import our_features, our_map, our_weight, tensorflow, their_pictures

    tf = tensorflow()
    source = case.row.removeprefix("alexnet.")
    depths, widths = (_REAL if case.full else _TINY)[source]
    weights = Weights(depths, widths if case.fields.get("hidden", True) else widths[-1:])
    with tf.GradientTape() as tape:
        network = {"mnist": _mnist, "tflearn": _tflearn, "caffe": _bvlc}[source]
        values = network(tf.constant(their_pictures(case, 1 if source == "mnist" else 3)), weights)
        loss = tf.reduce_sum(values["logits"] * loss_weights(tuple(values["logits"].shape)))
    values |= {"predictions": tf.nn.softmax(values["logits"])}
    arrays = {name: our_map(value.numpy()) for name, value in values.items()}
    arrays["pre_logits"] = our_features(arrays["pre_logits"], weights.flattened.get("logits.weight"))
    if case.gradient:
        for key, value in tape.gradient(loss, weights.made).items():
            arrays[f"grad:{key}"] = our_weight(value.numpy(), weights.flattened.get(key))
    return arrays


class Weights:
    """The variables of a network, by our names, and of each the map (H, W, C) that it reads flattened."""

    def __init__(self, depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
        self.depths = depths
        self.widths = widths
        self.hidden = range(len(depths) + 1, len(depths) + len(widths))
        self.made: dict[str, Any] = {}
        self.flattened: dict[str, tuple[int, int, int]] = {}

    def conv(self, number: int, x: Any, kernel: int, group: int = 1) -> tuple[Any, Any]:
        """Filter and bias of convolution `number` (from 1) on the map x."""
        shape = (kernel, kernel, x.shape[-1] // group, self.depths[number - 1])
        return self._pair(f"conv{number}.conv", shape)

    def dense(self, number: int, x: Any) -> tuple[Any, Any, Any]:
        """x flattened, matrix and bias of fully connected layer `number`, counted on from the convolutions."""
        import tensorflow as tf

        name = f"fc{number}.fc" if number in self.hidden else "logits"
        if len(x.shape) == 4:
            self.flattened[f"{name}.weight"] = tuple(x.shape[1:])
            x = tf.reshape(x, [x.shape[0], -1])
        return x, *self._pair(name, (x.shape[-1], self.widths[number - self.hidden.start]))

    def _pair(self, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
        import tensorflow as tf

        from tests.parity.keras_model import their_weight

        key = f"{name}.weight"
        self.made[key] = tf.Variable(their_weight(key, shape, self.flattened.get(key)))
        self.made[f"{name}.bias"] = tf.Variable(their_weight(f"{name}.bias", shape[-1:]))
        return self.made[key], self.made[f"{name}.bias"]


def _mnist(x: Any, weights: Weights) -> dict[str, Any]:
    import tensorflow as tf

    ends = {}
    for number in (1, 2, 3):
        w, b = weights.conv(number, x, 3)
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME"), b))
        x = tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
        x = ends[f"conv{number}"] = tf.nn.lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
    for number in weights.hidden:
        x, w, b = weights.dense(number, x)
        x = ends[f"fc{number}"] = tf.nn.relu(tf.matmul(x, w) + b)
    x, w, b = weights.dense(weights.hidden.stop, x)
    return ends | {"pre_logits": x, "logits": tf.matmul(x, w) + b}


def _tflearn(x: Any, weights: Weights) -> dict[str, Any]:
    import tensorflow as tf

    ends = {}
    for number, kernel, stride in ((1, 11, 4), (2, 5, 1), (3, 3, 1), (4, 3, 1), (5, 3, 1)):
        w, b = weights.conv(number, x, kernel)
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, [1, stride, stride, 1], "SAME"), b))
        if number in {1, 2, 5}:
            x = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
            x = tf.nn.lrn(x, depth_radius=5, bias=1.0, alpha=0.0001, beta=0.75)
        ends[f"conv{number}"] = x
    for number in weights.hidden:
        x, w, b = weights.dense(number, x)
        x = ends[f"fc{number}"] = tf.tanh(tf.nn.bias_add(tf.matmul(x, w), b))
    x, w, b = weights.dense(weights.hidden.stop, x)
    return ends | {"pre_logits": x, "logits": tf.nn.bias_add(tf.matmul(x, w), b)}


def _bvlc(x: Any, weights: Weights, conv1: str = "SAME") -> dict[str, Any]:
    """`conv1`: the padding of the first convolution, which the page has otherwise than Caffe."""
    import tensorflow as tf

    def conv(x: Any, kernel: Any, biases: Any, stride: int, group: int) -> Any:
        padding = conv1 if stride == 4 else "SAME"
        inputs, kernels = tf.split(x, group, 3), tf.split(kernel, group, 3)
        outputs = [
            tf.nn.conv2d(i, k, [1, stride, stride, 1], padding=padding) for i, k in zip(inputs, kernels, strict=True)
        ]
        return tf.nn.bias_add(tf.concat(outputs, 3), biases)

    ends = {}
    for number, kernel, stride, group in ((1, 11, 4, 1), (2, 5, 1, 2), (3, 3, 1, 1), (4, 3, 1, 2), (5, 3, 1, 2)):
        x = tf.nn.relu(conv(x, *weights.conv(number, x, kernel, group), stride, group))
        if number in {1, 2}:
            x = tf.nn.local_response_normalization(x, depth_radius=2, alpha=2e-05, beta=0.75, bias=1.0)
        if number in {1, 2, 5}:
            x = tf.nn.max_pool(x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="VALID")
        ends[f"conv{number}"] = x
    for number in weights.hidden:
        x = ends[f"fc{number}"] = tf.compat.v1.nn.relu_layer(*weights.dense(number, x))
    x, w, b = weights.dense(weights.hidden.stop, x)
    return ends | {"pre_logits": x, "logits": tf.compat.v1.nn.xw_plus_b(x, w, b)}
