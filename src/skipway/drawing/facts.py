"""The fields of a spec that tell one layout from another, in words."""

from __future__ import annotations

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
    found = {f"conv{number}": _conv(row) for number, row in enumerate(spec.convs, 1)}
    kinds = {kind for row in spec.convs for kind in row.after}
    if "pool" in kinds:
        found["max pool"] = f"{spec.pool.kernel}x{spec.pool.kernel}/{spec.pool.stride}, {_POOLS[spec.pool.padding]}"
    if "norm" in kinds:
        norm = spec.norm
        found["response norm"] = (
            f"window {norm.size}, alpha {norm.alpha:g} (divided by the window), beta {norm.beta:g}, k {norm.k:g}"
        )
    widths = ", ".join(map(str, spec.hidden))
    found["hidden layers"] = f"{widths}; {_ACTIVATIONS[spec.activation]}"
    if spec.conv_activation != "relu":
        found["behind each convolution"] = _ACTIVATIONS[spec.conv_activation]
    places = {"none": "", "before": "before each hidden layer", "after": "after each hidden layer"}
    dropped = [places[spec.fc_dropout], "after each convolution's stage" if "dropout" in kinds else ""]
    where = " and ".join(one for one in dropped if one)
    found["dropout"] = f"{spec.dropout:g} {where}" if where else "none"
    if spec.average_to:
        found["before the classifier"] = f"adaptive average pool to {spec.average_to}x{spec.average_to}"
    return found


def _conv(row: Conv) -> str:
    padding = "TensorFlow's SAME" if row.padding == "same" else f"padding {row.padding}"
    groups = f", {row.groups} groups" if row.groups > 1 else ""
    after = "".join(f", then {kind}" for kind in row.after)
    return f"{row.depth} of {row.kernel}x{row.kernel}/{row.stride}, {padding}{groups}{after}"


@_layout.register
def _(spec: HighwayMLPSpec) -> dict[str, str]:
    return {"layers": f"one plain, {spec.layers - 1} highway, {spec.width} units each", **_gates(spec)}


@_layout.register
def _(spec: PlainMLPSpec) -> dict[str, str]:
    return {"layers": f"{spec.layers} plain, {spec.width} units each; {_ACTIVATIONS[spec.activation]}"}


@_layout.register
def _(spec: HighwaySpec) -> dict[str, str]:
    stages = [
        f"{row.depth} channels: a plain 3x3, then highway units of {', '.join(f'{one}x{one}' for one in row.kernels)}"
        for row in spec.stages
    ]
    return {
        **{f"stage{number}": text for number, text in enumerate(stages, 1)},
        "between stages": "max pool 2x2/2",
        "head": f"1x1 convolution to {spec.last_width} channels, mean over the map",
        "dropout": f"{spec.dropout:g} of the picture, after each pool, before the classifier",
        **_gates(spec),
    }


def _gates(spec: Gates) -> dict[str, str]:
    return {
        "H": _ACTIVATIONS[spec.activation],
        "gate bias at first": f"{spec.gate_bias:g}",
        "carry": "1 - T" if spec.carry == "coupled" else "a gate of its own",
    }


@_layout.register
def _(spec: StackSpec) -> dict[str, str]:
    stages = "; ".join(_stage(rows) for rows in ([row for row, _ in placed] for placed in spec.placed()))
    found = {
        "stem": _stem(spec.stem),
        "stages": f"{stages} ({spec.blocks[0].unit} units: number x channels)",
        "stride": _stride_place(spec),
        **_shortcuts(spec),
        "batch normalization": f"epsilon {spec.norm.eps:g}, momentum {spec.norm.momentum:g} (decay "
        f"{1 - spec.norm.momentum:g}){_LIVE[spec.norm.statistics]}",
        "convolutions with bias": _biases(spec),
    }
    if spec.head != "global":
        found["head"] = "2x2 average pool, flattened"
    return found


def _stage(rows: list[tuple[int, int, int]]) -> str:
    return f"{len(rows)} x {rows[-1][0]}"


def _stem(stem: Stem) -> str:
    pool = "no pool" if stem.pool is None else f"max pool 3x3/2: {_POOLS[stem.pool]}"
    return f"{stem.width} of {stem.kernel}x{stem.kernel}/{stem.stride}; {pool}"


def _stride_place(spec: StackSpec) -> str:
    """In which unit of a stage, and in which of its convolutions."""
    last = any(len(block.rows) > 1 and block.rows[-1][2] > 1 for block in spec.blocks)
    unit = f"the {'last' if last else 'first'} unit of a stage"
    if spec.blocks[0].unit == "basic":
        return f"first 3x3 of {unit}"
    first = getattr(spec, "stride_in", "first") == "first"
    return f"{'first 1x1' if first else '3x3'} of {unit}"


def _shortcuts(spec: StackSpec) -> dict[str, str]:
    if isinstance(spec, ResNetV1Spec):
        return _shortcuts_v1(spec)
    if isinstance(spec, ResNetV2Spec):
        start = {
            "shared": "the pre-activation",
            "raw": "the raw input",
            "first_shared": "the raw input, in the first unit of the pre-activation",
        }
        words = {
            "projection": f"1x1 projection of {start[spec.projection]}, no norm",
            "pad": _PADDED[spec.pad],
        }
        first = {"raw": "from the raw input", "shared": "from the pre-activation, as the branch"}
        found = {"shortcut where the depth changes": words[spec.shortcut]}
        if spec.shortcut == "pad":
            found["shortcut of a stage's first unit"] = first[spec.first_shortcut]
        return found
    return {"shortcut": "none"}


def _shortcuts_v1(spec: ResNetV1Spec) -> dict[str, str]:
    learned = "1x1 projection, " + ("normalized" if spec.projection == "normalized" else "no norm")
    if spec.shortcut == "projection_all":
        return {"shortcut": f"{learned} (option C: in every unit)"}
    words = {"projection": learned + (" (option B)" if spec.projection == "normalized" else ""),
             "pad": _PADDED[spec.pad]}  # fmt: skip
    found = {"shortcut where the depth changes": words[spec.shortcut]}
    if spec.carry != "identity":
        found["shortcut that learns nothing"] = _CARRIES[spec.carry]
    if spec.carry in {"exclusive_gate", "shortcut_gate"}:
        found["gate"] = f"g = sigmoid(1x1 convolution of the unit's input), bias at first {spec.gate_bias:g}"
    return found


def _biases(spec: StackSpec) -> str:
    if getattr(spec, "conv_bias", False):
        return "all"
    places = ["the stem's"] if spec.stem.bias else []
    if getattr(spec, "open_bias", False):
        places.append("projections and each unit's last")
    return ", ".join(places) or "none"


def _picture(spec: Spec) -> str:
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
    counts = "counts" if rule.scale == 1 else "counts / 255"
    mean = f" - ({', '.join(f'{one:g}' for one in rule.mean)})" if any(rule.mean) else ""
    deviation = f" over ({', '.join(f'{one:g}' for one in rule.std)})" if any(one != 1 for one in rule.std) else ""
    channels = "grey" if rule.channels == "L" else rule.channels
    return f"{side}, {channels}, {counts}{mean}{deviation} (`{spec.preprocessing}`)"
