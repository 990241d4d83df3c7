"""What a file's layers say of its network beyond names and shapes: order of norm and pool, epsilons, strides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from skipway.errors import ModelFileError
from skipway.interchange.doubt import Doubt
from skipway.interchange.source import Layer, WeightFile
from skipway.models.alexnet import After, AlexNetSpec, Conv, ResponseNorm
from skipway.models.blocks import Norm, StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec

# Caffe's layers after a convolution that an AlexNet has, in the words of its spec.
_AFTER: Mapping[str, After] = {"LRN": "norm", "Pooling": "pool"}
_CAFFE_ALEXNETS = ("alexnet.caffe", "alexnet.caffenet")


def settled(spec: Spec, scheme: str, source: WeightFile) -> tuple[Spec, tuple[Doubt, ...]]:
    """The network that names and shapes gave, with the settings that the file's layers say.

    `scheme` is the name of the scheme that the names follow. Returns the spec, and a line for each setting that nothing
    in the file says, with the option that decides it. Raises ModelFileError for a setting that the network cannot have.
    """
    if isinstance(spec, AlexNetSpec) and scheme in {"caffe", "npy"}:
        kinds = {layer.kind for layer in source.layers}
        if "LRN" in kinds:
            return _alexnet(spec, source.layers, source), ()
        return spec, (_open_order(spec),)
    if isinstance(spec, ResNetV1Spec) and scheme == "caffe":
        return _resnet(spec, source.layers), ()
    if isinstance(spec, StackSpec) and scheme == "keras_branches" and spec.name.endswith(".keras"):
        return _old_keras(spec)
    return spec, ()


def _open_order(spec: Spec) -> Doubt:
    """What to say of an AlexNet without a description."""
    other = "alexnet.caffe"
    if spec.name == other:
        other = "alexnet.caffenet"
    text = (
        f"arrays alone do not tell whether the network pools or normalizes first: taken as {spec.name}; "
        f"--model {other} takes the other order"
    )
    return Doubt("network", text)


def _alexnet(spec: AlexNetSpec, layers: Sequence[Layer], source: WeightFile) -> AlexNetSpec:
    """Caffe's AlexNet or CaffeNet, or one with other strides, paddings and windows."""
    starts = []
    for index, layer in enumerate(layers):
        if layer.kind == "Convolution" and layer.arrays:
            starts.append(index)
    ends = [*starts[1:], len(layers)]
    rows: list[Conv] = []
    for row, start, end in zip(spec.convs, starts, ends, strict=False):
        described = _described_conv(row, layers[start:end])
        rows.append(described)
    norm = _norm(spec.norm, layers, source)
    side = _side(layers, source) or spec.input_size
    fields = {"convs": tuple(rows), "norm": norm, "input_size": side}
    found = spec.replaced(fields)
    order = [row.after for row in found.convs]
    for name in _CAFFE_ALEXNETS:
        known = find_spec(name)
        assert isinstance(known, AlexNetSpec)
        known_order = [row.after for row in known.convs]
        if order == known_order:
            origin = {"name": known.name, "initialization": known.initialization, "source": known.source}
            return found.replaced(origin)
    return found


def _described_conv(row: Conv, layers: Sequence[Layer]) -> Conv:
    """A convolution with the settings of its layer, the first of `layers`, and with what follows before the next one.

    A layer without settings leaves the stride and the padding of `row`.
    """
    after: list[After] = []
    for layer in layers:
        if layer.kind in _AFTER:
            after.append(_AFTER[layer.kind])
    settings = _settings(layers[0], "convolution_param")
    stride = row.stride
    padding = row.padding
    if settings:
        stride = _first(settings, "stride", 1)
        padding = _first(settings, "pad", 0)
    return dataclasses.replace(row, after=tuple(after), stride=stride, padding=padding)


def _norm(norm: ResponseNorm, layers: Sequence[Layer], source: WeightFile) -> ResponseNorm:
    """The normalization of the first layer that describes one, or else `norm`; Caffe's defaults where it says less.

    Raises ModelFileError for a normalization within channels.
    """
    settings = _first_settings(layers, "LRN", "lrn_param")
    if not settings:
        return norm
    region = str(settings.get("norm_region", "ACROSS_CHANNELS"))
    if region not in {"ACROSS_CHANNELS", "0"}:
        raise ModelFileError(
            f"{source.path} normalizes within channels, which no AlexNet of skipway does; with --model it is read as "
            "one that normalizes across them"
        )
    size = int(settings.get("local_size", 5))
    alpha = settings.get("alpha", 1.0)
    beta = settings.get("beta", 0.75)
    k = settings.get("k", 1.0)
    return ResponseNorm(size=size, alpha=_rounded(alpha), beta=_rounded(beta), k=_rounded(k))


def _side(layers: Sequence[Layer], source: WeightFile) -> int:
    """Side of the pictures in pixels, 0 where the file does not say."""
    for layer in layers:
        transform = _settings(layer, "transform_param")
        crop_size = _first(transform, "crop_size", 0)
        if crop_size:
            return crop_size
    shapes = [shape for shape in source.notes.get("inputs", {}).values() if len(shape) == 4]
    if not shapes:
        return 0
    _, _, height, _ = shapes[0]
    return int(height)


def _resnet(spec: ResNetV1Spec, layers: Sequence[Layer]) -> ResNetV1Spec:
    """The authors' ResNet, or one with another epsilon or with the strides in the 3x3."""
    eps = spec.norm.eps
    norm = _first_settings(layers, "", "batch_norm_param")
    if norm:
        eps = float(norm.get("eps", 1e-5))
    stride_in = "first"
    for layer in layers:
        convolution = _settings(layer, "convolution_param")
        stride = _first(convolution, "stride", 1)
        if stride > 1 and layer.name.endswith("branch2b"):  # the 3x3 of a unit
            stride_in = "middle"
    changed = Norm(_rounded(eps), spec.norm.momentum)
    return spec.replaced({"norm": changed, "stride_in": stride_in})


def _old_keras(spec: StackSpec) -> tuple[StackSpec, tuple[Doubt, ...]]:
    """Keras's applications had the layer's own epsilon until 2.2.5, when they took other names."""
    text = (
        "weights of Keras before 2.2.5, without a description of their network: its epsilon of 1e-3 and its padded "
        "max pool are assumed; the whole model's file would tell"
    )
    norm = Norm(1e-3, 0.01)
    changed = spec.replaced({"norm": norm})
    return changed, (Doubt("network", text),)


def _settings(layer: Layer, name: str) -> Mapping[str, Any]:
    """The message of settings of that name, empty where the layer has none."""
    settings = layer.fields.get(name)
    if not isinstance(settings, Mapping):
        return {}
    return settings


def _first_settings(layers: Sequence[Layer], kind: str, name: str) -> Mapping[str, Any]:
    """The first message of that name that is not empty, of a layer of that kind ("" for any); empty if none is."""
    for layer in layers:
        if kind and layer.kind != kind:
            continue
        settings = _settings(layer, name)
        if settings:
            return settings
    return {}


def _first(settings: Mapping[str, Any], name: str, default: Any) -> Any:
    """A setting that Caffe writes once or, for each axis, in a list."""
    value = settings.get(name, default)
    if not isinstance(value, list | tuple):
        return value
    if not value:
        return default
    return value[0]


def _rounded(value: float) -> float:
    """A float32 as it was typed: 1e-05 and not 9.99999974e-06."""
    text = f"{value:.6g}"
    return float(text)
