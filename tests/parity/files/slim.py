"""TF-Slim's ResNet-50 v1 and v2, saved by TensorFlow's Saver in both versions of its checkpoints.

The preprocessing of Slim's evaluation (vgg_preprocessing, inception_preprocessing) is no part of tf_slim: here are the
operations of TensorFlow that it consists of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.files.pair import Pair, values

_FILES = ("v1.ckpt", "v2.ckpt")
PAIRS = tuple(
    Pair("slim", f"{family}_50", f"tf_slim 1.1, {family}_50, {style} style, Saver V1, V2", "tensorflow", _FILES)
    for family, style in (("resnet_v1", "vgg"), ("resnet_v2", "inception"))
)

_MEANS = (123.68, 116.78, 103.94)


def write(pair: Pair, photos: list[Path], folder: Path) -> np.ndarray:
    """Both checkpoints; returns the logits (N, classes)."""
    from tests.parity.references.slim import _modules

    tf, slim, nets = _modules()
    family = pair.name.removesuffix("_50")
    prepared, classes = {"resnet_v1": (_vgg, 1000), "resnet_v2": (_inception, 1001)}[family]
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.stack([prepared(tf, tf.image.decode_png(tf.read_file(str(photo)), channels=3)) for photo in photos])
        with slim.arg_scope(nets["utils"].resnet_arg_scope()):
            logits = getattr(nets[family], pair.name)(x, num_classes=classes, is_training=False)[0]
        variables = tf.global_variables()
        session.run(
            [one.initializer for one in variables],
            {one.initializer.inputs[1]: _values(one, family) for one in variables},
        )
        for file, version in zip(pair.files, (tf.train.SaverDef.V1, tf.train.SaverDef.V2), strict=True):
            tf.train.Saver(write_version=version).save(session, str(folder / file), write_meta_graph=False)
        return session.run(tf.squeeze(logits, [1, 2]))


def _values(variable: Any, family: str) -> np.ndarray:
    name, shape = variable.op.name, tuple(variable.shape.as_list())
    kind = name.rpartition("/")[2]
    # v1's stem sees counts, which its norm does not bring down to the size of the other statistics.
    gain = 1 / 64 if family == "resnet_v1" and name == "resnet_v1_50/conv1/weights" else 1.0
    return values(name, shape, "weight" if kind == "weights" else kind, fan_in=int(np.prod(shape[:-1])), gain=gain)


def _vgg(tf: Any, image: Any) -> Any:
    """preprocess_for_eval: the shorter side to 256, the central 224, counts minus a mean."""
    height, width = tf.cast(tf.shape(image)[0], tf.float32), tf.cast(tf.shape(image)[1], tf.float32)
    scale = 256.0 / tf.minimum(height, width)
    size = tf.cast(tf.stack([tf.rint(height * scale), tf.rint(width * scale)]), tf.int32)
    image = tf.image.resize_bilinear(image[None], size, align_corners=False)[0]
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    image = tf.slice(image, tf.stack([top, left, 0]), [224, 224, 3])
    return tf.cast(image, tf.float32) - tf.constant(_MEANS)


def _inception(tf: Any, image: Any) -> Any:
    """preprocess_for_eval: the central 87.5 %, then 299 x 299, from -1 to 1."""
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.central_crop(image, central_fraction=0.875)
    image = tf.image.resize_bilinear(image[None], [299, 299], align_corners=False)[0]
    return tf.multiply(tf.subtract(image, 0.5), 2.0)
