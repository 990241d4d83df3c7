"""What is inside a unit, as operations in their order: read from the built module, not from a table."""

from __future__ import annotations

from collections.abc import Callable
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

_TITLES: dict[ShortcutKind, str] = {
    "none": "no shortcut",
    "identity": "identity shortcut",
    "subsampled": "subsampled shortcut",
    "padded": "zero-padded shortcut",
    "projection": "projection shortcut",
}


@dataclass(frozen=True)
class Chain:
    """A residual or plain unit.

    `shared` runs before the shortcut departs, `branch` beside it, `after` behind the sum; `shortcut` is empty for
    the identity and None where there is no shortcut.
    """

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
class UnitKind:
    """What units that differ in depth alone have in common: one inset shows them all."""

    title: str
    shortcut: ShortcutKind
    inside: Chain | Gated

    @property
    def note(self) -> str:
        """The text beside its arc: what the shortcut does to x."""
        if isinstance(self.inside, Gated):
            return "C"
        if not self.inside.shortcut:
            return ""
        if self.shortcut == "padded":
            return "zeros"
        first = self.inside.shortcut[0]
        return first.text.removeprefix("subsample, ").replace(" conv", "")


@dataclass(frozen=True)
class Anatomy:
    """A unit: its kind, and its weight layers with their depths, as its card shows them."""

    kind: UnitKind
    layers: tuple[Op, ...]


def dissect(unit: nn.Module) -> Anatomy:
    """The anatomy of a highway unit, a plain one, or a residual one."""
    if isinstance(unit, HighwayUnit):
        return _gated(unit)
    if isinstance(unit, DenseUnit):
        return _dense(unit)
    return _convolutional(unit)


def _convolutional(unit: nn.Module) -> Anatomy:
    """The anatomy of a unit of convolutions, with or without a shortcut."""
    convs = _convolutions(unit)
    preactivated = isinstance(unit, BasicV2 | BottleneckV2)
    ops: list[Op] = []
    for conv in convs:
        if preactivated:
            ops += [NORM, RELU, conv_op(conv, depth=False)]
        else:
            ops += [conv_op(conv, depth=False), NORM, RELU]
    module = getattr(unit, "shortcut", None)
    # The shortcut starts from x, or behind the first normalization and ReLU.
    departure = 0
    if preactivated and getattr(unit, "shared", False):
        departure = 2
    # v1 sums before its last ReLU; a plain unit has no sum to wait for.
    total = len(ops)
    if module is not None and not preactivated:
        total -= 1
    join = _join_ops(getattr(unit, "join", None))
    shortcut: tuple[Op, ...] | None = None
    if module is not None:
        shortcut = (*_shortcut_ops(module), *join.shortcut)
    inside = Chain(
        shared=tuple(ops[:departure]),
        branch=(*ops[departure:total], *join.branch),
        shortcut=shortcut,
        after=tuple(ops[total:]),
    )
    kind = _shortcut_kind(module)
    words = _sizes(convs)
    if kind == "identity" and departure > 0:
        words.append("pre-activated")
    if join.gates:
        words.append("g = sigmoid(1×1 conv)")
    title = ", ".join([_TITLES[kind], *words])
    layers = tuple(conv_op(conv, depth=True) for conv in convs)
    return Anatomy(UnitKind(title, kind, inside), layers + join.gates)


def _convolutions(unit: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a unit's branch, in forward order."""
    found: list[nn.Conv2d] = []
    for name, child in unit.named_children():
        if name.startswith("conv") and isinstance(child, nn.Conv2d):
            found.append(child)
    return found


def _sizes(convs: list[nn.Conv2d]) -> list[str]:
    """A unit's stride and dilation rate, where they are not 1."""
    words: list[str] = []
    stride = max(conv.stride[0] for conv in convs)
    if stride > 1:
        words.append(f"stride {stride}")
    rate = max(conv.dilation[0] for conv in convs)
    if rate > 1:
        words.append(f"rate {rate}")
    return words


def conv_op(conv: nn.Conv2d, *, depth: bool) -> Op:
    """A convolution as the papers write it: `3×3, 128, /2`, or without its depth `3×3 conv, /2`."""
    kernel, stride, rate = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    words = [f"{kernel}×{kernel} conv"]
    if depth:
        words = [f"{kernel}×{kernel}", str(conv.out_channels)]
    role: OpRole = "conv"
    if stride > 1:
        role = "strided"
        words.append(f"/{stride}")
    if rate > 1:
        words.append(f"rate {rate}")
    if conv.groups > 1:
        words.append(f"{conv.groups} groups")
    return Op(role, ", ".join(words))


def layer_op(layer: nn.Module, *, depth: bool) -> Op:
    """A convolution or a fully connected layer."""
    if isinstance(layer, nn.Conv2d):
        return conv_op(layer, depth=depth)
    text = "fc"
    if depth:
        text = f"fc, {layer.out_features}"
    return Op("dense", text)


def activation_op(function: Callable[[Tensor], Tensor]) -> Op:
    """An activation that a network holds as a function."""
    for name, known in ACTIVATIONS.items():
        if known is function:
            return _ACTIVATIONS[name]
    raise ValueError(f"{function} is none of {', '.join(ACTIVATIONS)}")


def _gated(unit: HighwayUnit) -> Anatomy:
    """The anatomy of a highway unit, of convolutions or of fully connected layers."""
    transform = layer_op(unit.transform, depth=False)
    carry: tuple[Op, ...] = ()
    if unit.carry is not None:
        carry = (layer_op(unit.carry, depth=False), SIGMOID)
    inside = Gated(
        transform=(transform, activation_op(unit.activation)),
        gate=(layer_op(unit.gate, depth=False), SIGMOID),
        carry=carry,
    )
    whole_transform = layer_op(unit.transform, depth=True)
    layers = [
        Op(whole_transform.role, f"H: {whole_transform.text}"),
        Op("gate", f"T: {layer_op(unit.gate, depth=True).text}"),
    ]
    if unit.carry is not None:
        layers.append(Op("gate", f"C: {layer_op(unit.carry, depth=True).text}"))
    title = "highway unit"
    if isinstance(unit.transform, nn.Conv2d):
        title += f", {transform.text.removesuffix(' conv')}"
    return Anatomy(UnitKind(title, "gated", inside), tuple(layers))


def _dense(unit: DenseUnit) -> Anatomy:
    """The anatomy of a plain fully connected unit."""
    branch = (layer_op(unit.transform, depth=False), activation_op(unit.activation))
    inside = Chain(shared=(), branch=branch, shortcut=None, after=())
    kind = UnitKind(_TITLES["none"], "none", inside)
    return Anatomy(kind, (layer_op(unit.transform, depth=True),))


def _shortcut_ops(shortcut: nn.Module) -> list[Op]:
    """The operations of a shortcut; none for the identity."""
    if isinstance(shortcut, Projection):
        return [conv_op(shortcut.conv, depth=False), NORM]
    if isinstance(shortcut, nn.Conv2d):
        return [conv_op(shortcut, depth=False)]
    ops: list[Op] = []
    if isinstance(shortcut, Subsample | PadChannels) and shortcut.stride > 1:
        ops.append(Op("pool", f"subsample, /{shortcut.stride}"))
    if isinstance(shortcut, PadChannels):
        text = "cut channels"
        if shortcut.before + shortcut.after > 0:
            text = "add zeros"
        ops.append(Op("pool", text))
    return ops


@dataclass(frozen=True)
class _Join:
    """What is done to the branch and to the shortcut before their sum, and the layers of the gates that do it."""

    branch: tuple[Op, ...] = ()
    shortcut: tuple[Op, ...] = ()
    gates: tuple[Op, ...] = ()


def _join_ops(join: nn.Module | None) -> _Join:
    """The operations of a unit's join; none for the plain sum."""
    if isinstance(join, Scaling):
        return _Join(_scaled(join.added), _scaled(join.kept))
    if isinstance(join, Dropping):
        return _Join(shortcut=(Op("drop", f"dropout {join.dropout.p:g}"),))
    if not isinstance(join, Gating):
        return _Join()
    branch: tuple[Op, ...] = ()
    if join.exclusive:
        branch = (Op("gate", "× g"),)
    shortcut = (Op("gate", "× (1 − g)"),)
    gates = (Op("gate", f"g: {conv_op(join.gate, depth=True).text}"),)
    return _Join(branch, shortcut, gates)


def _scaled(factor: float) -> tuple[Op, ...]:
    """A multiplication with a constant; nothing for 1."""
    if factor == 1:
        return ()
    return (Op("gate", f"× {factor:g}"),)


def _shortcut_kind(shortcut: nn.Module | None) -> ShortcutKind:
    """The kind of a unit's shortcut, None for a unit without one."""
    if shortcut is None:
        return "none"
    if isinstance(shortcut, Projection | nn.Conv2d):
        return "projection"
    if isinstance(shortcut, PadChannels):
        return "padded"
    if isinstance(shortcut, Subsample):
        return "subsampled"
    return "identity"
