"""torchvision's ResNets ("v1.5") and its AlexNet of one column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.parity.case import Case, plain_blocks

if TYPE_CHECKING:
    from torch import nn

OURS = "resnet_v1_{18,34,50,101,152}.torchvision, alexnet.owt"
THEIRS = "torchvision 0.29, models.resnet and models.alexnet"
ENVIRONMENT = "own"

# Stages as torchvision can make them: four, with outputs of 64 to 512 or 256 to 2048 channels; only a bottleneck's own
# width can be chosen.
_BASIC = {
    "blocks": plain_blocks("basic", ((64, 64, 1),), ((128, 128, 2),), ((256, 256, 2),), ((512, 512, 2),)),
    "num_classes": 7,
}
_BOTTLENECK = {
    "blocks": plain_blocks(
        "bottleneck", ((256, 8, 1),), ((512, 16, 2), (512, 16, 1)), ((1024, 32, 2),), ((2048, 64, 2),)
    ),
    "num_classes": 7,
}
_ALEXNET = {
    "convs": [
        {"depth": 8, "kernel": 11, "stride": 4, "padding": 2, "after": ["pool"]},
        {"depth": 12, "kernel": 5, "padding": 2, "after": ["pool"]},
        {"depth": 16, "kernel": 3, "padding": 1},
        {"depth": 12, "kernel": 3, "padding": 1},
        {"depth": 10, "kernel": 3, "padding": 1, "after": ["pool"]},
    ],
    "hidden": [24, 20],
    "num_classes": 7,
}
_DEPTHS = (18, 34, 50, 101, 152)
_BASIC_ROW, _BOTTLENECK_ROW = "resnet_v1_18.torchvision", "resnet_v1_50.torchvision"

CASES = [
    *(Case(f"torchvision_basic_{side}", _BASIC_ROW, side, _BASIC, batch=1) for side in (64, 225)),
    *(Case(f"torchvision_bottleneck_{side}", _BOTTLENECK_ROW, side, _BOTTLENECK, batch=1) for side in (65, 224, 299)),
    Case("torchvision_basic_training_65", _BASIC_ROW, 65, _BASIC, batch=4, training=True, gradient=True),
    Case("torchvision_bottleneck_training_64", _BOTTLENECK_ROW, 64, _BOTTLENECK, batch=4, training=True),
    Case("torchvision_basic_gradient_64", _BASIC_ROW, 64, _BASIC, gradient=True),
    Case("torchvision_bottleneck_gradient_65", _BOTTLENECK_ROW, 65, _BOTTLENECK, gradient=True),
    *(Case(f"torchvision_alexnet_{side}", "alexnet.owt", side, _ALEXNET) for side in (63, 64, 224, 225, 299)),
    Case("torchvision_alexnet_gradient_224", "alexnet.owt", 224, _ALEXNET, gradient=True),
    *(
        Case(f"torchvision_resnet{depth}_full_{side}", f"resnet_v1_{depth}.torchvision", side, batch=1, full=True,
             tolerance=2e-5 if depth > 100 else 1e-5)
        for depth in _DEPTHS
        for side in (64, 225)
    ),
    *(Case(f"torchvision_alexnet_full_{side}", "alexnet.owt", side, full=True) for side in (64, 224, 225)),
]  # fmt: skip


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints and, where the case asks, the gradients and the updated statistics."""
    from tests.parity.torch_source import observed

    if case.row == "alexnet.owt":
        return observed(case, _alexnet(case.fields), _ALEXNET_MODULES, _alexnet_key)
    network = _resnet(case)
    modules = {"stem": "maxpool", "pre_logits": "avgpool"}
    for stage in range(1, 5):
        modules[f"stage{stage}"] = f"layer{stage}"
        for unit in range(1, len(network.get_submodule(f"layer{stage}")) + 1):
            modules[f"stage{stage}.unit{unit}"] = f"layer{stage}.{unit - 1}"
    return observed(case, network, modules, _resnet_key)


def _resnet(case: Case) -> nn.Module:
    from torchvision.models import resnet

    if case.full:
        return getattr(resnet, case.row.split(".")[0].replace("_v1_", ""))(weights=None)
    units = [len(block["rows"]) for block in case.fields["blocks"]]
    unit, width = (resnet.BasicBlock, 64) if case.row == _BASIC_ROW else (resnet.Bottleneck, 8)
    return resnet.ResNet(unit, units, num_classes=7, width_per_group=width)


def _resnet_key(key: str) -> str:
    """layer2.0.downsample.1.weight -> stage2.unit1.shortcut.norm.weight."""
    key = re.sub(r"^layer(\d)\.(\d+)", lambda found: f"stage{found[1]}.unit{int(found[2]) + 1}", key)
    key = key.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
    key = re.sub(r"^(conv|bn)1\.", r"stem.\1.", key).replace("bn", "norm")
    return re.sub(r"^fc\.", "logits.", key)


# What ends each of our stages in torchvision's two nn.Sequential: a max pool, or the ReLU where none follows. Its
# dropouts stand before the layers, so that the last ReLU is what the classifier sees.
_ALEXNET_MODULES = {
    "conv1": "features.2",
    "conv2": "features.5",
    "conv3": "features.7",
    "conv4": "features.9",
    "conv5": "features.12",
    "fc6": "classifier.2",
    "fc7": "classifier.5",
    "pre_logits": "classifier.5",
}
_ALEXNET_LAYERS = {
    "features.0": "conv1.conv",
    "features.3": "conv2.conv",
    "features.6": "conv3.conv",
    "features.8": "conv4.conv",
    "features.10": "conv5.conv",
    "classifier.1": "fc6.fc",
    "classifier.4": "fc7.fc",
    "classifier.6": "logits",
}


def _alexnet(fields: dict[str, Any]) -> nn.Module:
    """torchvision's network; for `fields` the same one with narrower layers put in their places."""
    import torch
    from torch import nn
    from torchvision.models import AlexNet

    if not fields:
        return AlexNet()
    with torch.device("meta"):
        network = AlexNet()
    widths = iter([*(row["depth"] for row in fields["convs"]), *fields["hidden"], fields["num_classes"]])
    channels = 3
    for part in (network.features, network.classifier):
        for place, layer in enumerate(part):
            if isinstance(layer, nn.Conv2d):
                width = next(widths)
                part[place] = nn.Conv2d(channels, width, layer.kernel_size, layer.stride, layer.padding)
                channels = width
            elif isinstance(layer, nn.Linear):
                width = next(widths)
                part[place] = nn.Linear(channels * (36 if place == 1 else 1), width)
                channels = width
    return network


def _alexnet_key(key: str) -> str:
    layer, kind = key.rsplit(".", 1)
    return f"{_ALEXNET_LAYERS[layer]}.{kind}"
