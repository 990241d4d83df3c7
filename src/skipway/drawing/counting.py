"""What a network costs in total, counted fast: equal units in a row are built once and counted as often as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from skipway.drawing.tracing import on_meta, trace
from skipway.models.blocks import Block, Row, StackSpec
from skipway.models.mlp import MLPSpec
from skipway.models.network import Network, Spec


@dataclass(frozen=True)
class Counts:
    """A network's trainable parameters, its running means and variances, its operations (see `Summary.flops`)."""

    trainable: int
    statistics: int
    flops: int


def count(spec: Spec) -> Counts:
    """Counts of a network at its own input size."""
    short, times = shortened(spec)
    network = on_meta(short)
    trainable, statistics = _over_units(network, times, parameters_of), _over_units(network, times, statistics_of)
    flops = sum(one.flops * times.get(key, 1) for key, one in trace(network).items())
    return Counts(trainable, statistics, flops)


def shortened(spec: Spec) -> tuple[Spec, dict[str, int]]:
    """The network with one unit where it has several equal ones in a row, and for how many each such unit stands."""
    # In a row the second unit stands for the rest: the first may have a shortcut of its own, and finds its input among
    # the activations that the layer before it keeps.
    if isinstance(spec, MLPSpec) and spec.layers > 3:
        return replace(spec, layers=3), {"unit2": spec.layers - 2}
    if not isinstance(spec, StackSpec) or spec.output_stride:  # dilation would grow from unit to unit
        return spec, {}
    blocks: list[Block] = []
    times: dict[str, int] = {}
    for block in spec.blocks:
        rows: list[Row] = []
        for row in block.rows:
            # Equal are those that find equal channels, too: a unit's input is its predecessor's output.
            if len(rows) > 1 and row == rows[-1] and (row[0], row[2]) == (rows[-2][0], 1):
                name = f"{block.name}.unit{len(rows)}"
                times[name] = times.get(name, 1) + 1
            else:
                rows.append(row)
        blocks.append(replace(block, rows=tuple(rows)))
    return replace(spec, blocks=tuple(blocks)), times


def parameters_of(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(one.numel() for one in module.parameters())


def statistics_of(module: nn.Module) -> int:
    """Running means and variances."""
    return sum(one.numel() for key, one in module.named_buffers() if key.endswith(("running_mean", "running_var")))


def _over_units(network: Network, times: dict[str, int], counted: Callable[[nn.Module], int]) -> int:
    repeated = sum((number - 1) * counted(network.get_submodule(key)) for key, number in times.items())
    return counted(network) + repeated


def activation_bytes(spec: Spec, batch_size: int) -> int:
    """Bytes of fp32 activations that a training step keeps between its forward and its backward pass.

    Counted is what autograd saves for the gradients, the pictures included, each storage once: a ReLU in place shares
    that of its input. Not counted: parameters, buffers, gradients, the loss, and what a kernel needs while it runs.
    """
    short, times = shortened(spec)
    network = on_meta(short).train()
    # Two passes and the line through them: batch normalization refuses a batch of one where the map has one pixel, and
    # the sizes of a huge batch would overflow.
    two, three = (
        sum(size * times.get(key, 1) for key, size in saved_bytes(network, batch).items()) for batch in (2, 3)
    )
    return two + (batch_size - 2) * (three - two)


def saved_bytes(network: Network, batch_size: int) -> dict[str, int]:
    """For each endpoint the bytes that autograd saves between it and the endpoint before, for `network` on meta."""
    spec = network.spec
    own = {_storage(one) for one in (*network.parameters(), *network.buffers())}
    saved: dict[int, Tensor] = {}  # the tensors are held, or another storage could come to lie at the same address
    sizes: dict[str, int] = {}
    told = 0

    def keep(value: Tensor) -> Tensor:
        if _storage(value) not in own:
            saved.setdefault(_storage(value), value)
        return value

    def note(name: str, _: Tensor) -> None:
        nonlocal told
        sizes[name] = sum(one.untyped_storage().nbytes() for one in list(saved.values())[told:])
        told = len(saved)

    pictures = torch.empty(batch_size, spec.in_channels, spec.input_size, spec.input_size, device="meta")
    with saved_tensors_hooks(keep, lambda value: value):
        network.walk(pictures, note)
    return sizes


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata
