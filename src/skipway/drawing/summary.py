"""A network in rows: units, shapes, parameters, operations, receptive fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skipway.drawing.counting import activation_bytes, parameters_of, statistics_of
from skipway.drawing.tracing import Endpoint, on_meta, trace
from skipway.models.catalog import find_spec
from skipway.models.network import Network
from skipway.reporting import counted


@dataclass(frozen=True)
class Row:
    """One unit: its endpoint name, output shape without the batch, parameters, operations (see `Summary.flops`).

    Each of its values sees `receptive_field` pixels a side of the picture and its padding, `stride` pixels away from
    its neighbour's; `whole` behind an average over the map or its flattening.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    flops: int
    receptive_field: int
    stride: int
    whole: bool

    @property
    def kind(self) -> str:
        """The name without its number."""
        return self.name.rstrip("0123456789")

    @property
    def number(self) -> str:
        """The number that ends the name, if one does."""
        return self.name.removeprefix(self.kind)

    def folds_with(self, other: Row) -> bool:
        """Whether both are the same unit at another place."""
        return (self.kind, self.shape, self.parameters, self.flops) == (
            other.kind,
            other.shape,
            other.parameters,
            other.flops,
        )


@dataclass(frozen=True)
class Summary:
    """Counts of a network at one input size. `statistics` are running means and variances; `flops` are those of
    convolutions and linear layers for one picture, a multiplication and an addition counted as two, biases and
    everything elementwise left out. `activation_bytes` is what training keeps for a batch (see `counting`)."""

    name: str
    input_shape: tuple[int, ...]
    trainable: int
    statistics: int
    flops: int
    layers: tuple[Row, ...]
    batch_size: int
    activation_bytes: int

    @property
    def total(self) -> int:
        """Trainable parameters and statistics."""
        return self.trainable + self.statistics

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes in bytes, fields and strides in pixels."""
        return {
            "name": self.name,
            "input": list(self.input_shape),
            "trainable": self.trainable,
            "statistics": self.statistics,
            "total": self.total,
            "flops": self.flops,
            "batch_size": self.batch_size,
            "activation_bytes": self.activation_bytes,
            "layers": [
                {
                    "name": one.name,
                    "shape": list(one.shape),
                    "parameters": one.parameters,
                    "flops": one.flops,
                    "receptive_field": one.receptive_field,
                    "stride": one.stride,
                }
                for one in self.layers
            ],
        }

    def describe(self) -> str:
        """The rows as text, equal units in a row as one line."""
        groups = _folded(self.layers)
        cells = [("unit", "", "output", "parameters", "MFLOPs", "sees")] + [_cells(one) for one in groups]
        widths = [max(len(row[column]) for row in cells) for column in range(6)]
        left = {0, 1}
        lines = [f"{self.name}, input {_shape(self.input_shape)}"]
        for row in cells:
            texts = [f"{text:{'<' if i in left else '>'}{widths[i]}}" for i, text in enumerate(row)]
            lines.append(f"  {texts[0]} {'  '.join(texts[1:])}")
        lines.append(
            f"total {self.total:,} = {self.trainable:,} trainable + {self.statistics:,} statistics; "
            f"{self.flops / 1e9:,.{3 if self.flops >= 10**7 else 5}f} GFLOPs a picture"
        )
        pictures = counted(self.batch_size, "picture")
        lines.append(f"training on {pictures} at once keeps {_size(self.activation_bytes)} of activations (fp32)")
        if any(len(one) > 1 for one in groups):
            lines.append("xN: N equal units, with the figures of each")
        return "\n".join(lines)


def summarize(
    name: str, *, num_classes: int | None = None, batch_size: int = 1, image_size: int | None = None
) -> Summary:
    """Summary of a row of the catalog, without taking memory for its weights.

    `image_size` is the picture's side in pixels, by default the source's. Raises UnknownNameError for an unknown name,
    SpecError for classes or a size that the network cannot have.
    """
    fields = {"num_classes": num_classes, "input_size": image_size}
    spec = find_spec(name).replaced({key: value for key, value in fields.items() if value is not None})
    network = on_meta(spec)
    trainable, statistics, rows = parameters_of(network), statistics_of(network), _rows(network)
    return Summary(
        name=spec.name,
        input_shape=(spec.in_channels, spec.input_size, spec.input_size),
        trainable=trainable,
        statistics=statistics,
        flops=sum(row.flops for row in rows),
        layers=rows,
        batch_size=batch_size,
        activation_bytes=activation_bytes(spec, batch_size),
    )


def _rows(network: Network) -> tuple[Row, ...]:
    modules = dict(network.named_modules())
    parameters = {key: parameters_of(module) for key, module in modules.items()}
    endpoints = trace(network)
    # A stage repeats its last unit's shape; its parameters are those of its units.
    stages = {key.rpartition(".")[0] for key in endpoints}
    return tuple(
        _row(key, one, parameters[key]) for key, one in endpoints.items() if key in modules and key not in stages
    )


def _row(name: str, endpoint: Endpoint, parameters: int) -> Row:
    field = endpoint.field
    size, stride = math.ceil(field.size), math.ceil(field.jump)
    return Row(name, endpoint.shape, parameters, endpoint.flops, size, stride, field.whole)


def _folded(rows: tuple[Row, ...]) -> list[list[Row]]:
    """Rows that differ in number alone, `stage2.unit3` and `stage2.unit4`, in groups."""
    groups: list[list[Row]] = []
    for row in rows:
        if groups and row.folds_with(groups[-1][-1]):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _cells(group: list[Row]) -> tuple[str, str, str, str, str, str]:
    first, last = group[0], group[-1]
    name, times, sees = first.name, "", f"{first.receptive_field}"
    if len(group) > 1:
        name, times = f"{first.name}-{last.number}", f"x{len(group)}"
        sees = f"{first.receptive_field}-{last.receptive_field}"
    sees = "all" if first.whole else sees
    return name, times, _shape(first.shape), f"{first.parameters:,}", f"{first.flops / 1e6:,.2f}", sees


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return counted(count, "byte")
