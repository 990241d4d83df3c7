"""A network in rows: units, shapes, parameters, operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from skipway.models.catalog import find_spec, list_models
from skipway.models.layers import LocalResponseNorm
from skipway.models.network import Network, Spec


@dataclass(frozen=True)
class Row:
    """One unit: its endpoint name, output shape without the batch, and parameters."""

    name: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """Counts of a network at its own input size. `statistics` are running means and variances; `flops` are those of
    convolutions and linear layers for one picture, a multiplication and an addition counted as two."""

    name: str
    input_shape: tuple[int, ...]
    trainable: int
    statistics: int
    flops: int
    layers: tuple[Row, ...]

    @property
    def total(self) -> int:
        """Trainable parameters and statistics."""
        return self.trainable + self.statistics

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "input": list(self.input_shape),
            "trainable": self.trainable,
            "statistics": self.statistics,
            "total": self.total,
            "flops": self.flops,
            "layers": [
                {"name": one.name, "shape": list(one.shape), "parameters": one.parameters} for one in self.layers
            ],
        }

    def told(self) -> str:
        """The rows as text."""
        width = max(len(one.name) for one in self.layers)
        lines = [f"{self.name}, input {_shape(self.input_shape)}"]
        lines += [f"  {one.name:{width}}  {_shape(one.shape):>16}  {one.parameters:>12,}" for one in self.layers]
        lines.append(
            f"total {self.total:,} = {self.trainable:,} trainable + {self.statistics:,} statistics; "
            f"{self.flops / 1e9:.3f} GFLOPs a picture"
        )
        return "\n".join(lines)


def summarize(name: str, *, num_classes: int | None = None) -> Summary:
    """Summary of a row of the catalog, without taking memory for its weights."""
    spec = find_spec(name)
    if num_classes is not None:
        spec = spec.replaced({"num_classes": num_classes})
    network = _on_meta(spec)
    example = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size, device="meta")
    shapes: dict[str, tuple[int, ...]] = {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.walk(example, lambda key, value: shapes.__setitem__(key, tuple(value.shape[1:])))
    modules = dict(network.named_modules())
    rows = [
        Row(key, shape, _parameters(modules[key]))
        for key, shape in shapes.items()
        # A stage repeats its last unit's shape; its parameters are those of its units.
        if key in modules and not any(other.startswith(f"{key}.") for other in shapes)
    ]
    return Summary(
        name=spec.name,
        input_shape=tuple(example.shape[1:]),
        trainable=_parameters(network),
        statistics=sum(
            buffer.numel() for key, buffer in network.named_buffers() if key.endswith(("running_mean", "running_var"))
        ),
        flops=counter.get_total_flops(),
        layers=tuple(rows),
    )


def model_rows(pattern: str = "*") -> list[dict[str, Any]]:
    """Name, total, flops, year and source of each network that matches."""
    rows = []
    for name in list_models(pattern):
        found, spec = summarize(name), find_spec(name)
        row = {"name": name, "total": found.total, "flops": found.flops, "year": spec.year, "source": spec.source}
        rows.append(row)
    return rows


def models_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'name':26} {'total':>12} {'GFLOPs':>8}  year  source"]
    lines += [
        f"{row['name']:26} {row['total']:>12,} {row['flops'] / 1e9:8.3f}  {row['year']}  {row['source']}"
        for row in rows
    ]
    return "\n".join(lines)


def _on_meta(spec: Spec) -> Network:
    with torch.device("meta"):
        network = spec.build().eval()
    # Ours computes response normalization as a convolution, for speed: its operations are no part of the network.
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, LocalResponseNorm):
                setattr(module, name, nn.Identity())
    return network


def _parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
