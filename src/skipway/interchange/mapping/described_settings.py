"""What a file's layers tell of its network beside names and shapes: order of norm and pool, epsilons, strides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from skipway.errors import ModelFileError
from skipway.interchange.doubt import Doubt
from skipway.interchange.source import Layer, Source
from skipway.models.alexnet import After, AlexNetSpec, Conv, ResponseNorm
from skipway.models.blocks import Norm, StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec

_AFTER: Mapping[str, After] = {"LRN": "norm", "Pooling": "pool"}


def settled(spec: Spec, scheme: str, source: Source) -> tuple[Spec, tuple[Doubt, ...]]:
    """A network that names and shapes gave, with what the file's layers say of it; and what nothing in the file says,
    each with the option that decides it. Raises ModelFileError for a setting that the network cannot have."""
    if isinstance(spec, AlexNetSpec) and scheme in {"caffe", "npy"}:
        if any(layer.kind == "LRN" for layer in source.layers):
            return _alexnet(spec, source.layers, source), ()
        return spec, (_order_doubt(spec),)
    if scheme == "caffe" and isinstance(spec, ResNetV1Spec):
        return _resnet(spec, source.layers), ()
    if scheme == "keras_branches" and isinstance(spec, StackSpec) and spec.name.endswith(".keras"):
        return _old_keras(spec)
    return spec, ()


def _order_doubt(spec: Spec) -> Doubt:
    other = "alexnet.caffenet" if spec.name == "alexnet.caffe" else "alexnet.caffe"
    text = (
        f"arrays alone do not tell whether the network pools or normalizes first: taken as {spec.name}; "
        f"--model {other} takes the other order"
    )
    return Doubt("network", text)


def _alexnet(spec: AlexNetSpec, layers: Sequence[Layer], source: Source) -> AlexNetSpec:
    """Caffe's AlexNet or CaffeNet, or one with other strides, paddings and windows."""
    rows: list[Conv] = []
    places = [number for number, layer in enumerate(layers) if layer.kind == "Convolution" and layer.arrays]
    ends = [*places[1:], len(layers)]
    for row, start, end in zip(spec.convs, places, ends, strict=False):
        after = tuple(_AFTER[layer.kind] for layer in layers[start:end] if layer.kind in _AFTER)
        given = _given(layers[start], "convolution_param")
        stride = _first(given, "stride", 1 if given else row.stride)
        padding = _first(given, "pad", 0 if given else row.padding)
        rows.append(dataclasses.replace(row, after=after, stride=stride, padding=padding))
    side = _side(layers, source) or spec.input_size
    found = spec.replaced({"convs": tuple(rows), "norm": _norm(spec.norm, layers, source), "input_size": side})
    for name in ("alexnet.caffe", "alexnet.caffenet"):
        known = find_spec(name)
        if isinstance(known, AlexNetSpec) and [one.after for one in known.convs] == [one.after for one in found.convs]:
            return found.replaced({field: getattr(known, field) for field in ("name", "initialization", "source")})
    return found


def _norm(norm: ResponseNorm, layers: Sequence[Layer], source: Source) -> ResponseNorm:
    given = next((found for layer in layers if layer.kind == "LRN" and (found := _given(layer, "lrn_param"))), None)
    if given is None:
        return norm
    if str(given.get("norm_region", "ACROSS_CHANNELS")) not in {"ACROSS_CHANNELS", "0"}:
        raise ModelFileError(
            f"{source.path} normalizes within channels, which no AlexNet of skipway does; with --model it is read as "
            "one that normalizes across them"
        )
    return ResponseNorm(
        size=int(given.get("local_size", 5)),
        alpha=_rounded(given.get("alpha", 1.0)),
        beta=_rounded(given.get("beta", 0.75)),
        k=_rounded(given.get("k", 1.0)),
    )


def _side(layers: Sequence[Layer], source: Source) -> int:
    """Side of the pictures in pixels, 0 where the file does not say."""
    for layer in layers:
        side = _first(_given(layer, "transform_param"), "crop_size", 0)
        if side:
            return side
    shapes = [shape for shape in source.notes.get("inputs", {}).values() if len(shape) == 4]
    return int(shapes[0][2]) if shapes else 0


def _resnet(spec: ResNetV1Spec, layers: Sequence[Layer]) -> ResNetV1Spec:
    """The authors' ResNet, or one with another epsilon or with the strides in the 3x3."""
    norms = [given for layer in layers if (given := _given(layer, "batch_norm_param"))]
    eps = float(norms[0].get("eps", 1e-5)) if norms else spec.norm.eps
    strided = [layer.name for layer in layers if _first(_given(layer, "convolution_param"), "stride", 1) > 1]
    middle = any(name.endswith("branch2b") for name in strided)
    return spec.replaced(
        {"norm": Norm(_rounded(eps), spec.norm.momentum), "stride_in": "middle" if middle else "first"}
    )


def _old_keras(spec: StackSpec) -> tuple[StackSpec, tuple[Doubt, ...]]:
    """Keras's applications had the layer's own epsilon until 2.2.5, when they took other names."""
    text = (
        "weights of Keras before 2.2.5, without a description of their network: its epsilon of 1e-3 and its padded "
        "max pool are assumed; the whole model's file would tell"
    )
    return spec.replaced({"norm": Norm(1e-3, 0.01)}), (Doubt("network", text),)


def _given(layer: Layer, name: str) -> Mapping[str, Any]:
    given = layer.fields.get(name)
    return given if isinstance(given, Mapping) else {}


def _first(given: Mapping[str, Any], name: str, default: Any) -> Any:
    """A setting that Caffe writes once or, for each axis, in a list."""
    value = given.get(name, default)
    if isinstance(value, list | tuple):
        return value[0] if value else default
    return value


def _rounded(value: float) -> float:
    """A float32 as it was typed: 1e-05 and not 9.99999974e-06."""
    return float(f"{value:.6g}")
