"""One pass over a network that holds no values: what each endpoint costs, and how much of the picture it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from skipway.models.layers import LocalResponseNorm
from skipway.models.network import Network, Spec

aten = torch.ops.aten


@dataclass(frozen=True)
class ReceptiveField:
    """What one value of a map sees: a square of `size` pixels a side, `jump` pixels away from its neighbour's.

    `size` counts the padding around the picture too, so that it may exceed the picture. `whole` is set behind an
    average over the map or its flattening, where every value sees every pixel that the map sees.
    """

    size: int | Fraction = 1
    jump: int | Fraction = 1
    whole: bool = False

    def through(self, kernel: int, stride: int = 1, dilation: int = 1) -> ReceptiveField:
        """Behind a window of `kernel` values."""
        size = self.size + (kernel - 1) * dilation * self.jump
        jump = self.jump * stride
        return ReceptiveField(size, jump, self.whole)

    def over(self, side: int) -> ReceptiveField:
        """Behind a window as large as the map of `side` values."""
        size = self.through(side).size
        return ReceptiveField(size, self.jump, whole=True)


@dataclass(frozen=True)
class Endpoint:
    """A value that the network names: its shape without the batch, the operations since the endpoint before it (see
    `Summary.flops`), and its field.
    """

    shape: tuple[int, ...]
    flops: int
    field: ReceptiveField


def _drawing_functions() -> frozenset[Any]:
    """What torch's layers fill their first weights with."""
    found: set[Any] = set()
    for name in ("uniform_", "normal_", "constant_", "kaiming_uniform_", "kaiming_normal_"):
        found.add(getattr(nn.init, name))
    for name in ("uniform_", "normal_", "fill_", "zero_", "mul_", "add_", "clamp_", "erfinv_"):
        found.add(getattr(Tensor, name))
    return frozenset(found)


class _Undrawn(TorchFunctionMode):
    """First weights are not drawn: on the meta device there is nothing to fill, and the drawing takes most time."""

    _DRAWS = _drawing_functions()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or return its tensor as it is where `func` would fill it."""
        kwargs = kwargs or {}
        if func not in self._DRAWS:
            return func(*args, **kwargs)
        if args:
            return args[0]
        return kwargs["tensor"]


def on_meta(spec: Spec) -> Network:
    """The network on the meta device: shapes without values or memory."""
    with torch.device("meta"), _Undrawn():
        return spec.build()


def trace(network: Network) -> dict[str, Endpoint]:
    """Every endpoint of one picture's pass, in forward order. `network` is on the meta device and loses its norms.

    Normalizations keep shape and field and are not counted as operations. Leaving them out saves half the time, and
    response normalization would be counted otherwise: ours computes it as a convolution.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | LocalResponseNorm):
                setattr(module, name, nn.Identity())
    spec = network.spec
    picture = torch.empty(1, spec.in_channels, spec.input_size, spec.input_size, device="meta")
    tracer = Tracer(picture)
    with torch.no_grad(), tracer:
        network.eval().walk(picture, tracer.note)
    return tracer.endpoints


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows everything that is computed from `picture`, operation by operation.

    Raises NotImplementedError at an operation that it has no rule for, rather than guess.
    """

    def __init__(self, picture: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.endpoints: dict[str, Endpoint] = {}
        self._flops = 0
        # By identity; the tensors are held, or another could come to lie at the same address.
        self._fields: dict[int, tuple[Tensor, ReceptiveField]] = {id(picture): (picture, ReceptiveField())}

    def field(self, value: Tensor) -> ReceptiveField | None:
        """Field of a value, None where it does not come from the picture."""
        entry = self._fields.get(id(value))
        if entry is None:
            return None
        _, field = entry
        return field

    def note(self, name: str, value: Tensor) -> None:
        """Name a value: the operations since the last name belong to this one.

        Raises NotImplementedError where the value does not come from the picture.
        """
        field = self.field(value)
        if field is None:
            raise NotImplementedError(f"{name} does not depend on the picture")
        shape = tuple(value.shape[1:])
        self.endpoints[name] = Endpoint(shape, self._flops, field)
        self._flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute the operation, and note the field of its result and its cost."""
        result = func(*args, **(kwargs or {}))
        sources: list[ReceptiveField] = []
        for tensor in _tensors(args):
            field = self.field(tensor)
            if field is not None:
                sources.append(field)
        if sources:
            value = result
            if isinstance(result, tuple):
                value = result[0]
            behind = _behind(func, _merged(sources), args, value)
            self._fields[id(value)] = (value, behind)
            self._flops += _operations(func, args, value)
        return result


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    """All tensors among the arguments of an operation, also those inside lists."""
    found: list[Tensor] = []
    for argument in args:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, list | tuple):
            found += _tensors(argument)
    return found


def _merged(fields: list[ReceptiveField]) -> ReceptiveField:
    """Of a sum or any other elementwise combination."""
    size = max(field.size for field in fields)
    jump = max(field.jump for field in fields)
    whole = any(field.whole for field in fields)
    return ReceptiveField(size, jump, whole)


def _operations(func: Any, args: tuple[Any, ...], result: Tensor) -> int:
    """Multiplications and additions; biases and everything elementwise do not count."""
    if func is aten.convolution.default:
        weight = args[1]
        terms = weight[0].numel()
    elif func is aten.addmm.default:
        matrix = args[1]
        terms = matrix.shape[1]
    elif func is aten.mm.default:
        matrix = args[0]
        terms = matrix.shape[1]
    else:
        return 0
    return 2 * result.numel() * terms


def _behind(func: Any, field: ReceptiveField, args: tuple[Any, ...], result: Tensor) -> ReceptiveField:
    """The field of an operation's result, for the field of its input.

    Raises NotImplementedError at an operation that there is no rule for.
    """
    if func in _SAME:
        return field
    if torch.Tag.pointwise in func.tags:
        return field
    if func not in _RULES:
        raise NotImplementedError(f"no rule for the receptive field of {func}; add one to skipway.drawing.tracing")
    rule = _RULES[func]
    return rule(field, args, result)


def _convolution(field: ReceptiveField, args: tuple[Any, ...], _: Tensor) -> ReceptiveField:
    """Behind a convolution. Raises NotImplementedError at a transposed one."""
    weight, stride, dilation, transposed = args[1], args[3], args[5], args[6]
    if transposed:
        raise NotImplementedError("no rule for the receptive field of a transposed convolution")
    return field.through(weight.shape[2], stride[0], dilation[0])


def _pool(field: ReceptiveField, args: tuple[Any, ...], _: Tensor) -> ReceptiveField:
    """Behind a pool; without a stride its windows lie side by side."""
    kernel = args[1]
    stride = kernel
    if len(args) > 2 and args[2]:
        stride = args[2]
    return field.through(kernel[0], stride[0])


def _adaptive_pool(field: ReceptiveField, args: tuple[Any, ...], result: Tensor) -> ReceptiveField:
    """Behind an adaptive average: the widest of its windows, and the mean distance from one to the next."""
    side, outputs = args[0].shape[2], result.shape[2]
    if outputs == 1:
        return field.over(side)
    widest = 0
    for place in range(outputs):
        start = place * side // outputs
        end = -(-(place + 1) * side // outputs)
        widest = max(widest, end - start)
    size = field.through(widest).size
    jump = field.jump * Fraction(side, outputs)
    return ReceptiveField(size, jump, field.whole)


def _mean(field: ReceptiveField, args: tuple[Any, ...], _: Tensor) -> ReceptiveField:
    """Behind a mean over the map."""
    side = args[0].shape[2]
    return field.over(side)


def _view(field: ReceptiveField, args: tuple[Any, ...], result: Tensor) -> ReceptiveField:
    """Behind a view, which may flatten a map."""
    source = args[0]
    if source.ndim == 4 and result.ndim == 2:
        return field.over(source.shape[2])
    return field


def _slice(field: ReceptiveField, args: tuple[Any, ...], _: Tensor) -> ReceptiveField:
    """Behind a slice, whose step is a stride where it runs along a side of the map."""
    axis, step = 0, 1
    if len(args) > 1:
        axis = args[1]
    if len(args) > 4:
        step = args[4]
    if axis == 2:
        return field.through(1, step)
    return field


# Maps here are squares, and so are windows: one axis, the third, speaks for both.
_RULES: dict[Any, Callable[[ReceptiveField, tuple[Any, ...], Tensor], ReceptiveField]] = {
    aten.convolution.default: _convolution,
    aten.max_pool2d_with_indices.default: _pool,
    aten.avg_pool2d.default: _pool,
    aten._adaptive_avg_pool2d.default: _adaptive_pool,
    aten.mean.dim: _mean,
    aten.view.default: _view,
    aten.slice.Tensor: _slice,
}
_SAME = frozenset(
    {aten.constant_pad_nd.default, aten.cat.default, aten.addmm.default, aten.mm.default, aten.clone.default}
)
