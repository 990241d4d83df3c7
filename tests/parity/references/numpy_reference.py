"""Plain NumPy in float64, written from the papers' formulas (see `numpy_layers` and `numpy_networks`)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.parity.case import Case, plain_blocks
from tests.parity.formula import loss_weights, pictures

OURS = "Highway, plain, CIFAR ResNets v1 and v2, resnet_v1_{18,34,50}.original, alexnet.caffe, alexnet.caffenet"
THEIRS = "NumPy float64 from the papers' formulas"
ENVIRONMENT = "own"

_FEW = {"num_classes": 7}
_STAGES = [{"depth": 8, "kernels": [3, 3]}, {"depth": 12, "kernels": [1, 3]}, {"depth": 10, "kernels": [3]}]
_HIGHWAY = {"stages": _STAGES, "last_width": 9} | _FEW
_FREE = {"carry": "free", "activation": "tanh"}
_MLP = {"layers": 4, "width": 20}
_CIFAR_STEM = {"kernel": 3, "stride": 1, "width": 8, "pool": None}
_BASIC = _FEW | {
    "stem": _CIFAR_STEM,
    "blocks": plain_blocks("basic", ((8, 8, 1), (8, 8, 1)), ((12, 12, 2), (12, 12, 1)), ((18, 18, 2),)),
}
_TWO_STAGES = _BASIC | {"blocks": plain_blocks("basic", ((8, 8, 1), (8, 8, 1)), ((12, 12, 2),))}
_BOTTLENECK = _FEW | {
    "stem": _CIFAR_STEM,
    "blocks": plain_blocks("bottleneck", ((16, 4, 1),), ((24, 6, 2), (24, 6, 1)), ((32, 8, 2),)),
}
_PROJECTED = {"shortcut": "projection"}
_IMAGENET = _FEW | {
    "stem": {"width": 12, "pool": "ceil"},
    "blocks": plain_blocks("basic", ((12, 12, 1), (12, 12, 1)), ((16, 16, 2),), ((24, 24, 2),), ((28, 28, 2),)),
}
_CAFFE_50 = _FEW | {"stem": {"width": 10, "pool": "ceil", "bias": True}}
_ORIGINAL_BOTTLENECK = _CAFFE_50 | {
    "blocks": plain_blocks("bottleneck", ((16, 4, 1), (16, 4, 1)), ((24, 6, 2),), ((32, 8, 2),), ((40, 8, 2),)),
}
# Batch statistics blow rounding up: two stages.
_BOTTLENECK_STAGES = _CAFFE_50 | {"blocks": plain_blocks("bottleneck", ((16, 4, 1), (16, 4, 1)), ((24, 6, 2),))}
# A plain net with running statistics forgets its picture on the way to the last layers, and answers with its biases.
# Pictures loud enough survive: row, side, scale. In 110 layers fp32's own rounding would then grow to 5e-5 (in float64
# ours is within 2e-13), so that there the picture reaches the second stage only.
_PLAIN = (
    ("plain_18", 64, 1.0),
    ("plain_18", 65, 1e3),
    ("plain_34", 64, 1.0),
    ("plain_34", 65, 1e5),
    ("plain_20.cifar", 32, 1.0),
    ("plain_20.cifar", 33, 1e3),
    ("plain_32.cifar", 33, 1e5),
    ("plain_44.cifar", 33, 1e7),
    ("plain_56.cifar", 33, 1e9),
    ("plain_110.cifar", 33, 1e6),
)
# Caffe's pictures are bytes less their mean: only then does the response norm do much.
_CAFFE_RANGE = 128.0
_ALEXNET_DEPTHS, _ALEXNET_HIDDEN = [12, 16, 12, 16, 8], [24, 20]


def _alexnet(name: str, side: int) -> dict[str, Any]:
    """Fields of a narrow AlexNet for pictures of one size."""
    first = ["norm", "pool"] if name == "alexnet.caffe" else ["pool", "norm"]
    depths = _ALEXNET_DEPTHS
    convs = [
        {"depth": depths[0], "kernel": 11, "stride": 4, "after": first},
        {"depth": depths[1], "kernel": 5, "padding": 2, "groups": 2, "after": first},
        {"depth": depths[2], "kernel": 3, "padding": 1},
        {"depth": depths[3], "kernel": 3, "padding": 1, "groups": 2},
        {"depth": depths[4], "kernel": 3, "padding": 1, "groups": 2, "after": ["pool"]},
    ]
    return {"convs": convs, "hidden": _ALEXNET_HIDDEN, "input_size": side} | _FEW


def _full(row: str, side: int, tolerance: float = 1e-5, scale: float = 1.0, **fields: Any) -> Case:
    tag = "_".join([row.replace(".", "_"), *map(str, fields.values()), str(side)])
    return Case(f"numpy_{tag}_full", row, side, fields, batch=1, full=True, scale=scale, tolerance=tolerance)


CASES = [
    Case("numpy_highway_mlp_10", "highway_mlp_10", 28),
    Case("numpy_highway_mlp_20", "highway_mlp_20", 28, batch=1),
    *(_full(f"highway_mlp_{depth}", 28) for depth in (50, 100)),
    Case("numpy_highway_mlp_gradient", "highway_mlp_10", 28, _MLP, gradient=True),
    Case("numpy_highway_mlp_free_gradient", "highway_mlp_10", 28, _MLP | _FREE, gradient=True),
    Case("numpy_highway_32", "highway_19.cifar", 32, _HIGHWAY),
    Case("numpy_highway_free_33", "highway_19.cifar", 33, _HIGHWAY | _FREE),
    Case("numpy_highway_gradient_32", "highway_19.cifar", 32, _HIGHWAY, gradient=True),
    *(_full(f"highway_{depth}.cifar", side) for depth in (19, 32) for side in (32, 33)),
    *(Case(f"numpy_plain_18_{side}", "plain_18", side, _IMAGENET, batch=1) for side in (64, 65, 224, 225, 299)),
    *(_full(row, side, 2e-5 if "110" in row else 1e-5, scale=scale) for row, side, scale in _PLAIN),
    *(Case(f"numpy_plain_cifar_{side}", "plain_20.cifar", side, _BASIC, batch=1) for side in (32, 33)),
    Case("numpy_plain_cifar_gradient_32", "plain_20.cifar", 32, _TWO_STAGES, gradient=True),
    Case("numpy_plain_cifar_training_32", "plain_20.cifar", 32, _TWO_STAGES, batch=4, training=True, gradient=True),
    *(Case(f"numpy_resnet_v1_cifar_{side}", "resnet_v1_20.cifar", side, _BASIC, batch=1) for side in (32, 33)),
    Case("numpy_resnet_v1_cifar_projection_33", "resnet_v1_20.cifar", 33, _BASIC | _PROJECTED, batch=1),
    Case("numpy_resnet_v1_cifar_gradient_33", "resnet_v1_20.cifar", 33, _TWO_STAGES, gradient=True),
    Case("numpy_resnet_v1_cifar_training_32", "resnet_v1_20.cifar", 32,
         _TWO_STAGES | _PROJECTED, batch=4, training=True, gradient=True),
    *(_full(f"resnet_v1_{depth}.cifar", 32, 2e-5 if depth > 100 else 1e-5, **fields)
      for depth in (20, 32, 44, 56, 110) for fields in ({}, _PROJECTED)),
    *(Case(f"numpy_resnet_v2_cifar_{side}", "resnet_v2_20.cifar", side, _BASIC, batch=1) for side in (32, 33)),
    *(Case(f"numpy_resnet_v2_cifar_bottleneck_{side}", "resnet_v2_164.cifar", side, _BOTTLENECK, batch=1)
      for side in (32, 33)),
    Case("numpy_resnet_v2_cifar_training_32", "resnet_v2_20.cifar", 32, _TWO_STAGES, batch=4, training=True),
    Case("numpy_resnet_v2_cifar_gradient_32", "resnet_v2_20.cifar", 32, _TWO_STAGES, gradient=True),
    Case("numpy_resnet_v2_cifar_bottleneck_gradient_33", "resnet_v2_164.cifar", 33, _BOTTLENECK, gradient=True),
    *(_full(f"resnet_v2_{depth}.cifar", 32, 2e-5 if depth > 100 else 1e-5) for depth in (20, 56, 110, 164, 1001)),
    *(Case(f"numpy_resnet_v1_original_{side}", "resnet_v1_18.original", side, _IMAGENET, batch=1)
      for side in (64, 65)),
    *(Case(f"numpy_resnet_v1_50_original_{side}", "resnet_v1_50.original", side, _ORIGINAL_BOTTLENECK, batch=1)
      for side in (64, 65)),
    Case("numpy_resnet_v1_50_original_training_33", "resnet_v1_50.original", 33, _BOTTLENECK_STAGES, batch=4,
         training=True, gradient=True),
    *(_full(f"resnet_v1_{depth}.original", side) for depth in (18, 34, 50) for side in (64, 225)),
    *(Case(f"numpy_alexnet_{name}_{side}", f"alexnet.{name}", side, _alexnet(f"alexnet.{name}", side),
           scale=_CAFFE_RANGE) for name in ("caffe", "caffenet") for side in (224, 227)),
    Case("numpy_alexnet_caffe_gradient_227", "alexnet.caffe", 227, _alexnet("alexnet.caffe", 227), gradient=True,
         scale=_CAFFE_RANGE),
    *(_full(f"alexnet.{name}", 227, scale=_CAFFE_RANGE) for name in ("caffe", "caffenet")),
]  # fmt: skip


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients and the updated statistics."""
    from tests.parity.numpy_layers import Tape, Value, softmax

    tape = Tape(training=case.training, recording=case.gradient)
    channels = 1 if case.row.startswith("highway_mlp") else 3
    x = Value(pictures(case.batch, channels, case.side, case.scale).astype(np.float64))
    arrays: dict[str, np.ndarray] = {}
    logits = _network(case, tape, x, lambda name, value: arrays.__setitem__(name, value.data))
    arrays |= {"logits": logits.data, "predictions": softmax(logits.data)}
    if case.training:
        arrays |= {f"stat:{key}": value for key, value in tape.statistics.items()}
    if case.gradient:
        tape.backward(logits, loss_weights(logits.data.shape).astype(np.float64))
        arrays |= {f"grad:{key}": value.gradient for key, value in tape.parameters.items()}
    return arrays


def _network(case: Case, tape: Any, x: Any, note: Any) -> Any:
    """The network of a row, at the paper's size unless the case's fields say otherwise."""
    from tests.parity import numpy_networks as networks

    fields, row = case.fields, case.row
    gates = {"tanh": fields.get("activation") == "tanh", "free": fields.get("carry") == "free"}
    if row.startswith("highway_mlp"):
        depth, width = fields.get("layers", int(row.split("_")[-1])), fields.get("width", 50)
        return networks.highway_mlp(tape, x, note, depth=depth, width=width, classes=10, **gates)
    if row.startswith("highway"):
        stages, last = _highway_stages(row), 100
        if "stages" in fields:
            stages = [(stage["depth"], tuple(stage["kernels"])) for stage in fields["stages"]]
            last = fields["last_width"]
        classes = fields.get("num_classes", 10)
        return networks.highway(tape, x, note, stages=stages, last=last, classes=classes, **gates)
    if row.startswith("alexnet"):
        tiny = bool(fields)
        return networks.alexnet(
            tape, x, note, depths=_ALEXNET_DEPTHS if tiny else [96, 256, 384, 384, 256],
            hidden=_ALEXNET_HIDDEN if tiny else [4096, 4096], classes=fields.get("num_classes", 1000),
            norm_first=row == "alexnet.caffe",
        )  # fmt: skip
    return networks.column(tape, x, note, **_column(row, fields))


def _highway_stages(row: str) -> list[tuple[int, tuple[int, ...]]]:
    """19 layers: the authors' network. 32 layers: kernels of 1 and 3 in turn; its widths are our own choice."""
    if row.startswith("highway_19"):
        return [(32, (3,) * 4), (80, (3,) * 5), (128, (3,) * 5)]
    return [(width, (1, 3) * 4 + (1,)) for width in (32, 64, 96)]


def _column(row: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Stem, units and stages of a plain or residual net (He et al. 2015, table 1 and section 4.2)."""
    from tests.parity import numpy_networks as networks

    found = re.match(r"(plain|resnet_v1|resnet_v2)_(\d+)", row)
    assert found is not None
    family, depth = found[1], int(found[2])
    cifar, preactivated = row.endswith(".cifar"), family == "resnet_v2"
    bottleneck = depth >= (164 if cifar else 50)
    projected = bottleneck or fields.get("shortcut") == "projection"
    if cifar:
        stem = networks.cifar_stem(fields["stem"]["width"] if "stem" in fields else 16, preactivated=preactivated)
    else:
        # Only the released prototxt of 50 layers has a bias in the first convolution.
        width = fields["stem"]["width"] if "stem" in fields else 64
        stem = networks.imagenet_stem(width, bias=row == "resnet_v1_50.original")
    if "blocks" in fields:
        stages = [[tuple(unit) for unit in block["rows"]] for block in fields["blocks"]]
    else:
        stages = _cifar_stages(depth) if cifar else _imagenet_stages(depth)
    units = {"resnet_v1": networks.residual_v1, "resnet_v2": networks.residual_v2}
    return {
        "stem": stem,
        "unit": units[family](bottleneck=bottleneck, projected=projected) if family in units else networks.plain_unit,
        "stages": stages,
        "classes": fields.get("num_classes", 10 if cifar else 1000),
        "preactivated": preactivated,
    }


def _cifar_stages(depth: int) -> list[list[tuple[int, int, int]]]:
    """6n + 2 layers of two 3x3, or 9n + 2 of bottlenecks; 16, 32, 64 filters at 32, 16, 8 pixels."""
    units, widen = ((depth - 2) // 9, 4) if depth >= 164 else ((depth - 2) // 6, 1)
    return [
        [(widen * width, width, 2 if width > 16 and unit == 0 else 1) for unit in range(units)]
        for width in (16, 32, 64)
    ]


def _imagenet_stages(depth: int) -> list[list[tuple[int, int, int]]]:
    """Table 1: conv2_x to conv5_x."""
    counts = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    widen = 4 if depth >= 50 else 1
    return [
        [(widen * width, width, 2 if width > 64 and unit == 0 else 1) for unit in range(units)]
        for width, units in zip((64, 128, 256, 512), counts, strict=True)
    ]
