"""The names of ResNets' weights in torchvision, its forks for CIFAR, timm, Hugging Face, TF-Slim, Keras and Caffe."""

from __future__ import annotations

import re
from collections.abc import Callable

from skipway.interchange.mapping.keys import Key
from skipway.interchange.mapping.layouts import Layout, Place
from skipway.interchange.mapping.scheme import (
    NORM_TENSORS,
    Scheme,
    caffe_norm_place,
    caffe_place,
    keras_place,
    torch_place,
)
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec


def _torchvision(classifier: str, shortcut: str) -> Callable[[Key, Spec], Place]:
    """conv1, bn1, layer1.0.conv1, layer1.0.bn1, layer1.0.downsample.0, with these names of classifier and shortcut."""
    outside = {"stem.conv": "conv1", "stem.norm": "bn1", "logits": classifier}
    shortcuts = {"shortcut.conv": f"{shortcut}.0", "shortcut.norm": f"{shortcut}.1"}

    def place(key: Key, spec: Spec) -> Place:  # noqa: ARG001
        if not key.stage:
            return torch_place(outside[key.layer], key)
        unit = f"layer{key.stage}.{key.unit - 1}"
        if key.layer in shortcuts:
            layer = shortcuts[key.layer]
        else:
            layer = key.layer.replace("norm", "bn")
        return torch_place(f"{unit}.{layer}", key)

    return place


def _timm_v2(key: Key, spec: Spec) -> Place:  # noqa: ARG001
    """stages.0.blocks.0.norm1 is the pre-activation; the classifier is a 1x1 convolution."""
    if key.stage:
        unit = f"stages.{key.stage - 1}.blocks.{key.unit - 1}"
        names = {"preact": "norm1", "norm1": "norm2", "norm2": "norm3", "shortcut": "downsample.conv"}
        layer = names.get(key.layer, key.layer)
        return torch_place(f"{unit}.{layer}", key)
    outside = {"stem.conv": "stem.conv", "postnorm": "norm", "logits": "head.fc"}
    layer = outside[key.layer]
    if key.name == "logits.weight":
        return torch_place(layer, key, layout="pixel")
    return torch_place(layer, key)


def _hugging_face(key: Key, spec: Spec) -> Place:  # noqa: ARG001
    """resnet.encoder.stages.0.layers.0.layer.0.convolution."""
    if key.layer == "logits":
        return torch_place("classifier.1", key)
    part = "convolution" if key.kind == "conv" else "normalization"
    if not key.stage:
        return torch_place(f"resnet.embedder.embedder.{part}", key)
    unit = f"resnet.encoder.stages.{key.stage - 1}.layers.{key.unit - 1}"
    if key.layer.startswith("shortcut"):
        return torch_place(f"{unit}.shortcut.{part}", key)
    number = int(key.layer[-1]) - 1
    return torch_place(f"{unit}.layer.{number}.{part}", key)


def _slim(key: Key, spec: Spec) -> Place | None:
    """resnet_v1_50/block1/unit_1/bottleneck_v1/conv1/BatchNorm/gamma, below a scope that the importer strips."""
    if key.tensor == "num_batches_tracked":
        return None
    layer = _slim_layer(key, spec)
    if key.kind == "norm":
        tensor = NORM_TENSORS[key.tensor]
        return Place(f"{layer}/{tensor}")
    if key.tensor == "bias":
        return Place(f"{layer}/biases")
    layout: Layout = "hwio" if key.kind == "conv" else "pixel_io"
    return Place(f"{layer}/weights", layout)


def _slim_layer(key: Key, spec: Spec) -> str:
    """TF-Slim's name of a layer: block1/unit_1/bottleneck_v1/conv1/BatchNorm."""
    names = {
        "stem.conv": "conv1",
        "stem.norm": "conv1/BatchNorm",
        "shortcut.conv": "shortcut",
        "shortcut.norm": "shortcut/BatchNorm",
    }
    layer = names.get(key.layer, key.layer)
    # v1 normalizes each convolution under its own scope; v2's preact and postnorm are scopes of their own.
    layer = re.sub(r"^norm(\d)$", r"conv\1/BatchNorm", layer)
    if not key.stage:
        return layer
    version = spec.architecture[-2:]
    return f"block{key.stage}/unit_{key.unit}/bottleneck_{version}/{layer}"


def _keras_applications(key: Key, spec: Spec) -> Place | None:  # noqa: ARG001
    """conv2_block1_1_conv, conv2_block1_1_bn, conv2_block1_0_conv (the projection), post_bn, predictions."""
    names = {
        "stem.conv": "conv1_conv",
        "stem.norm": "conv1_bn",
        "postnorm": "post_bn",
        "logits": "predictions",
        "preact": "preact_bn",
        "shortcut": "0_conv",
        "shortcut.conv": "0_conv",
        "shortcut.norm": "0_bn",
    }
    layer = names.get(key.layer)
    if layer is None:  # conv1 is 1_conv, norm1 is 1_bn
        layer = re.sub(r"conv(\d)", r"\1_conv", key.layer)
        layer = re.sub(r"norm(\d)", r"\1_bn", layer)
    if key.stage:
        layer = f"conv{key.stage + 1}_block{key.unit}_{layer}"
    return keras_place(layer, key)


def unit_name(spec: StackSpec, stage: int, unit: int, *, numbered: bool = True) -> str:
    """Caffe's name of a unit: 2a, or 4b22. `stage` and `unit` count from 1.

    The names of stages count from 2. Units are letters. Only the authors' networks of 101 and 152 layers call the units
    of their long stages a, b1, b2; `numbered` allows these names.
    """
    units = [len(block.rows) for block in spec.blocks]
    long_stages = max(units) > 6
    name = f"{stage + 1}"
    if numbered and long_stages and stage <= len(units) and units[stage - 1] > 3:
        if unit == 1:
            return f"{name}a"
        return f"{name}b{unit - 1}"
    letter = chr(ord("a") + unit - 1)
    return f"{name}{letter}"


def _branch(key: Key, spec: StackSpec, *, numbered: bool) -> str:
    """Caffe's name of a unit's layer after its res, bn or scale: 2a_branch2c, or 4b22_branch1."""
    unit = unit_name(spec, key.stage, key.unit, numbered=numbered)
    if key.layer.startswith("shortcut"):
        return f"{unit}_branch1"
    number = int(key.layer[-1])
    letter = "abc"[number - 1]
    return f"{unit}_branch2{letter}"


def _keras_branches(classifier: str) -> Callable[[Key, Spec], Place | None]:
    """res2a_branch2a, bn2a_branch2a, conv1, bn_conv1: Keras before 2.2.5, and the hand-signs code."""
    stem = {"stem.conv": "conv1", "stem.norm": "bn_conv1"}

    def place(key: Key, spec: Spec) -> Place | None:
        assert isinstance(spec, StackSpec)
        if key.layer == "logits":
            return _keras_classifier_place(classifier, key, spec)
        if not key.stage:
            return keras_place(stem[key.layer], key)
        start = "res" if key.kind == "conv" else "bn"
        branch = _branch(key, spec, numbered=False)
        return keras_place(f"{start}{branch}", key)

    return place


def _keras_classifier_place(classifier: str, key: Key, spec: StackSpec) -> Place:
    """The place of a tensor of the classifier, which may take a map that Keras flattens."""
    if key.tensor == "bias":
        return Place(f"{classifier}/bias")
    kernel = f"{classifier}/kernel"
    side = spec.flattened(spec.input_size)
    if not side:
        return Place(kernel, "io")
    depth, _, _ = spec.blocks[-1].rows[-1]
    return Place(kernel, "hwc_io", map_shape=(depth, side, side))


def _caffe(classifier: str) -> Callable[[Key, Spec], Place | None]:
    """conv1, bn_conv1, scale_conv1, res2a_branch2a, bn2a_branch2a, scale2a_branch2a, and the classifier's name."""

    def place(key: Key, spec: Spec) -> Place | None:
        assert isinstance(spec, StackSpec)
        if key.layer == "logits":
            return caffe_place(classifier, key)
        if key.stage:
            branch = _branch(key, spec, numbered=True)
            conv = f"res{branch}"
            norm = f"bn{branch}"
            scale = f"scale{branch}"
        else:
            conv = "conv1"
            norm = "bn_conv1"
            scale = "scale_conv1"
        if key.kind == "conv":
            return caffe_place(conv, key)
        return caffe_norm_place(norm, scale, key)

    return place


TORCHVISION = Scheme("torchvision", _torchvision("fc", "downsample"))
CIFAR_TORCH = Scheme("cifar_torch", _torchvision("linear", "shortcut"))
FC_SHORTCUT = Scheme("torch_fc_shortcut", _torchvision("fc", "shortcut"))
LINEAR_DOWNSAMPLE = Scheme("torch_linear_downsample", _torchvision("linear", "downsample"))
# The namings of PyTorch's ResNets. Networks for ImageNet and for CIFAR have any of them.
TORCH = (TORCHVISION, CIFAR_TORCH, FC_SHORTCUT, LINEAR_DOWNSAMPLE)
TORCH_NAMES = frozenset(scheme.name for scheme in TORCH)
TIMM_V2 = Scheme("timm", _timm_v2)
HUGGING_FACE = Scheme("hugging_face", _hugging_face)
SLIM = Scheme("slim", _slim)
KERAS = Scheme("keras", _keras_applications)


def keras_branches(classifier: str) -> Scheme:
    """The scheme of res2a_branch2a, with the classifier's name: fc1000, or fc6 for the hand signs' six classes."""
    return Scheme("keras_branches", _keras_branches(classifier))


def caffe(classifier: str) -> Scheme:
    """The scheme of the authors' Caffe models, whose classifier is fc1000; others call it after their own classes."""
    return Scheme("caffe", _caffe(classifier))


CAFFE = caffe("fc1000")
