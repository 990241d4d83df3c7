"""One name for each Keras weight, whatever version wrote it: `<layer>/<weight>`, as in `conv1/kernel`.

Keras 1 wrote `conv1_W`, Keras 2 `conv1/kernel:0`, Keras 3 `conv1/kernel`, and the `layers/...` form of Keras 3 only
numbers. A layer within a nested model has the path of its models before it: `resnet50/conv1_conv/kernel`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "alphas": "alpha",
}
_KERAS_1_NAME = re.compile(rf"(?:.*_)?({'|'.join(sorted(_KERAS_1, key=len, reverse=True))})(?:_\d+)?")

# The variables of a layer in the order in which Keras keeps them, for the forms that number them.
_CONVOLUTION = ("kernel", "bias")
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_ORDER: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"), _CONVOLUTION),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _CONVOLUTION),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("depthwise_kernel", "bias")),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("depthwise_kernel", "pointwise_kernel", "bias")),
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), _NORM),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), ("gamma", "beta")),
    "PReLU": ("alpha",),
    "Embedding": ("embeddings",),
    "Normalization": ("mean", "variance", "count"),
}
_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
_WEIGHTS = {name for names in _ORDER.values() for name in names}
_UNIQUE = re.compile(rf"({'|'.join(sorted(_WEIGHTS, key=len, reverse=True))})_\d+")


def group_name(class_name: str) -> str:
    """A class name as Keras 3 names its groups: `Conv2D` -> `conv2d`, `PReLU` -> `p_re_lu`."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


_KINDS = {group_name(kind): kind for kind in _ORDER}


def kind_of_group(group: str) -> str:
    """The layer kind of a group such as `conv2d_7`; its own name where it is none that holds weights."""
    base = re.sub(r"_\d+$", "", group)
    return _KINDS.get(base, base)


def variable_names(kind: str, config: Mapping[str, Any] | None, count: int) -> tuple[str, ...] | None:
    """Names of a layer's `count` numbered variables in order, or None where kind and count do not tell them."""
    known = _ORDER.get(kind, ())
    if config is not None:
        names = tuple(name for name in known if config.get(_SWITCHES.get(name, ""), True) is not False)
        return names if len(names) == count else None
    if len(known) == count:
        return known
    if kind in {"BatchNormalization", "SyncBatchNormalization"}:
        return _NORM[2:] if count == 2 else None  # of three, the first may be scale or shift
    return tuple(name for name in known if name != "bias") if len(known) - 1 == count and "bias" in known else None


def weight_parts(stored: str) -> tuple[tuple[str, ...], str]:
    """A stored weight name as the scopes before it and its own name: `a/conv/kernel_1:0` -> (("a", "conv"), "kernel").

    A name of Keras 1 has no scope.
    """
    *scopes, leaf = re.sub(r":\d+$", "", stored).split("/")
    if (unique := _UNIQUE.fullmatch(leaf)) is not None:
        leaf = unique[1]
    elif (old := _KERAS_1_NAME.fullmatch(leaf)) is not None:
        leaf = _KERAS_1[old[1]]
    return tuple(scope for scope in scopes if scope), leaf


def is_keras_1(stored: Sequence[str]) -> bool:
    """Whether these are the weight names of a layer of Keras 1: `conv1_W`, not `conv1/kernel:0`."""
    leaves = [re.sub(r":\d+$", "", name) for name in stored]
    return bool(leaves) and all("/" not in name and _KERAS_1_NAME.fullmatch(name) for name in leaves)


def in_keras_order(weights: Sequence[str]) -> list[str]:
    """The weights of one layer in the order in which Keras keeps them, others last as they come."""
    order = next((names for names in _ORDER.values() if set(weights) <= set(names)), ())
    return sorted(weights, key=lambda name: order.index(name) if name in order else len(order))
