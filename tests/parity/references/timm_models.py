"""timm's pre-activation ResNets (timm.models.resnetv2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.parity.case import Case, plain_blocks

if TYPE_CHECKING:
    from torch import nn

OURS = "resnet_v2_{18,34,50,101,152}.timm"
THEIRS = "timm 1.0.31, models.resnetv2"
ENVIRONMENT = "timm"

# timm rounds widths to multiples of 8 and projects wherever a stride is.
_ROWS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((32, 8, 1), (32, 8, 1)),
    ((64, 16, 2), (64, 16, 1)),
    ((96, 24, 2),),
    ((128, 32, 2), (128, 32, 1)),
)


def _fields(unit: str, stages: int) -> dict[str, Any]:
    """A narrow network of the first stages; a basic unit is as wide as its output."""
    rows = [
        tuple((depth, width if unit == "bottleneck" else depth, stride) for depth, width, stride in stage)
        for stage in _ROWS[:stages]
    ]
    return {"stem": {"width": 16}, "num_classes": 7, "blocks": plain_blocks(unit, *rows)}


_BASIC_ROW, _BOTTLENECK_ROW = "resnet_v2_18.timm", "resnet_v2_50.timm"

CASES = [
    *(Case(f"timm_basic_{side}", _BASIC_ROW, side, _fields("basic", 4), batch=1) for side in (64, 225)),
    *(Case(f"timm_bottleneck_{side}", _BOTTLENECK_ROW, side, _fields("bottleneck", 4), batch=1)
      for side in (65, 224, 299)),
    Case("timm_basic_training_65", _BASIC_ROW, 65, _fields("basic", 2), batch=4, training=True, gradient=True),
    Case("timm_bottleneck_training_64", _BOTTLENECK_ROW, 64, _fields("bottleneck", 2), batch=4, training=True),
    Case("timm_basic_gradient_64", _BASIC_ROW, 64, _fields("basic", 2), gradient=True),
    Case("timm_bottleneck_gradient_65", _BOTTLENECK_ROW, 65, _fields("bottleneck", 2), gradient=True),
    *(
        Case(f"timm_resnetv2_{depth}_full_{side}", f"resnet_v2_{depth}.timm", side, batch=1, full=True,
             tolerance=2e-5 if depth > 100 else 1e-5)
        for depth in (18, 34, 50, 101, 152)
        for side in (64, 225)
    ),
]  # fmt: skip


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients and the updated statistics."""
    from tests.parity.torch_source import observed

    network = _network(case)
    modules = {"stem": "stem", "postnorm": "norm", "pre_logits": "head.global_pool"}
    for stage, units in enumerate(network.stages, 1):
        modules[f"stage{stage}"] = f"stages.{stage - 1}"
        for unit in range(1, len(units.blocks) + 1):
            modules[f"stage{stage}.unit{unit}"] = f"stages.{stage - 1}.blocks.{unit - 1}"
    return observed(case, network, modules, _our_key)


def _network(case: Case) -> nn.Module:
    from timm.layers import BatchNormAct2d, create_conv2d
    from timm.models import resnetv2

    if case.full:
        return getattr(resnetv2, case.row.split(".")[0].replace("_v2", "v2"))(pretrained=False)
    blocks, basic = case.fields["blocks"], case.row == _BASIC_ROW
    return resnetv2.ResNetV2(
        layers=[len(block["rows"]) for block in blocks],
        channels=tuple(block["rows"][-1][0] for block in blocks),
        num_classes=case.fields["num_classes"],
        stem_chs=case.fields["stem"]["width"],
        basic=basic,
        bottle_ratio=1.0 if basic else 0.25,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
    )


def _our_key(key: str) -> str:
    """stages.1.blocks.0.norm1.weight -> stage2.unit1.preact.weight; a norm is named after the convolution it follows,
    in timm after the one it precedes."""
    key = re.sub(
        r"^stages\.(\d)\.blocks\.(\d+)", lambda found: f"stage{int(found[1]) + 1}.unit{int(found[2]) + 1}", key
    )
    key = key.replace(".norm1.", ".preact.").replace(".norm2.", ".norm1.").replace(".norm3.", ".norm2.")
    key = key.replace("downsample.conv", "shortcut").replace("head.fc", "logits")
    return re.sub(r"^norm\.", "postnorm.", key)
