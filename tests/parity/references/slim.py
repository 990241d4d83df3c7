"""TF-Slim's ResNet v1 and v2 (tf_slim.nets.resnet_v1, resnet_v2), as a graph of TensorFlow 1."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

import numpy as np

from tests.parity.case import Case, plain_blocks
from tests.parity.formula import loss_weights, parameter, pictures

OURS = "resnet_v1_*.slim, resnet_v2_*.slim (50, 101, 152, 200)"
THEIRS = "tf_slim 1.1, nets.resnet_v1 and nets.resnet_v2"
ENVIRONMENT = "tensorflow"

_TINY = plain_blocks(
    "bottleneck",
    ((8, 4, 1), (8, 4, 2)),
    ((16, 8, 1), (16, 8, 2)),
    ((32, 8, 1), (32, 8, 2)),
    ((32, 8, 1), (24, 4, 1)),
)
_SHALLOW = plain_blocks("bottleneck", ((8, 4, 1), (8, 4, 2)), ((16, 8, 1),))
_SIZES = (64, 65, 224, 225, 299)
_FULL = {"resnet_v1": (50, 101, 152, 200), "resnet_v2": (50, 101, 152, 200)}


def _cases(family: str) -> list[Case]:
    row, few = f"{family}_50.slim", {"blocks": _TINY, "num_classes": 7}
    tiny = f"slim_{family}"
    return [
        *(Case(f"{tiny}_{side}", row, side, few, batch=1) for side in _SIZES),
        # Shallow and small: batch statistics blow rounding up, and among many values one ReLU flips by rounding alone.
        Case(f"{tiny}_training_33", row, 33, {"blocks": _SHALLOW, "num_classes": 7}, batch=4, training=True,
             gradient=True),
        Case(f"{tiny}_training_64", row, 64, {"blocks": _SHALLOW, "num_classes": 7}, batch=4, training=True),
        Case(f"{tiny}_gradient_65", row, 65, few, gradient=True),
        Case(f"{tiny}_output_stride_8", row, 97, few | {"output_stride": 8}, batch=1),
        Case(f"{tiny}_output_stride_16", row, 64, few | {"output_stride": 16, "global_pool": False}, batch=1),
        Case(f"{tiny}_no_root", row, 33, few | {"include_root_block": False}, batch=1),
        *(
            Case(f"slim_{family}_{depth}_full_{side}", f"{family}_{depth}.slim", side, batch=1, full=True,
                 tolerance=2e-5 if depth > 100 else 1e-5)
            for depth in _FULL[family]
            for side in (64, 225)
        ),
    ]  # fmt: skip


CASES = [*_cases("resnet_v1"), *_cases("resnet_v2")]


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients and the updated statistics."""
    tf, slim, nets = _modules()
    family = case.row[:9]
    module = nets[family]
    x = pictures(case.batch, 3, case.side, case.scale).transpose(0, 2, 3, 1)
    with tf.Graph().as_default(), tf.Session() as session:
        scope = slim.arg_scope(nets["utils"].resnet_arg_scope())
        with scope:
            logits, ends = _network(module, family, case, tf.constant(x))
        wanted = _endpoints(tf, ends, logits, family, case)
        variables = {_our_key(one.op.name): one for one in tf.global_variables()}
        session.run(
            [one.initializer for one in variables.values()],
            {one.initializer.inputs[1]: _theirs(key, one.shape.as_list()) for key, one in variables.items()},
        )
        arrays = {}
        if case.gradient:
            factors = loss_weights((case.batch, int(logits.shape[-1])))
            loss = tf.reduce_sum(tf.squeeze(logits, [1, 2]) * factors)
            trainable = {key: one for key, one in variables.items() if "running_" not in key}
            wanted |= {f"grad:{key}": one for key, one in zip(trainable, tf.gradients(loss, list(trainable.values())))}  # noqa: B905
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) if case.training else []
        values = session.run([wanted, *updates])[0]
        for name, value in values.items():
            arrays[name] = _ours(value, name)
        if case.training:
            for key, variable in variables.items():
                if "running_" in key:
                    arrays[f"stat:{key}"] = session.run(variable)
        return arrays


def _modules() -> tuple[Any, Any, dict[str, Any]]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # tf_slim looks for the layers of TensorFlow 1 where they stood before tf_keras moved them.
    import tf_keras
    import tf_keras.src.legacy_tf_layers as layers

    sys.modules["tf_keras.legacy_tf_layers"] = tf_keras.legacy_tf_layers = layers
    import tensorflow.compat.v1 as tf
    import tf_slim

    nets = {name: importlib.import_module(f"tf_slim.nets.{name}") for name in ("resnet_v1", "resnet_v2")}
    return tf, tf_slim, nets | {"utils": importlib.import_module("tf_slim.nets.resnet_utils")}


def _network(module: Any, family: str, case: Case, x: Any) -> tuple[Any, dict[str, Any]]:
    fields = dict(case.fields)
    options = {
        "num_classes": fields.pop("num_classes", 1001 if family == "resnet_v2" else 1000),
        "is_training": case.training,
        "output_stride": fields.pop("output_stride", None),
        "global_pool": fields.pop("global_pool", True),
        "scope": "net",
    }
    if "blocks" not in fields:
        return getattr(module, case.row.split(".")[0])(x, **options)
    utils = importlib.import_module("tf_slim.nets.resnet_utils")
    blocks = [
        utils.Block(
            block["name"],
            module.bottleneck,
            [{"depth": depth, "depth_bottleneck": width, "stride": stride} for depth, width, stride in block["rows"]],
        )
        for block in fields.pop("blocks")
    ]
    root = fields.pop("include_root_block", True)
    assert not fields, fields
    return module.resnet_v1(x, blocks, include_root_block=root, **options) if family == "resnet_v1" else (
        module.resnet_v2(x, blocks, include_root_block=root, **options)
    )  # fmt: skip


def _endpoints(tf: Any, ends: dict[str, Any], logits: Any, family: str, case: Case) -> dict[str, Any]:
    graph = tf.get_default_graph()
    wanted = {"logits": logits, "predictions": tf.nn.softmax(logits)}
    for name, value in ends.items():
        if found := re.fullmatch(r"net/(?:block|stage)(\d)(?:/unit_(\d+)/bottleneck_v\d)?", name):
            wanted[f"stage{found[1]}" + (f".unit{found[2]}" if found[2] else "")] = value
    if case.fields.get("include_root_block", True):
        wanted["stem"] = graph.get_tensor_by_name("net/pool1/MaxPool:0")
    last = ends[max(name for name in ends if re.fullmatch(r"net/(?:block|stage)\d", name))]
    if family == "resnet_v2":
        last = wanted["postnorm"] = graph.get_tensor_by_name("net/postnorm/Relu:0")
    pooled = case.fields.get("global_pool", True)
    wanted["pre_logits"] = graph.get_tensor_by_name("net/pool5:0") if pooled else last
    return wanted


_LAST = {
    "weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _our_key(name: str) -> str:
    """net/block1/unit_1/bottleneck_v2/conv1/BatchNorm/gamma -> stage1.unit1.norm1.weight."""
    parts = name.split("/")[1:]
    if parts[0] == "conv1":
        parts[0:1] = ["stem", "conv"]
    parts = [re.sub(r"^(?:block|stage)(\d)$", r"stage\1", part) for part in parts]
    parts = [re.sub(r"^unit_(\d+)$", r"unit\1", part) for part in parts]
    version = next((part for part in parts if part.startswith("bottleneck_v")), "")
    parts = [part for part in parts if not part.startswith("bottleneck_v")]
    if version == "bottleneck_v1" and "shortcut" in parts:
        parts.insert(parts.index("shortcut") + 1, "conv")
    if "BatchNorm" in parts:
        at = parts.index("BatchNorm")
        parts[at - 1 : at + 1] = [parts[at - 1].replace("conv", "norm")]
    return ".".join([*parts[:-1], _LAST[parts[-1]]])


def _theirs(key: str, shape: list[int]) -> np.ndarray:
    if len(shape) != 4:
        return parameter(key, tuple(shape))
    height, width, channels, depth = shape
    ours = (depth, channels) if key == "logits.weight" else (depth, channels, height, width)
    return parameter(key, ours).reshape(depth, channels, height, width).transpose(2, 3, 1, 0)


def _ours(value: np.ndarray, name: str) -> np.ndarray:
    """Their array in our layout: maps NCHW, weights OIHW, what was pooled to one pixel (N, C)."""
    if value.ndim != 4:
        return value
    if name.startswith("grad:"):
        value = value.transpose(3, 2, 0, 1)
        return value[:, :, 0, 0] if name == "grad:logits.weight" else value
    value = value.transpose(0, 3, 1, 2)
    return value[:, :, 0, 0] if name in {"pre_logits", "logits", "predictions"} and value.shape[2] == 1 else value
