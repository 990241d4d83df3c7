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
class Field:
    """What one value of a map sees: a square of `size` pixels a side, `jump` pixels away from its neighbour's.

    `size` counts the padding around the picture too, so that it may exceed the picture. `whole` is set behind an
    average over the map or its flattening, where every value sees every pixel that the map sees.
    """

    size: int | Fraction = 1
    jump: int | Fraction = 1
    whole: bool = False

    def through(self, kernel: int, stride: int = 1, dilation: int = 1) -> Field:
        """Behind a window of `kernel` values."""
        return Field(self.size + (kernel - 1) * dilation * self.jump, self.jump * stride, self.whole)

    def over(self, side: int) -> Field:
        """Behind a window as large as the map of `side` values."""
        return Field(self.through(side).size, self.jump, whole=True)


@dataclass(frozen=True)
class Endpoint:
    """A value that the network names: its shape without the batch, the operations since the endpoint before it (see
    `Summary.flops`), and its field."""

    shape: tuple[int, ...]
    flops: int
    field: Field


class _Undrawn(TorchFunctionMode):
    """First weights are not drawn: on the meta device there is nothing to fill, and the drawing takes most time."""

    _DRAWS = frozenset(
        getattr(home, name)
        for home, names in (
            (nn.init, ("uniform_", "normal_", "constant_", "kaiming_uniform_", "kaiming_normal_")),
            (Tensor, ("uniform_", "normal_", "fill_", "zero_", "mul_", "add_", "clamp_", "erfinv_")),
        )
        for name in names
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


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
        self._fields: dict[int, tuple[Tensor, Field]] = {id(picture): (picture, Field())}

    def field(self, value: Tensor) -> Field | None:
        """Field of a value, None where it does not come from the picture."""
        found = self._fields.get(id(value))
        return None if found is None else found[1]

    def note(self, name: str, value: Tensor) -> None:
        """Name a value; the operations since the last name are this one's."""
        field = self.field(value)
        if field is None:
            raise NotImplementedError(f"{name} does not depend on the picture")
        self.endpoints[name] = Endpoint(tuple(value.shape[1:]), self._flops, field)
        self._flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sources = [field for field in map(self.field, _tensors(args)) if field is not None]
        if sources:
            value = result[0] if isinstance(result, tuple) else result
            self._fields[id(value)] = (value, _behind(func, _merged(sources), args, value))
            self._flops += _operations(func, args, value)
        return result


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for one in args:
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += _tensors(one)
    return found


def _merged(fields: list[Field]) -> Field:
    """Of a sum or any other elementwise combination."""
    return Field(max(one.size for one in fields), max(one.jump for one in fields), any(one.whole for one in fields))


def _operations(func: Any, args: tuple[Any, ...], result: Tensor) -> int:
    """Multiplications and additions; biases and everything elementwise do not count."""
    if func is aten.convolution.default:
        return 2 * result.numel() * args[1][0].numel()
    if func is aten.addmm.default:
        return 2 * result.numel() * args[1].shape[1]
    if func is aten.mm.default:
        return 2 * result.numel() * args[0].shape[1]
    return 0


def _behind(func: Any, field: Field, args: tuple[Any, ...], result: Tensor) -> Field:
    if func in _SAME or torch.Tag.pointwise in func.tags:
        return field
    if func not in _RULES:
        raise NotImplementedError(f"no rule for the receptive field of {func}; add one to skipway.drawing.tracing")
    return _RULES[func](field, args, result)


def _convolution(field: Field, args: tuple[Any, ...], _: Tensor) -> Field:
    weight, stride, dilation, transposed = args[1], args[3], args[5], args[6]
    if transposed:
        raise NotImplementedError("no rule for the receptive field of a transposed convolution")
    return field.through(weight.shape[2], stride[0], dilation[0])


def _pool(field: Field, args: tuple[Any, ...], _: Tensor) -> Field:
    kernel, stride = args[1], args[2] if args[2:] else []
    return field.through(kernel[0], (stride or kernel)[0])


def _adaptive_pool(field: Field, args: tuple[Any, ...], result: Tensor) -> Field:
    side, outputs = args[0].shape[2], result.shape[2]
    if outputs == 1:
        return field.over(side)
    widest = max(-(-(i + 1) * side // outputs) - i * side // outputs for i in range(outputs))
    return Field(field.through(widest).size, field.jump * Fraction(side, outputs), field.whole)


def _mean(field: Field, args: tuple[Any, ...], _: Tensor) -> Field:
    return field.over(args[0].shape[2])


def _view(field: Field, args: tuple[Any, ...], result: Tensor) -> Field:
    flattened = args[0].ndim == 4 and result.ndim == 2
    return field.over(args[0].shape[2]) if flattened else field


def _slice(field: Field, args: tuple[Any, ...], _: Tensor) -> Field:
    axis, step = args[1] if args[1:] else 0, args[4] if args[4:] else 1
    return field.through(1, step) if axis == 2 else field


# Maps here are squares, and so are windows: one axis, the third, speaks for both.
_RULES: dict[Any, Callable[[Field, tuple[Any, ...], Tensor], Field]] = {
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
