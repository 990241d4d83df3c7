"""One name for each Keras weight, whatever version wrote it: `<layer>/<weight>`, as in `conv1/kernel`.

Keras 1 wrote `conv1_W`, Keras 2 `conv1/kernel:0`, Keras 3 `conv1/kernel`, and the `layers/...` form of Keras 3 only
numbers. A layer within a nested model has the path of its models before it: `resnet50/conv1_conv/kernel`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
# The settings that leave a variable out where they are False.
_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
_WEIGHTS = {name for names in _ORDER.values() for name in names}


def _alternatives(names: Iterable[str]) -> str:
    """A pattern for any of these names, the longest first."""
    longest_first = sorted(names, key=len, reverse=True)
    return "|".join(longest_first)


_OUTPUT_NUMBER = re.compile(r":\d+$")  # TensorFlow's `:0` behind the name of a variable
_KERAS_1_NAME = re.compile(rf"(?:.*_)?({_alternatives(_KERAS_1)})(?:_\d+)?")
_NUMBERED_NAME = re.compile(rf"({_alternatives(_WEIGHTS)})_\d+")


def group_name(class_name: str) -> str:
    """A class name as Keras 3 names its groups: `Conv2D` -> `conv2d`, `PReLU` -> `p_re_lu`."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    return name.lower()


_KINDS = {group_name(kind): kind for kind in _ORDER}


def kind_of_group(group: str) -> str:
    """The class of the layers in a group such as `conv2d_7`. A group of another kind keeps its name, unnumbered."""
    base = re.sub(r"_\d+$", "", group)
    return _KINDS.get(base, base)


def variable_names(kind: str, config: Mapping[str, Any] | None, count: int) -> tuple[str, ...] | None:
    """The names of a layer's `count` numbered variables, in order.

    `kind` is the class of the layer, `config` its settings where they are known. None where these leave the names open.
    """
    known = _ORDER.get(kind, ())
    if config is not None:
        names = _switched_on(known, config)
        return names if len(names) == count else None
    if len(known) == count:
        return known
    if known == _NORM:
        # Of two variables, both are statistics. Of three, the first may be scale or shift.
        return _NORM[2:] if count == 2 else None
    without_bias = tuple(name for name in known if name != "bias")
    if "bias" in known and len(without_bias) == count:
        return without_bias
    return None


def _switched_on(names: Sequence[str], config: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables that a layer with these settings has, of those that its class may have."""
    present = []
    for name in names:
        switch = _SWITCHES.get(name, "")
        if config.get(switch, True) is not False:
            present.append(name)
    return tuple(present)


def weight_parts(stored: str) -> tuple[tuple[str, ...], str]:
    """A stored weight name as the scopes before it and its own name: `a/conv/kernel_1:0` -> (("a", "conv"), "kernel").

    A name of Keras 1 has no scope.
    """
    path = _OUTPUT_NUMBER.sub("", stored)
    *scopes, leaf = path.split("/")
    numbered = _NUMBERED_NAME.fullmatch(leaf)
    keras_1 = _KERAS_1_NAME.fullmatch(leaf)
    if numbered is not None:
        leaf = numbered[1]
    elif keras_1 is not None:
        leaf = _KERAS_1[keras_1[1]]
    named_scopes = tuple(scope for scope in scopes if scope)
    return named_scopes, leaf


def is_keras_1(stored: Sequence[str]) -> bool:
    """Whether these are the weight names of a layer of Keras 1: `conv1_W`, not `conv1/kernel:0`."""
    for name in stored:
        leaf = _OUTPUT_NUMBER.sub("", name)
        if "/" in leaf or _KERAS_1_NAME.fullmatch(leaf) is None:
            return False
    return bool(stored)


def in_keras_order(weights: Sequence[str]) -> list[str]:
    """The weights of one layer in the order in which Keras keeps them. Unknown ones come last, in the given order."""
    order: tuple[str, ...] = ()
    for names in _ORDER.values():
        if set(weights) <= set(names):
            order = names
            break
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(weights, key=lambda name: ranks.get(name, len(order)))
