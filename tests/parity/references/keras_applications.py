"""Keras's own ResNet v1 and v2 (keras.applications.resnet, resnet_v2)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.parity.case import Case, plain_blocks

OURS = "resnet_v1_{50,101,152}.keras, resnet_v2_{50,101,152}.keras"
THEIRS = "keras.applications 2.15, ResNet50, 101, 152 and their V2"
ENVIRONMENT = "tensorflow"

# stack1 and stack2 widen by four and always project in a stage's first unit: no depth twice in a row, nor the stem's.
_TINY = {
    "resnet_v1": plain_blocks(
        "bottleneck",
        ((16, 4, 1), (16, 4, 1)),
        ((32, 8, 2), (32, 8, 1)),
        ((48, 12, 2), (48, 12, 1)),
        ((64, 16, 2), (64, 16, 1)),
    ),
    "resnet_v2": plain_blocks(
        "bottleneck",
        ((16, 4, 1), (16, 4, 2)),
        ((32, 8, 1), (32, 8, 1), (32, 8, 2)),
        ((48, 12, 1), (48, 12, 2)),
        ((64, 16, 1), (64, 16, 1)),
    ),
}
# Batch statistics blow rounding up, and among many values one ReLU flips by rounding alone: gradients of a shallow net.
_SHALLOW = {
    "resnet_v1": plain_blocks("bottleneck", ((16, 4, 1), (16, 4, 1)), ((32, 8, 2),)),
    "resnet_v2": plain_blocks("bottleneck", ((16, 4, 1), (16, 4, 2)), ((32, 8, 1), (32, 8, 1))),
}

_FAINT = {"resnet_v1": 0.01, "resnet_v2": 0.05}


def _cases(family: str) -> list[Case]:
    row, few = f"{family}_50.keras", {"blocks": _TINY[family], "num_classes": 7}
    shallow = few | {"blocks": _SHALLOW[family]}
    tiny = f"keras_applications_{family}"
    return [
        *(Case(f"{tiny}_{side}", row, side, few, batch=1) for side in (64, 65, 224, 225, 299)),
        Case(f"{tiny}_gradient_65", row, 65, shallow, gradient=True),
        # So faint that variances come near the epsilon: among all values, 1e-5 in place of 1.001e-5 shows.
        Case(f"{tiny}_training_64", row, 64, shallow, batch=4, training=True, scale=_FAINT[family]),
        # Faint pictures, so that zeros win at many borders of v2's pool: they alone give its stem's bias a gradient.
        Case(f"{tiny}_training_33", row, 33, shallow, batch=4, training=True, gradient=True, scale=0.1),
        *(
            Case(f"{tiny}_{depth}_full_{side}", f"{family}_{depth}.keras", side, batch=1, full=True,
                 tolerance=2e-5 if depth > 100 else 1e-5)
            for depth in (50, 101, 152)
            for side in (64, 225)
        ),
    ]  # fmt: skip


CASES = [*_cases("resnet_v1"), *_cases("resnet_v2")]


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients and the updated statistics."""
    from tests.parity.keras_model import arrays_of, tensorflow

    tensorflow().keras.backend.clear_session()
    model = _model(case)
    layers = {_our_name(one.name, case.row[:9]): one for one in model.layers if one.weights}
    outputs = {
        f"stage{int(found[1]) - 1}.unit{found[2]}": one.output
        for one in model.layers
        if (found := re.fullmatch(r"conv(\d)_block(\d+)_out", one.name))
    }
    # Keras lists layers by their depth in the graph: a stage's last unit comes last.
    outputs |= {name.split(".")[0]: value for name, value in outputs.items()}
    outputs |= {"stem": model.get_layer("pool1_pool").output, "pre_logits": model.get_layer("avg_pool").output}
    if case.row.startswith("resnet_v2"):
        outputs["postnorm"] = model.get_layer("post_relu").output
    return arrays_of(case, layers, outputs, model)


def _model(case: Case) -> Any:
    from keras import applications
    from keras.src.applications import resnet

    preact = case.row.startswith("resnet_v2")
    shape = (case.side, case.side, 3)
    if case.full:
        depth = case.row.removesuffix(".keras").split("_")[-1]
        return getattr(applications, f"ResNet{depth}" + ("V2" if preact else ""))(weights=None, input_shape=shape)
    stack = resnet.stack2 if preact else resnet.stack1

    def stages(x: Any) -> Any:
        for number, block in enumerate(case.fields["blocks"], 2):
            rows = block["rows"]
            stride = rows[-1 if preact else 0][2]
            x = stack(x, rows[0][1], len(rows), stride1=stride, name=f"conv{number}")
        return x

    options = {"weights": None, "input_shape": shape, "classes": case.fields["num_classes"]}
    return resnet.ResNet(stages, preact=preact, use_bias=True, **options)


_NAMES = {"conv1_conv": "stem.conv", "conv1_bn": "stem.norm", "post_bn": "postnorm", "predictions": "logits"}
_PARTS = {
    "resnet_v1": {"0_conv": "shortcut.conv", "0_bn": "shortcut.norm"},
    "resnet_v2": {"0_conv": "shortcut", "preact_bn": "preact"},
}


def _our_name(name: str, family: str) -> str:
    """conv2_block1_3_bn -> stage1.unit1.norm3."""
    if name in _NAMES:
        return _NAMES[name]
    stage, unit, part = name.split("_", 2)
    number, kind = part.split("_")
    ours = _PARTS[family].get(part) or {"conv": "conv", "bn": "norm"}[kind] + number
    return f"stage{int(stage.removeprefix('conv')) - 1}.unit{unit.removeprefix('block')}.{ours}"
