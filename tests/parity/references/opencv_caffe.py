"""Caffe's networks as OpenCV's importer reads and runs them, from a prototxt and a caffemodel written here.

The layers and their settings are those of the released prototxts: BVLC's bvlc_alexnet and bvlc_reference_caffenet, and
the ResNets of the paper's authors, whose last pool, of 7x7, is global here for pictures of other sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.parity.caffe_writer import Layer, caffemodel, prototxt
from tests.parity.case import Case, plain_blocks
from tests.parity.formula import parameter, pictures

OURS = "alexnet.caffe, alexnet.caffenet, resnet_v1_{50,101,152}.original"
THEIRS = "OpenCV 4.11, dnn.readNetFromCaffe"
ENVIRONMENT = "tensorflow"

_DEPTHS, _HIDDEN, _CLASSES = (96, 256, 384, 384, 256), (4096, 4096), 1000
_FEW_DEPTHS, _FEW_HIDDEN, _FEW_CLASSES = (12, 16, 12, 16, 8), (24, 20), 7
_BLOCKS = plain_blocks(
    "bottleneck",
    ((16, 4, 1), (16, 4, 1)),
    ((24, 6, 2), (24, 6, 1)),
    ((32, 8, 2),),
    ((40, 8, 2), (40, 8, 1)),
)
# Caffe's pictures are bytes less their mean: only then does the response norm do much.
_RANGE = 128.0
# The third blob of Caffe's BatchNorm divides the two others: their sums over the batches that it counts.
_FACTOR = 2.0


def _alexnet_fields(row: str, side: int) -> dict[str, Any]:
    first = ["norm", "pool"] if row == "alexnet.caffe" else ["pool", "norm"]
    kinds: tuple[dict[str, Any], ...] = (
        {"kernel": 11, "stride": 4, "after": first},
        {"kernel": 5, "padding": 2, "groups": 2, "after": first},
        {"kernel": 3, "padding": 1},
        {"kernel": 3, "padding": 1, "groups": 2},
        {"kernel": 3, "padding": 1, "groups": 2, "after": ["pool"]},
    )
    convs = [{"depth": depth} | kind for depth, kind in zip(_FEW_DEPTHS, kinds, strict=True)]
    return {"convs": convs, "hidden": list(_FEW_HIDDEN), "num_classes": _FEW_CLASSES, "input_size": side}


def _resnet_fields(*, bias: bool) -> dict[str, Any]:
    stem = {"width": 12, "pool": "ceil", "bias": bias}
    return {"blocks": _BLOCKS, "stem": stem, "num_classes": _FEW_CLASSES}


CASES = [
    *(Case(f"opencv_{row.replace('.', '_')}_{side}", row, side, _alexnet_fields(row, side), scale=_RANGE)
      for row in ("alexnet.caffe", "alexnet.caffenet") for side in (224, 225, 227, 231)),
    *(Case(f"opencv_resnet_v1_50_{side}", "resnet_v1_50.original", side, _resnet_fields(bias=True), batch=1)
      for side in (64, 224, 225, 299)),
    Case("opencv_resnet_v1_101_65", "resnet_v1_101.original", 65, _resnet_fields(bias=False), batch=1),
    *(Case(f"opencv_{row.replace('.', '_')}_full_227", row, 227, full=True, scale=_RANGE)
      for row in ("alexnet.caffe", "alexnet.caffenet")),
    *(Case(f"opencv_resnet_v1_{depth}_full_{side}", f"resnet_v1_{depth}.original", side, batch=1, full=True,
           tolerance=2e-5 if depth > 100 else 1e-5)
      for depth in (50, 101, 152) for side in (64, 225)),
]  # fmt: skip


def run(case: Case) -> dict[str, np.ndarray]:
    """All endpoints: what the layer of that name holds when OpenCV has run the network."""
    import cv2

    net = _Prototxt((case.batch, 3, case.side, case.side))
    endpoints = _alexnet(net, case) if case.row.startswith("alexnet") else _resnet(net, case)
    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromCaffe(
        np.frombuffer(prototxt(net.shape, net.layers), np.uint8), np.frombuffer(caffemodel(net.layers), np.uint8)
    )
    network.enableWinograd(False)  # another formula, with larger rounding errors
    network.setInput(pictures(case.batch, 3, case.side, case.scale))
    # Every layer that an endpoint ends in is asked for, so that none is fused into the next.
    found = dict(zip(endpoints.values(), network.forward(list(endpoints.values())), strict=True))
    arrays = {ours: np.array(found[theirs]) for ours, theirs in endpoints.items()}
    return arrays | {"pre_logits": arrays["pre_logits"].reshape(case.batch, -1)}


class _Prototxt:
    """Layers one after another; sizes are followed only as far as the first dense layer needs them."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape
        self.layers: list[Layer] = []

    def add(self, name: str, kind: str, *bottoms: str, top: str = "", settings: str = "", blobs: Any = ()) -> str:
        self.layers.append(Layer(name, kind, bottoms, top or name, settings, tuple(blobs)))
        return top or name

    def convolution(
        self, name: str, bottom: str, key: str, shape: tuple[int, int, int], *, stride: int = 1, padding: int = 0,
        groups: int = 1, bias: bool = False,
    ) -> str:  # fmt: skip
        """`shape`: channels, depth, kernel."""
        channels, depth, kernel = shape
        settings = (
            f"convolution_param {{ num_output: {depth} kernel_size: {kernel} stride: {stride} pad: {padding} "
            f"group: {groups} bias_term: {str(bias).lower()} }}"
        )
        blobs = [parameter(f"{key}.weight", (depth, channels // groups, kernel, kernel))]
        blobs += [parameter(f"{key}.bias", (depth,))] if bias else []
        return self.add(name, "Convolution", bottom, settings=settings, blobs=blobs)

    def normalization(self, suffix: str, bottom: str, key: str, depth: int) -> str:
        """BatchNorm and Scale, both in place."""
        mean, variance = (parameter(f"{key}.running_{kind}", (depth,)) * _FACTOR for kind in ("mean", "var"))
        self.add(f"bn{suffix}", "BatchNorm", bottom, top=bottom, blobs=[mean, variance, np.array([_FACTOR])],
                 settings="batch_norm_param { use_global_stats: true eps: 1e-5 }")  # fmt: skip
        blobs = [parameter(f"{key}.{kind}", (depth,)) for kind in ("weight", "bias")]
        return self.add(f"scale{suffix}", "Scale", bottom, top=bottom, settings="scale_param { bias_term: true }",
                        blobs=blobs)  # fmt: skip

    def relu(self, name: str, bottom: str) -> str:
        return self.add(name, "ReLU", bottom, top=bottom)

    def pool(self, name: str, bottom: str) -> str:
        return self.add(name, "Pooling", bottom, settings="pooling_param { pool: MAX kernel_size: 3 stride: 2 }")

    def dense(self, name: str, bottom: str, key: str, features: int, width: int) -> str:
        blobs = [parameter(f"{key}.weight", (width, features)), parameter(f"{key}.bias", (width,))]
        return self.add(name, "InnerProduct", bottom, settings=f"inner_product_param {{ num_output: {width} }}",
                        blobs=blobs)  # fmt: skip


def _alexnet(net: _Prototxt, case: Case) -> dict[str, str]:
    """The layers of the two deploy.prototxt; returns for each of our endpoints the name of its layer."""
    few = bool(case.fields)
    depths, hidden = (_FEW_DEPTHS, _FEW_HIDDEN) if few else (_DEPTHS, _HIDDEN)
    kinds: tuple[dict[str, int], ...] = (
        {"kernel": 11, "stride": 4},
        {"kernel": 5, "padding": 2, "groups": 2},
        {"kernel": 3, "padding": 1},
        {"kernel": 3, "padding": 1, "groups": 2},
        {"kernel": 3, "padding": 1, "groups": 2},
    )
    x, channels, side, endpoints = "data", 3, case.side, {}
    for number, (depth, kind) in enumerate(zip(depths, kinds, strict=True), 1):
        places = {name: value for name, value in kind.items() if name != "kernel"}
        shape = channels, depth, kind["kernel"]
        x = net.convolution(f"conv{number}", x, f"conv{number}.conv", shape, bias=True, **places)
        side = (side + 2 * kind.get("padding", 0) - kind["kernel"]) // kind.get("stride", 1) + 1
        endpoints[f"conv{number}"] = f"relu{number}"
        net.relu(f"relu{number}", x)
        after = {1: ("norm", "pool"), 2: ("norm", "pool"), 5: ("pool",)}.get(number, ())
        for layer in after if case.row == "alexnet.caffe" else reversed(after):
            name = endpoints[f"conv{number}"] = f"{layer}{number}"
            if layer == "pool":
                x, side = net.pool(name, x), -(-(side - 3) // 2) + 1
            else:
                x = net.add(name, "LRN", x, settings="lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
        channels = depth
    features = channels * side**2
    for number, width in enumerate(hidden, 6):
        x = net.dense(f"fc{number}", x, f"fc{number}.fc", features, width)
        endpoints[f"fc{number}"] = f"relu{number}"
        net.relu(f"relu{number}", x)
        net.add(f"drop{number}", "Dropout", x, top=x, settings="dropout_param { dropout_ratio: 0.5 }")
        features = width
    x = net.dense("fc8", x, "logits", features, _FEW_CLASSES if few else _CLASSES)
    net.add("prob", "Softmax", x)
    return endpoints | {"pre_logits": endpoints["fc7"], "logits": "fc8", "predictions": "prob"}


def _resnet(net: _Prototxt, case: Case) -> dict[str, str]:
    """The layers of ResNet-50-deploy.prototxt or its deeper sisters, which leave conv1 its bias or not."""
    blocks, width = case.fields.get("blocks"), case.fields.get("stem", {}).get("width", 64)
    stages = [block["rows"] for block in blocks] if blocks else _table_1(int(case.row.split("_")[2].split(".")[0]))
    x = net.convolution("conv1", "data", "stem.conv", (3, width, 7), stride=2, padding=3,
                        bias=case.row == "resnet_v1_50.original")  # fmt: skip
    net.normalization("_conv1", x, "stem.norm", width)
    net.relu("conv1_relu", x)
    x = net.pool("pool1", x)
    endpoints, channels = {"stem": x}, width
    for stage, rows in enumerate(stages, 1):
        for number, row in enumerate(rows, 1):
            x = _bottleneck(net, x, f"{stage + 1}{'a' if number == 1 else f'b{number - 1}'}",
                            f"stage{stage}.unit{number}", channels, row)  # fmt: skip
            endpoints[f"stage{stage}.unit{number}"] = endpoints[f"stage{stage}"] = f"{x}_relu"
            channels = row[0]
    x = net.add("pool5", "Pooling", x, settings="pooling_param { pool: AVE global_pooling: true }")
    endpoints["pre_logits"] = x
    x = net.dense("fc1000", x, "logits", channels, _CLASSES if case.full else _FEW_CLASSES)
    net.add("prob", "Softmax", x)
    return endpoints | {"logits": x, "predictions": "prob"}


def _bottleneck(net: _Prototxt, x: str, tag: str, key: str, channels: int, row: tuple[int, int, int]) -> str:
    """res2a: branch1 is the shortcut, branch2a to branch2c are the three convolutions, the stride in the first."""
    depth, width, stride = row
    kept = x
    if channels != depth:
        kept = net.convolution(f"res{tag}_branch1", x, f"{key}.shortcut.conv", (channels, depth, 1), stride=stride)
        net.normalization(f"{tag}_branch1", kept, f"{key}.shortcut.norm", depth)
    shapes = (channels, width, 1), (width, width, 3), (width, depth, 1)
    for number, (letter, shape) in enumerate(zip("abc", shapes, strict=True), 1):
        branch = f"{tag}_branch2{letter}"
        x = net.convolution(f"res{branch}", x, f"{key}.conv{number}", shape, stride=stride if number == 1 else 1,
                            padding=shape[2] // 2)  # fmt: skip
        net.normalization(branch, x, f"{key}.norm{number}", shape[1])
        if letter != "c":
            net.relu(f"res{branch}_relu", x)
    x = net.add(f"res{tag}", "Eltwise", kept, x)
    net.relu(f"res{tag}_relu", x)
    return x


def _table_1(depth: int) -> list[list[tuple[int, int, int]]]:
    """Rows of the four stages of He et al. 2015, table 1."""
    counts = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    return [
        [(4 * width, width, 2 if width > 64 and unit == 0 else 1) for unit in range(units)]
        for width, units in zip((64, 128, 256, 512), counts, strict=True)
    ]
