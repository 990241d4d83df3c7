"""The hand-signs ResNet50 in Keras: `identity_block`, `convolutional_block` and `ResNet50` with their calls, in order.

The post's arguments are kept. Ours are the names of the layers, the stages as a list, and `training`, which the post
gives its blocks as a default: live (True, batch statistics whatever the model's mode) or frozen (False). The stem's
normalization has no such argument: it follows the model's mode, so that the post's `evaluate` runs a frozen stem in
front of live blocks, and its `fit` runs all of them live.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.parity.case import Case, plain_blocks

OURS = "resnet_v1_50.signs"
THEIRS = "Keras 2.15, the post's identity_block, convolutional_block, ResNet50"
ENVIRONMENT = "tensorflow"

_FILTERS = ((64, 64, 256), (128, 128, 512), (256, 256, 1024), (512, 512, 2048))
_COUNTS = (3, 4, 6, 3)
# Every stage projects: no depth twice in a row, nor the stem's 64.
_TINY = plain_blocks(
    "bottleneck",
    ((16, 4, 1), (16, 4, 1)),
    ((24, 8, 2), (24, 8, 1)),
    ((32, 8, 2), (32, 8, 1)),
    ((40, 12, 2), (40, 12, 1)),
)
# Live normalization blows rounding up: at full depth either framework's float32 is 1e-4 from float64, where they agree.
_SHALLOW = plain_blocks("bottleneck", ((16, 4, 1), (16, 4, 1)), ((24, 8, 2), (24, 8, 1)))


def _case(name: str, side: int, blocks: list[dict[str, Any]], **options: Any) -> Case:
    return Case(f"keras_signs_{name}", "resnet_v1_50.signs", side, {"blocks": blocks, "input_size": side}, **options)


CASES = [
    *(_case(f"frozen_{side}", side, _TINY) for side in (64, 65, 96, 128, 129, 224, 225, 299)),
    _case("frozen_gradient_64", 64, _SHALLOW, gradient=True),
    _case("live_64", 64, _SHALLOW, batch=4, training=True),
    _case("live_65", 65, _SHALLOW, batch=4, training=True),
    _case("live_225", 225, _SHALLOW, batch=1, training=True),
    _case("live_gradient_33", 33, _SHALLOW, batch=4, training=True, gradient=True),
    Case("keras_signs_full_frozen_64", "resnet_v1_50.signs", 64, full=True),
]


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients and the updated statistics."""
    from tests.parity.keras_model import arrays_of, tensorflow

    tensorflow().keras.backend.clear_session()
    model = _resnet50((case.side, case.side, 3), 6, _stages(case), case.training)
    layers = {one.name: one for one in model.layers if one.weights}
    outputs = {
        one.name: one.output for one in model.layers if one.name.startswith("stage") and one.name.count(".") == 1
    }
    # Keras lists layers by their depth in the graph: a stage's last unit comes last.
    outputs |= {name.split(".")[0]: value for name, value in outputs.items()}
    outputs |= {name: model.get_layer(name).output for name in ("stem", "pre_logits")}
    return arrays_of(case, layers, outputs, model, tuple(model.get_layer("average").output.shape[1:]))


def _stages(case: Case) -> list[tuple[list[int], int, int]]:
    """For each stage its filters, its first stride and its number of units."""
    if case.full:
        strides = (1, 2, 2, 2)
        return [(list(one), stride, count) for one, stride, count in zip(_FILTERS, strides, _COUNTS, strict=True)]
    first = [(block["rows"][0], len(block["rows"])) for block in case.fields["blocks"]]
    return [([width, width, depth], stride, count) for (depth, width, stride), count in first]


def _resnet50(input_shape: tuple[int, int, int], classes: int, stages: list[Any], training: bool) -> Any:
    from keras.initializers import glorot_uniform
    from keras.layers import (
        Activation,
        AveragePooling2D,
        BatchNormalization,
        Conv2D,
        Dense,
        Flatten,
        Input,
        MaxPooling2D,
        ZeroPadding2D,
    )
    from keras.models import Model

    x_input = Input(input_shape)
    x = ZeroPadding2D((3, 3))(x_input)
    x = Conv2D(64, (7, 7), strides=(2, 2), kernel_initializer=glorot_uniform(seed=0), name="stem.conv")(x)
    x = BatchNormalization(axis=3, name="stem.norm")(x)
    x = Activation("relu")(x)
    x = MaxPooling2D((3, 3), strides=(2, 2), name="stem")(x)
    for stage, (filters, stride, count) in enumerate(stages, 1):
        x = _convolutional_block(x, f=3, filters=filters, s=stride, training=training, name=f"stage{stage}.unit1")
        for unit in range(2, count + 1):
            x = _identity_block(x, 3, filters, training=training, name=f"stage{stage}.unit{unit}")
    x = AveragePooling2D(2, name="average")(x)
    x = Flatten(name="pre_logits")(x)
    x = Dense(classes, activation="softmax", kernel_initializer=glorot_uniform(seed=0), name="logits")(x)
    return Model(inputs=x_input, outputs=x)


def _identity_block(x: Any, f: int, filters: list[int], *, training: bool, name: str) -> Any:
    from keras.initializers import random_uniform
    from keras.layers import Activation, Add, BatchNormalization, Conv2D

    f1, f2, f3 = filters
    first = {"kernel_size": 1, "strides": (1, 1), "padding": "valid"}
    middle = {"kernel_size": f, "strides": (1, 1), "padding": "same"}
    shortcut = x
    x = Conv2D(filters=f1, **first, kernel_initializer=random_uniform(seed=0), name=f"{name}.conv1")(x)
    x = BatchNormalization(axis=3, name=f"{name}.norm1")(x, training=training)
    x = Activation("relu")(x)
    x = Conv2D(filters=f2, **middle, kernel_initializer=random_uniform(seed=0), name=f"{name}.conv2")(x)
    x = BatchNormalization(axis=3, name=f"{name}.norm2")(x, training=training)
    x = Activation("relu")(x)
    x = Conv2D(filters=f3, **first, kernel_initializer=random_uniform(seed=0), name=f"{name}.conv3")(x)
    x = BatchNormalization(axis=3, name=f"{name}.norm3")(x, training=training)
    x = Add()([x, shortcut])
    return Activation("relu", name=name)(x)


def _convolutional_block(x: Any, f: int, filters: list[int], *, s: int, training: bool, name: str) -> Any:
    from keras.initializers import glorot_uniform
    from keras.layers import Activation, Add, BatchNormalization, Conv2D

    f1, f2, f3 = filters
    first = {"kernel_size": 1, "strides": (s, s), "padding": "valid"}
    middle = {"kernel_size": f, "strides": 1, "padding": "same"}
    last = {"kernel_size": 1, "strides": 1, "padding": "valid"}
    joined = {"kernel_size": 1, "strides": s, "padding": "valid"}
    shortcut = x
    x = Conv2D(filters=f1, **first, kernel_initializer=glorot_uniform(seed=0), name=f"{name}.conv1")(x)
    x = BatchNormalization(axis=3, name=f"{name}.norm1")(x, training=training)
    x = Activation("relu")(x)
    x = Conv2D(filters=f2, **middle, kernel_initializer=glorot_uniform(seed=0), name=f"{name}.conv2")(x)
    x = BatchNormalization(axis=3, name=f"{name}.norm2")(x, training=training)
    x = Activation("relu")(x)
    x = Conv2D(filters=f3, **last, kernel_initializer=glorot_uniform(seed=0), name=f"{name}.conv3")(x)
    x = BatchNormalization(axis=3, name=f"{name}.norm3")(x, training=training)
    kept = {"kernel_initializer": glorot_uniform(seed=0), "name": f"{name}.shortcut.conv"}
    shortcut = Conv2D(filters=f3, **joined, **kept)(shortcut)
    shortcut = BatchNormalization(axis=3, name=f"{name}.shortcut.norm")(shortcut, training=training)
    x = Add()([x, shortcut])
    return Activation("relu", name=name)(x)
