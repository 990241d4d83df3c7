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

_HEADER = ("unit", "", "output", "parameters", "MFLOPs", "sees")


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
        ours = (self.kind, self.shape, self.parameters, self.flops)
        theirs = (other.kind, other.shape, other.parameters, other.flops)
        return ours == theirs

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes and strides in pixels."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "parameters": self.parameters,
            "flops": self.flops,
            "receptive_field": self.receptive_field,
            "stride": self.stride,
        }


@dataclass(frozen=True)
class Summary:
    """Counts of a network at one input size.

    `trainable` counts the parameters, and `statistics` the running means and variances. `flops` are the operations of
    convolutions and linear layers for one picture, a multiplication and an addition counted as two, biases and
    everything elementwise left out. `layers` are the units, in forward order. `activation_bytes` is what training keeps
    for a batch of `batch_size` (see `counting`).
    """

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
            "layers": [row.to_dict() for row in self.layers],
        }

    def describe(self) -> str:
        """The rows as text, equal units in a row as one line."""
        groups = _folded(self.layers)
        lines = [f"{self.name}, input {_shape(self.input_shape)}"]
        lines += _table(groups)
        lines.append(self._totals())
        pictures = counted(self.batch_size, "picture")
        lines.append(f"training on {pictures} at once keeps {_size(self.activation_bytes)} of activations (fp32)")
        if len(groups) < len(self.layers):
            lines.append("xN: N equal units, with the figures of each")
        return "\n".join(lines)

    def _totals(self) -> str:
        """The line of sums."""
        parts = f"{self.trainable:,} trainable + {self.statistics:,} statistics"
        digits = 5
        if self.flops >= 10**7:
            digits = 3
        return f"total {self.total:,} = {parts}; {self.flops / 1e9:,.{digits}f} GFLOPs a picture"


def summarize(
    name: str, *, num_classes: int | None = None, batch_size: int = 1, image_size: int | None = None
) -> Summary:
    """Summary of a row of the catalog, without taking memory for its weights.

    `image_size` is the picture's side in pixels, by default the source's. Raises UnknownNameError for an unknown name,
    SpecError for classes or a size that the network cannot have.
    """
    fields: dict[str, int] = {}
    if num_classes is not None:
        fields["num_classes"] = num_classes
    if image_size is not None:
        fields["input_size"] = image_size
    spec = find_spec(name).replaced(fields)
    network = on_meta(spec)
    # Counted before the tracing, which takes the network's norms away.
    trainable = parameters_of(network)
    statistics = statistics_of(network)
    rows = _rows(network)
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
    """A row for each endpoint that is a module and holds no other endpoint."""
    parameters = {name: parameters_of(module) for name, module in network.named_modules()}
    endpoints = trace(network)
    # A stage repeats its last unit's shape; its parameters are those of its units.
    stages = {name.rpartition(".")[0] for name in endpoints}
    rows: list[Row] = []
    for name, endpoint in endpoints.items():
        if name in parameters and name not in stages:
            rows.append(_row(name, endpoint, parameters[name]))
    return tuple(rows)


def _row(name: str, endpoint: Endpoint, parameters: int) -> Row:
    """The row of an endpoint; fields and strides rounded up to whole pixels."""
    field = endpoint.field
    return Row(
        name=name,
        shape=endpoint.shape,
        parameters=parameters,
        flops=endpoint.flops,
        receptive_field=math.ceil(field.size),
        stride=math.ceil(field.jump),
        whole=field.whole,
    )


def _folded(rows: tuple[Row, ...]) -> list[list[Row]]:
    """Rows that differ in number alone, `stage2.unit3` and `stage2.unit4`, in groups."""
    groups: list[list[Row]] = []
    for row in rows:
        if groups and row.folds_with(groups[-1][-1]):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _table(groups: list[list[Row]]) -> list[str]:
    """One line a group below a header, the columns aligned."""
    table = [_HEADER]
    for group in groups:
        table.append(_cells(group))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines: list[str] = []
    for cells in table:
        padded = [cells[0].ljust(widths[0]), cells[1].ljust(widths[1])]
        for text, width in zip(cells[2:], widths[2:], strict=True):
            padded.append(text.rjust(width))
        # The column of numbers of units stands close to the names.
        lines.append(f"  {padded[0]} {'  '.join(padded[1:])}")
    return lines


def _cells(group: list[Row]) -> tuple[str, str, str, str, str, str]:
    """The texts of a group of equal units, one a column."""
    first, last = group[0], group[-1]
    name = first.name
    times = ""
    sees = f"{first.receptive_field}"
    if len(group) > 1:
        name = f"{first.name}-{last.number}"
        times = f"x{len(group)}"
        sees = f"{first.receptive_field}-{last.receptive_field}"
    if first.whole:
        sees = "all"
    parameters = f"{first.parameters:,}"
    megaflops = f"{first.flops / 1e6:,.2f}"
    return name, times, _shape(first.shape), parameters, megaflops, sees


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _size(count: int) -> str:
    """A number of bytes in the largest unit that it fills."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return counted(count, "byte")
