"""bvlc_alexnet.npy with the bytes of Python 2's pickle, loaded and run as the University of Toronto's page does.

The page pads its first convolution (SAME); Caffe, whose weights these are, does not. Both are compared, on pictures as
Caffe prepares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.files.caffe import ALEXNET_MEAN, squashed
from tests.parity.files.pair import Pair, values
from tests.parity.references import tf_nn

_FILES = ("bvlc_alexnet.npy",)
_DEPTHS, _WIDTHS = tf_nn._REAL["caffe"]
PAIRS = (
    Pair("npy", "alexnet", "tf.nn 2.15, bvlc_alexnet with Caffe's conv1", "tensorflow", _FILES),
    Pair("npy", "alexnet_page", "tf.nn 2.15, bvlc_alexnet as on the page", "tensorflow", _FILES,
         fields=tf_nn._fields("caffe", _DEPTHS)),
)  # fmt: skip


def write(pair: Pair, photos: list[Path], folder: Path) -> np.ndarray:
    """The file; returns the logits (N, classes)."""
    from tests.parity.keras_model import tensorflow

    tf = tensorflow()
    file = folder / pair.files[0]
    file.write_bytes(_python_2())
    layers = np.load(file, allow_pickle=True, encoding="latin1").item()
    x = tf.constant(np.stack([squashed(photo) for photo in photos])) - ALEXNET_MEAN
    return tf_nn._bvlc(x, _Loaded(layers), conv1="SAME" if pair.fields else "VALID")["logits"].numpy()


def _python_2() -> bytes:
    """A dictionary of [weights, biases] by layer, convolutions (H, W, in, out)."""
    from tests.interchange.formats.python2 import python2_array, python2_layers

    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for number, (depth, kernel, groups) in enumerate(zip(_DEPTHS, (11, 5, 3, 3, 3), (1, 2, 1, 2, 2), strict=True), 1):
        shapes[f"conv{number}"] = (kernel, kernel, channels // groups, depth)
        channels = depth
    features = channels * 6 * 6
    for number, width in enumerate(_WIDTHS, 6):
        shapes[f"fc{number}"] = (features, width)
        features = width
    pairs = []
    for name, shape in shapes.items():
        weights = values(f"{name}/weights", shape, "weight", fan_in=int(np.prod(shape[:-1])))
        biases = values(f"{name}/biases", shape[-1:], "biases")
        pairs.append((name, b"](" + python2_array(weights) + python2_array(biases) + b"e"))
    return python2_layers(*pairs)


class _Loaded:
    """The file's arrays as the reference asks for its variables."""

    hidden = range(6, 8)

    def __init__(self, layers: dict[str, list[np.ndarray]]) -> None:
        self.layers = layers

    def conv(self, number: int, x: Any, kernel: int, group: int = 1) -> tuple[np.ndarray, np.ndarray]:
        weights, biases = self.layers[f"conv{number}"]
        assert weights.shape[:3] == (kernel, kernel, x.shape[-1] // group)
        return weights, biases

    def dense(self, number: int, x: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        import tensorflow as tf

        return tf.reshape(x, [x.shape[0], -1]), *self.layers[f"fc{number}"]
