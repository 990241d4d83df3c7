"""What is inside a unit, as operations in their order: read from the built module, not from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from skipway.models.highway import HighwayUnit
from skipway.models.joins import Dropping, Gating, Scaling
from skipway.models.layers import ACTIVATIONS, Activation
from skipway.models.mlp import DenseUnit
from skipway.models.resnet_v2 import BasicV2, BottleneckV2
from skipway.models.shortcuts import PadChannels, Projection, Subsample

OpRole = Literal["conv", "strided", "norm", "activation", "pool", "drop", "dense", "gate"]
ShortcutKind = Literal["none", "identity", "subsampled", "padded", "projection", "gated"]


@dataclass(frozen=True)
class Op:
    """One operation: what it is, which decides its colour, and how it is written."""

    role: OpRole
    text: str


NORM = Op("norm", "BN")
RELU = Op("activation", "ReLU")
TANH = Op("activation", "tanh")
SIGMOID = Op("gate", "sigmoid")
_ACTIVATIONS: dict[Activation, Op] = {"relu": RELU, "tanh": TANH, "sigmoid": Op("activation", "sigmoid")}


@dataclass(frozen=True)
class Chain:
    """A residual or plain unit. `shared` runs before the shortcut departs, `branch` beside it, `after` behind the sum;
    `shortcut` is empty for the identity and None where there is no shortcut."""

    shared: tuple[Op, ...]
    branch: tuple[Op, ...]
    shortcut: tuple[Op, ...] | None
    after: tuple[Op, ...]


@dataclass(frozen=True)
class Gated:
    """A highway unit: what makes H, T and C of x. An empty `carry` is the coupled one, C = 1 - T."""

    transform: tuple[Op, ...]
    gate: tuple[Op, ...]
    carry: tuple[Op, ...]


@dataclass(frozen=True)
class Kind:
    """What units have in common that differ in depth alone: one inset shows them all."""

    title: str
    shortcut: ShortcutKind
    inside: Chain | Gated

    @property
    def note(self) -> str:
        """What its arc is marked with: what the shortcut does to x."""
        if isinstance(self.inside, Gated):
            return "C"
        if not self.inside.shortcut:
            return ""
        first = self.inside.shortcut[0].text.removeprefix("subsample, ").replace(" conv", "")
        return "zeros" if self.shortcut == "padded" else first


@dataclass(frozen=True)
class Anatomy:
    """A unit: its kind, and its weight layers with their depths, as its card shows them."""

    kind: Kind
    layers: tuple[Op, ...]


def dissect(unit: nn.Module) -> Anatomy:
    """The anatomy of a highway unit, a plain one, or a residual one."""
    if isinstance(unit, HighwayUnit):
        return _gated(unit)
    if isinstance(unit, DenseUnit):
        return _dense(unit)
    convs = [conv for name, conv in unit.named_children() if name.startswith("conv") and isinstance(conv, nn.Conv2d)]
    layers = tuple(conv_op(conv, depth=True) for conv in convs)
    preactivated = isinstance(unit, BasicV2 | BottleneckV2)
    ops = _preactivated(convs) if preactivated else _activated(convs)
    shortcut = _shortcut(getattr(unit, "shortcut", None))
    kind = _shortcut_kind(getattr(unit, "shortcut", None))
    shared = 2 if preactivated and getattr(unit, "shared", False) else 0
    # v1 sums before its last ReLU; a plain unit has no sum to wait for.
    end = len(ops) if preactivated or shortcut is None else len(ops) - 1
    join = getattr(unit, "join", None)
    on_branch, on_shortcut, gates = _join_ops(join)
    inside = Chain(
        ops[:shared], ops[shared:end] + on_branch, None if shortcut is None else shortcut + on_shortcut, ops[end:]
    )
    title = _title(kind, convs, shared=kind == "identity" and shared > 0, gated=isinstance(join, Gating))
    return Anatomy(Kind(title, kind, inside), layers + gates)


def conv_op(conv: nn.Conv2d, *, depth: bool) -> Op:
    """A convolution as the papers write it: `3×3, 128, /2`, or without its depth `3×3 conv, /2`."""
    kernel, stride, rate = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    words = [f"{kernel}×{kernel}" if depth else f"{kernel}×{kernel} conv"]
    words += [str(conv.out_channels)] if depth else []
    words += [f"/{stride}"] if stride > 1 else []
    words += [f"rate {rate}"] if rate > 1 else []
    words += [f"{conv.groups} groups"] if conv.groups > 1 else []
    return Op("strided" if stride > 1 else "conv", ", ".join(words))


def layer_op(layer: nn.Module, *, depth: bool) -> Op:
    """A convolution or a fully connected layer."""
    if isinstance(layer, nn.Conv2d):
        return conv_op(layer, depth=depth)
    return Op("dense", f"fc, {layer.out_features}" if depth else "fc")


def activation_op(function: Callable[[Tensor], Tensor]) -> Op:
    """An activation that a network holds as a function."""
    (name,) = (name for name, known in ACTIVATIONS.items() if known is function)
    return _ACTIVATIONS[name]


def _activated(convs: list[nn.Conv2d]) -> tuple[Op, ...]:
    return tuple(op for conv in convs for op in (conv_op(conv, depth=False), NORM, RELU))


def _preactivated(convs: list[nn.Conv2d]) -> tuple[Op, ...]:
    return tuple(op for conv in convs for op in (NORM, RELU, conv_op(conv, depth=False)))


def _gated(unit: HighwayUnit) -> Anatomy:
    inside = Gated(
        (layer_op(unit.transform, depth=False), activation_op(unit.activation)),
        (layer_op(unit.gate, depth=False), SIGMOID),
        () if unit.carry is None else (layer_op(unit.carry, depth=False), SIGMOID),
    )
    layers = [("H", unit.transform, "conv"), ("T", unit.gate, "gate"), ("C", unit.carry, "gate")]
    written = tuple(
        Op("gate" if role == "gate" else layer_op(layer, depth=True).role,
           f"{letter}: {layer_op(layer, depth=True).text}")
        for letter, layer, role in layers
        if layer is not None
    )  # fmt: skip
    size = "" if isinstance(unit.transform, nn.Linear) else f", {inside.transform[0].text.removesuffix(' conv')}"
    return Anatomy(Kind(f"highway unit{size}", "gated", inside), written)


def _dense(unit: DenseUnit) -> Anatomy:
    branch = (layer_op(unit.transform, depth=False), activation_op(unit.activation))
    return Anatomy(Kind(_TITLES["none"], "none", Chain((), branch, None, ())), (layer_op(unit.transform, depth=True),))


def _shortcut(shortcut: nn.Module | None) -> tuple[Op, ...] | None:
    return None if shortcut is None else tuple(_shortcut_ops(shortcut))


def _shortcut_ops(shortcut: nn.Module) -> Iterator[Op]:
    if isinstance(shortcut, Projection):
        yield conv_op(shortcut.conv, depth=False)
        yield NORM
    elif isinstance(shortcut, nn.Conv2d):
        yield conv_op(shortcut, depth=False)
    elif isinstance(shortcut, Subsample | PadChannels):
        if shortcut.stride > 1:
            yield Op("pool", f"subsample, /{shortcut.stride}")
        if isinstance(shortcut, PadChannels):
            yield Op("pool", "add zeros" if shortcut.before + shortcut.after > 0 else "cut channels")


def _join_ops(join: nn.Module | None) -> tuple[tuple[Op, ...], tuple[Op, ...], tuple[Op, ...]]:
    """What is done to the branch and to the shortcut before their sum, and the layers that it takes."""
    match join:
        case Scaling():
            branch, shortcut = (() if one == 1 else (Op("gate", f"× {one:g}"),) for one in (join.added, join.kept))
            return branch, shortcut, ()
        case Gating():
            branch = (Op("gate", "× g"),) if join.exclusive else ()
            return branch, (Op("gate", "× (1 − g)"),), (Op("gate", f"g: {conv_op(join.gate, depth=True).text}"),)
        case Dropping():
            return (), (Op("drop", f"dropout {join.dropout.p:g}"),), ()
    return (), (), ()


def _shortcut_kind(shortcut: nn.Module | None) -> ShortcutKind:
    if shortcut is None:
        return "none"
    if isinstance(shortcut, Projection | nn.Conv2d):
        return "projection"
    if isinstance(shortcut, PadChannels):
        return "padded"
    return "subsampled" if isinstance(shortcut, Subsample) else "identity"


_TITLES: dict[ShortcutKind, str] = {
    "none": "no shortcut",
    "identity": "identity shortcut",
    "subsampled": "subsampled shortcut",
    "padded": "zero-padded shortcut",
    "projection": "projection shortcut",
}


def _title(kind: ShortcutKind, convs: list[nn.Conv2d], *, shared: bool, gated: bool) -> str:
    """`shared`: the identity carries the pre-activation instead of x."""
    stride, rate = (max(getattr(conv, name)[0] for conv in convs) for name in ("stride", "dilation"))
    words = [_TITLES[kind], f"stride {stride}" if stride > 1 else "", f"rate {rate}" if rate > 1 else "",
             "pre-activated" if shared else "", "g = sigmoid(1×1 conv)" if gated else ""]  # fmt: skip
    return ", ".join(word for word in words if word)
