"""The networks of the papers, in NumPy: Highway, plain and residual ones, AlexNet as Caffe computes it.

Each function runs on (N, C, H, W), calls `note(name, value)` at each endpoint and returns the logits. Rows are (depth,
width, stride): a unit's output channels, those inside it, its stride.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.parity import numpy_layers as layers
from tests.parity.numpy_layers import Tape, Value

Note = Callable[[str, Value], None]
Row = tuple[int, int, int]
Unit = Callable[[Tape, Value, str, Row], Value]


def highway_gates(tape: Tape, x: Value, h: Value, t: Value, c: Value | None) -> Value:
    """y = H(x) T(x) + x C(x), and C = 1 - T where it has no gate of its own (Srivastava et al. 2015, eqs. 2 and 3)."""
    kept = layers.one_minus(tape, t) if c is None else c
    return layers.add(tape, layers.multiply(tape, h, t), layers.multiply(tape, x, kept))


def highway_mlp(
    tape: Tape, x: Value, note: Note, *, depth: int, width: int, classes: int, tanh: bool, free: bool
) -> Value:
    """A dense layer, `depth - 1` highway layers, a classifier (section 3.1)."""
    activation = layers.tanh if tanh else layers.relu
    x = activation(tape, layers.dense(tape, layers.flatten(tape, x), "stem", width))
    note("stem", x)
    for number in range(1, depth):
        key = f"unit{number}"
        h = activation(tape, layers.dense(tape, x, f"{key}.transform", width))
        t = layers.sigmoid(tape, layers.dense(tape, x, f"{key}.gate", width))
        c = layers.sigmoid(tape, layers.dense(tape, x, f"{key}.carry", width)) if free else None
        x = highway_gates(tape, x, h, t, c)
        note(key, x)
    note("pre_logits", x)
    return layers.dense(tape, x, "logits", classes)


def highway(
    tape: Tape, x: Value, note: Note, *, stages: list[tuple[int, tuple[int, ...]]], last: int, classes: int,
    tanh: bool, free: bool,
) -> Value:  # fmt: skip
    """Stages (channels, kernels): a 2x2 max pool from the second on, a plain 3x3 convolution, highway layers of those
    kernels; then a 1x1 convolution and the mean over the map (section 3.3)."""

    def gate(key: str, kernel: int) -> Value:
        return layers.conv2d(tape, x, key, x.data.shape[1], kernel, padding=kernel // 2, bias=True)

    activation = layers.tanh if tanh else layers.relu
    for stage, (channels, kernels) in enumerate(stages, 1):
        if stage > 1:
            x = layers.max_pool(tape, x, 2, 2)
        x = layers.relu(tape, layers.conv2d(tape, x, f"stage{stage}.conv", channels, 3, padding=1, bias=True))
        note(f"stage{stage}.conv", x)
        for unit, kernel in enumerate(kernels, 1):
            key = f"stage{stage}.unit{unit}"
            h = activation(tape, gate(f"{key}.transform", kernel))
            t = layers.sigmoid(tape, gate(f"{key}.gate", kernel))
            c = layers.sigmoid(tape, gate(f"{key}.carry", kernel)) if free else None
            x = highway_gates(tape, x, h, t, c)
            note(key, x)
        note(f"stage{stage}", x)
    x = layers.relu(tape, layers.conv2d(tape, x, "last_conv", last, 1, bias=True))
    note("last_conv", x)
    x = layers.global_mean(tape, x)
    note("pre_logits", x)
    return layers.dense(tape, x, "logits", classes)


def _normalized(tape: Tape, x: Value, key: str, number: int, depth: int, kernel: int, stride: int = 1) -> Value:
    """Convolution and batch normalization (He et al. 2015: "right after each convolution")."""
    x = layers.conv2d(tape, x, f"{key}.conv{number}", depth, kernel, stride=stride, padding=kernel // 2)
    return layers.batch_norm(tape, x, f"{key}.norm{number}")


def plain_unit(tape: Tape, x: Value, key: str, row: Row) -> Value:
    """Two 3x3 with normalization and ReLU: a residual unit without its shortcut."""
    depth, width, stride = row
    x = layers.relu(tape, _normalized(tape, x, key, 1, width, 3, stride))
    return layers.relu(tape, _normalized(tape, x, key, 2, depth, 3))


def _shortcut_v1(tape: Tape, x: Value, key: str, row: Row, projected: bool) -> Value:
    """Nothing where the shape stays; else option A, or B (He et al. 2015, section 3.3)."""
    depth, _, stride = row
    if x.data.shape[1] == depth and stride == 1:
        return x
    if x.data.shape[1] == depth or not projected:
        return layers.zero_padded(tape, x, depth, stride)
    x = layers.conv2d(tape, x, f"{key}.shortcut.conv", depth, 1, stride=stride)
    return layers.batch_norm(tape, x, f"{key}.shortcut.norm")


def residual_v1(*, bottleneck: bool, projected: bool) -> Unit:
    """y = relu(F(x) + shortcut(x)) with F of two 3x3, or of 1x1, 3x3, 1x1 with the stride in the first."""

    def unit(tape: Tape, x: Value, key: str, row: Row) -> Value:
        depth, width, stride = row
        first, second = (1, 3) if bottleneck else (3, 3)
        y = layers.relu(tape, _normalized(tape, x, key, 1, width, first, stride))
        y = _normalized(tape, y, key, 2, width if bottleneck else depth, second)
        if bottleneck:
            y = _normalized(tape, layers.relu(tape, y), key, 3, depth, 1)
        return layers.relu(tape, layers.add(tape, y, _shortcut_v1(tape, x, key, row, projected)))

    return unit


def residual_v2(*, bottleneck: bool, projected: bool) -> Unit:
    """y = F(relu(norm(x))) + shortcut, nothing after the sum (He et al. 2016, figure 1b).

    The first unit of each stage activates before it splits: its shortcut carries the activated signal (appendix).
    Channels of zeros follow the others (fb.resnet.torch, models/preresnet.lua: nn.Concat of the input and zeros).
    """

    def unit(tape: Tape, x: Value, key: str, row: Row) -> Value:
        depth, width, stride = row
        active = layers.relu(tape, layers.batch_norm(tape, x, f"{key}.preact"))
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        y = active
        for number, kernel in enumerate(kernels, 1):
            last = number == len(kernels)
            y = layers.conv2d(tape, y, f"{key}.conv{number}", depth if last else width, kernel,
                              stride=stride if number == 1 else 1, padding=kernel // 2)  # fmt: skip
            if not last:
                y = layers.relu(tape, layers.batch_norm(tape, y, f"{key}.norm{number}"))
        kept = active if key.endswith(".unit1") else x
        if x.data.shape[1] == depth:
            kept = layers.zero_padded(tape, kept, depth, stride) if stride > 1 else kept
        elif projected:
            kept = layers.conv2d(tape, active, f"{key}.shortcut", depth, 1, stride=stride)
        else:
            kept = layers.zero_padded(tape, kept, depth, stride, appended=True)
        return layers.add(tape, y, kept)

    return unit


def column(
    tape: Tape, x: Value, note: Note, *, stem: Callable[[Tape, Value], Value], unit: Unit, stages: list[list[Row]],
    classes: int, preactivated: bool = False,
) -> Value:  # fmt: skip
    """Stem, stages of units, the mean over the map, a classifier; pre-activated nets normalize once more at the end."""
    x = stem(tape, x)
    note("stem", x)
    for stage, rows in enumerate(stages, 1):
        for number, row in enumerate(rows, 1):
            x = unit(tape, x, f"stage{stage}.unit{number}", row)
            note(f"stage{stage}.unit{number}", x)
        note(f"stage{stage}", x)
    if preactivated:
        x = layers.relu(tape, layers.batch_norm(tape, x, "postnorm"))
        note("postnorm", x)
    x = layers.global_mean(tape, x)
    note("pre_logits", x)
    return layers.dense(tape, x, "logits", classes)


def cifar_stem(width: int, *, preactivated: bool) -> Callable[[Tape, Value], Value]:
    """3x3; pre-activated nets leave the rest to their first unit."""

    def stem(tape: Tape, x: Value) -> Value:
        x = layers.conv2d(tape, x, "stem.conv", width, 3, padding=1)
        return x if preactivated else layers.relu(tape, layers.batch_norm(tape, x, "stem.norm"))

    return stem


def imagenet_stem(width: int, *, bias: bool) -> Callable[[Tape, Value], Value]:
    """7x7 with stride 2, normalized; 3x3 max pool with stride 2, its last window partial as in Caffe."""

    def stem(tape: Tape, x: Value) -> Value:
        x = layers.conv2d(tape, x, "stem.conv", width, 7, stride=2, padding=3, bias=bias)
        x = layers.relu(tape, layers.batch_norm(tape, x, "stem.norm"))
        return layers.max_pool(tape, x, 3, 2, partial=True)

    return stem


def alexnet(
    tape: Tape, x: Value, note: Note, *, depths: list[int], hidden: list[int], classes: int, norm_first: bool
) -> Value:
    """Five convolutions of 11, 5, 3, 3, 3, the second, fourth and fifth in two groups (Krizhevsky et al. 2012, section
    3.5); response normalization with Caffe's k = 1, before the pool (BVLC AlexNet) or after it (CaffeNet)."""
    kinds: list[dict[str, Any]] = [
        {"kernel": 11, "stride": 4},
        {"kernel": 5, "padding": 2, "groups": 2},
        {"kernel": 3, "padding": 1},
        {"kernel": 3, "padding": 1, "groups": 2},
        {"kernel": 3, "padding": 1, "groups": 2},
    ]
    for number, (depth, kind) in enumerate(zip(depths, kinds, strict=True), 1):
        x = layers.relu(tape, layers.conv2d(tape, x, f"conv{number}.conv", depth, bias=True, **kind))
        if number <= 2 and norm_first:
            x = layers.response_norm(tape, x, size=5, alpha=1e-4, beta=0.75, k=1.0)
        if number in {1, 2, 5}:
            x = layers.max_pool(tape, x, 3, 2, partial=True)
        if number <= 2 and not norm_first:
            x = layers.response_norm(tape, x, size=5, alpha=1e-4, beta=0.75, k=1.0)
        note(f"conv{number}", x)
    x = layers.flatten(tape, x)
    for number, width in enumerate(hidden, 6):
        x = layers.relu(tape, layers.dense(tape, x, f"fc{number}.fc", width))
        note(f"fc{number}", x)
    note("pre_logits", x)
    return layers.dense(tape, x, "logits", classes)
