"""The fields of a spec in which layouts differ, in words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch

from skipway.data.preprocessing import preset
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.blocks import StackSpec, Stem
from skipway.models.highway import Gates, HighwayMLPSpec, HighwaySpec
from skipway.models.mlp import PlainMLPSpec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

_LIVE = {
    "running": "",
    "batch": ", with the statistics of the batch in evaluation, too",
    "batch_in_units": ", in units with the statistics of the batch in evaluation, too",
}
_ACTIVATIONS = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid"}
_CARRIES = {
    "scale": "half of it and half of the branch",
    "scale_shortcut": "half of it, and the branch",
    "exclusive_gate": "1 - g of it and g of the branch",
    "shortcut_gate": "1 - g of it, and the branch",
    "dropout": "dropout of half of it, and the branch",
}
_PADDED = {
    "after": "zeros after the channels (option A)",
    "both": "zeros on both sides (option A)",
    "before": "zeros before the channels (option A)",
}
_PROJECTED = {
    "shared": "the pre-activation",
    "raw": "the raw input",
    "first_shared": "the raw input, in the first unit of the pre-activation",
}
_FIRST_SHORTCUTS = {"raw": "from the raw input", "shared": "from the pre-activation, as the branch"}
_POOLS = {
    "valid": "unpadded, rounded down",
    "same": "TensorFlow's SAME",
    "symmetric": "half a window on every side",
    "zeros": "half a window of zeros on every side",
    "ceil": "unpadded, a last partial window counts",
}


def facts(spec: Spec) -> dict[str, str]:
    """What the layout is made of, by the name of the point."""
    return _layout(spec) | {
        "first weights": f"`{spec.initialization}`",
        "weight decay": f"{spec.weight_decay:g}",
        "picture": _picture(spec),
        "classes": f"{spec.num_classes:,}",
    }


@singledispatch
def _layout(spec: Spec) -> dict[str, str]:
    raise NotImplementedError(f"{type(spec).__name__} has no words yet; register some in skipway.drawing.facts")


@_layout.register
def _(spec: AlexNetSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    kinds: set[str] = set()
    for number, row in enumerate(spec.convs, 1):
        found[f"conv{number}"] = _conv(row)
        kinds.update(row.after)
    if "pool" in kinds:
        pool = spec.pool
        found["max pool"] = f"{pool.kernel}x{pool.kernel}/{pool.stride}, {_POOLS[pool.padding]}"
    if "norm" in kinds:
        norm = spec.norm
        alpha = f"alpha {norm.alpha:g} (divided by the window)"
        found["response norm"] = f"window {norm.size}, {alpha}, beta {norm.beta:g}, k {norm.k:g}"
    widths = ", ".join(map(str, spec.hidden))
    found["hidden layers"] = f"{widths}; {_ACTIVATIONS[spec.activation]}"
    if spec.conv_activation != "relu":
        found["behind each convolution"] = _ACTIVATIONS[spec.conv_activation]
    found["dropout"] = _dropout(spec, in_stages="dropout" in kinds)
    if spec.average_to:
        found["before the classifier"] = f"adaptive average pool to {spec.average_to}x{spec.average_to}"
    return found


def _conv(row: Conv) -> str:
    """A convolution and what follows it."""
    padding = f"padding {row.padding}"
    if row.padding == "same":
        padding = "TensorFlow's SAME"
    text = f"{row.depth} of {row.kernel}x{row.kernel}/{row.stride}, {padding}"
    if row.groups > 1:
        text += f", {row.groups} groups"
    for kind in row.after:
        text += f", then {kind}"
    return text


def _dropout(spec: AlexNetSpec, *, in_stages: bool) -> str:
    """The rate and the places of dropout; `in_stages` where it follows convolutions, too."""
    places: list[str] = []
    if spec.fc_dropout != "none":
        places.append(f"{spec.fc_dropout} each hidden layer")
    if in_stages:
        places.append("after each convolution's stage")
    if not places:
        return "none"
    return f"{spec.dropout:g} {' and '.join(places)}"


@_layout.register
def _(spec: HighwayMLPSpec) -> dict[str, str]:
    return {"layers": f"one plain, {spec.layers - 1} highway, {spec.width} units each", **_gates(spec)}


@_layout.register
def _(spec: PlainMLPSpec) -> dict[str, str]:
    return {"layers": f"{spec.layers} plain, {spec.width} units each; {_ACTIVATIONS[spec.activation]}"}


@_layout.register
def _(spec: HighwaySpec) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, row in enumerate(spec.stages, 1):
        kernels = ", ".join(f"{kernel}x{kernel}" for kernel in row.kernels)
        found[f"stage{number}"] = f"{row.depth} channels: a plain 3x3, then highway units of {kernels}"
    found["between stages"] = "max pool 2x2/2"
    found["head"] = f"1x1 convolution to {spec.last_width} channels, mean over the map"
    found["dropout"] = f"{spec.dropout:g} of the picture, after each pool, before the classifier"
    return found | _gates(spec)


def _gates(spec: Gates) -> dict[str, str]:
    """How highway units are made."""
    carry = "a gate of its own"
    if spec.carry == "coupled":
        carry = "1 - T"
    return {
        "H": _ACTIVATIONS[spec.activation],
        "gate bias at first": f"{spec.gate_bias:g}",
        "carry": carry,
    }


@_layout.register
def _(spec: StackSpec) -> dict[str, str]:
    norm = spec.norm
    decay = f"(decay {1 - norm.momentum:g})"
    stages: list[str] = []
    for placed in spec.placed():
        last_row, _ = placed[-1]
        stages.append(f"{len(placed)} x {last_row[0]}")
    found = {
        "stem": _stem(spec.stem),
        "stages": f"{'; '.join(stages)} ({spec.blocks[0].unit} units: number x channels)",
        "stride": _stride_place(spec),
        **_shortcuts(spec),
        "batch normalization": f"epsilon {norm.eps:g}, momentum {norm.momentum:g} {decay}{_LIVE[norm.statistics]}",
        "convolutions with bias": _biases(spec),
    }
    if spec.head != "global":
        found["head"] = "2x2 average pool, flattened"
    return found


def _stem(stem: Stem) -> str:
    """The first convolution and its pool."""
    pool = "no pool"
    if stem.pool is not None:
        pool = f"max pool 3x3/2: {_POOLS[stem.pool]}"
    return f"{stem.width} of {stem.kernel}x{stem.kernel}/{stem.stride}; {pool}"


def _stride_place(spec: StackSpec) -> str:
    """In which unit of a stage, and in which of its convolutions."""
    unit = "the first unit of a stage"
    for block in spec.blocks:
        _, _, last_stride = block.rows[-1]
        if len(block.rows) > 1 and last_stride > 1:
            unit = "the last unit of a stage"
    convolution = "3x3"
    if spec.blocks[0].unit == "basic":
        convolution = "first 3x3"
    elif getattr(spec, "stride_in", "first") == "first":
        convolution = "first 1x1"
    return f"{convolution} of {unit}"


def _shortcuts(spec: StackSpec) -> dict[str, str]:
    """What shortcuts do, where there are any."""
    if isinstance(spec, ResNetV1Spec):
        return _shortcuts_v1(spec)
    if isinstance(spec, ResNetV2Spec):
        return _shortcuts_v2(spec)
    return {"shortcut": "none"}


def _shortcuts_v1(spec: ResNetV1Spec) -> dict[str, str]:
    """What the shortcuts of a ResNet v1 do."""
    normalized = spec.projection == "normalized"
    learned = "1x1 projection, no norm"
    if normalized:
        learned = "1x1 projection, normalized"
    if spec.shortcut == "projection_all":
        return {"shortcut": f"{learned} (option C: in every unit)"}
    text = learned
    if spec.shortcut == "pad":
        text = _PADDED[spec.pad]
    elif normalized:
        text = f"{learned} (option B)"
    found = {"shortcut where the depth changes": text}
    if spec.carry != "identity":
        found["shortcut that learns nothing"] = _CARRIES[spec.carry]
    if spec.carry in {"exclusive_gate", "shortcut_gate"}:
        found["gate"] = f"g = sigmoid(1x1 convolution of the unit's input), bias at first {spec.gate_bias:g}"
    return found


def _shortcuts_v2(spec: ResNetV2Spec) -> dict[str, str]:
    """What the shortcuts of a ResNet v2 do."""
    if spec.shortcut == "projection":
        start = _PROJECTED[spec.projection]
        return {"shortcut where the depth changes": f"1x1 projection of {start}, no norm"}
    return {
        "shortcut where the depth changes": _PADDED[spec.pad],
        "shortcut of a stage's first unit": _FIRST_SHORTCUTS[spec.first_shortcut],
    }


def _biases(spec: StackSpec) -> str:
    """Which convolutions have a bias."""
    if getattr(spec, "conv_bias", False):
        return "all"
    places: list[str] = []
    if spec.stem.bias:
        places.append("the stem's")
    if getattr(spec, "open_bias", False):
        places.append("projections and each unit's last")
    if not places:
        return "none"
    return ", ".join(places)


def _picture(spec: Spec) -> str:
    """How a picture becomes the network's input."""
    rule = preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1)
    side = f"{spec.input_size} pixels"
    if rule.resize_to != rule.size:
        side += f" cut from {rule.resize_to}"
    if rule.central < 1:
        side += f", the central {rule.central * 100:g} % of both sides"
    if rule.resize == "squash":
        side += ", squashed"
    if rule.kernel != "bilinear":
        side += f", {rule.kernel}"
    channels: str = rule.channels
    if rule.channels == "L":
        channels = "grey"
    values = "counts / 255"
    if rule.scale == 1:
        values = "counts"
    if any(rule.mean):
        values += f" - ({_numbers(rule.mean)})"
    if any(deviation != 1 for deviation in rule.std):
        values += f" over ({_numbers(rule.std)})"
    return f"{side}, {channels}, {values} (`{spec.preprocessing}`)"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
