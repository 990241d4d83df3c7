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
    trainable = _over_units(network, times, parameters_of)
    statistics = _over_units(network, times, statistics_of)
    flops = 0
    for name, endpoint in trace(network).items():
        flops += endpoint.flops * times.get(name, 1)
    return Counts(trainable, statistics, flops)


def shortened(spec: Spec) -> tuple[Spec, dict[str, int]]:
    """The network with one unit where it has several equal ones in a row, and for how many each such unit stands."""
    # In a row the second unit stands for the rest: the first may have a shortcut of its own, and finds its input among
    # the activations that the layer before it keeps.
    if isinstance(spec, MLPSpec) and spec.layers > 3:
        return replace(spec, layers=3), {"unit2": spec.layers - 2}
    if not isinstance(spec, StackSpec):
        return spec, {}
    if spec.output_stride:
        # The dilation grows from unit to unit: no two of them are equal.
        return spec, {}
    blocks: list[Block] = []
    times: dict[str, int] = {}
    for block in spec.blocks:
        rows: list[Row] = []
        for row in block.rows:
            if _repeats_last(rows, row):
                name = f"{block.name}.unit{len(rows)}"
                times[name] = times.get(name, 1) + 1
            else:
                rows.append(row)
        blocks.append(replace(block, rows=tuple(rows)))
    return replace(spec, blocks=tuple(blocks)), times


def _repeats_last(rows: list[Row], row: Row) -> bool:
    """Whether a further unit of a stage would be equal to the last of `rows`."""
    if len(rows) < 2 or row != rows[-1]:
        return False
    # Equal are those that find equal channels, too: a unit's input is its predecessor's output.
    depth, _, stride = row
    depth_before, _, _ = rows[-2]
    return depth == depth_before and stride == 1


def parameters_of(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in module.parameters())


def statistics_of(module: nn.Module) -> int:
    """Running means and variances."""
    total = 0
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            total += buffer.numel()
    return total


def _over_units(network: Network, times: dict[str, int], counted: Callable[[nn.Module], int]) -> int:
    """What `counted` finds in the whole network, for the shortened one and how often each of its units stands."""
    total = counted(network)
    for name, number in times.items():
        unit = network.get_submodule(name)
        total += (number - 1) * counted(unit)
    return total


def activation_bytes(spec: Spec, batch_size: int) -> int:
    """Bytes of fp32 activations that a training step keeps between its forward and its backward pass.

    Counted is what autograd saves for the gradients, the pictures included, each storage once: a ReLU in place shares
    that of its input. Not counted: parameters, buffers, gradients, the loss, and what a kernel needs while it runs.
    """
    short, times = shortened(spec)
    network = on_meta(short).train()
    # Two passes and the line through them: batch normalization refuses a batch of one where the map has one pixel, and
    # the sizes of a huge batch would overflow.
    two = _saved_in_all(network, times, batch_size=2)
    three = _saved_in_all(network, times, batch_size=3)
    return two + (batch_size - 2) * (three - two)


def _saved_in_all(network: Network, times: dict[str, int], *, batch_size: int) -> int:
    """Bytes that autograd saves in the whole network, for the shortened one and how often each of its units stands."""
    total = 0
    for name, size in saved_bytes(network, batch_size).items():
        total += size * times.get(name, 1)
    return total


def saved_bytes(network: Network, batch_size: int) -> dict[str, int]:
    """For each endpoint the bytes that autograd saves between it and the endpoint before, for `network` on meta."""
    spec = network.spec
    own = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, Tensor] = {}  # the tensors are held, or another storage could come to lie at the same address
    sizes: dict[str, int] = {}
    counted = 0

    def keep(value: Tensor) -> Tensor:
        storage = _storage(value)
        if storage not in own:
            saved.setdefault(storage, value)
        return value

    def note(name: str, _: Tensor) -> None:
        nonlocal counted
        new = list(saved.values())[counted:]
        sizes[name] = sum(tensor.untyped_storage().nbytes() for tensor in new)
        counted = len(saved)

    pictures = torch.empty(batch_size, spec.in_channels, spec.input_size, spec.input_size, device="meta")
    with saved_tensors_hooks(keep, lambda value: value):
        network.walk(pictures, note)
    return sizes


def _storage(value: Tensor) -> int:
    """The identity of a tensor's memory."""
    return value.untyped_storage()._cdata
