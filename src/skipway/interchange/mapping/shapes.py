"""The spec behind a file's names and shapes: stages and units counted, depths and widths measured.

A scheme says how a source names things, and its base row how the source builds them (where the stride sits, how it
pads); how many there are and how wide they are is read from the arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from skipway.interchange.mapping.keys import Key, Kind
from skipway.interchange.mapping.layouts import Layout
from skipway.interchange.mapping.scheme import Scheme
from skipway.models.blocks import Block, Row, StackSpec, Unit
from skipway.models.catalog import CATALOG

Shapes = Mapping[str, tuple[int, ...]]

_MOST_UNITS = 4096


@dataclass(frozen=True)
class Probe:
    """Asks a file for our tensors by the names of one scheme."""

    scheme: Scheme
    base: StackSpec
    shapes: Shapes

    def shape(
        self, layer: str, kind: Kind, *, stage: int = 0, unit: int = 0, tensor: str = "weight"
    ) -> tuple[int, ...]:
        """Our shape of that tensor, () where the file has none."""
        key = Key("", stage, unit, layer, tensor, kind, ())
        if layer == "logits":
            key = dataclasses.replace(key, name=f"logits.{tensor}")
        place = self.scheme.place(key, self.base)
        found = self.shapes.get(place.source, ()) if place else ()
        return _ours(found, place.layout) if place else ()


def infer_stack(shapes: Shapes, scheme: Scheme, base: StackSpec) -> StackSpec | None:
    """The network of a file by this scheme, named like its row of the catalog where it is one, or None.

    What names and shapes cannot tell (input size, strides, padding, epsilon) is the base's.
    """
    probe = Probe(scheme, base, shapes)
    stem, logits = probe.shape("stem.conv", "conv"), probe.shape("logits", "linear")
    if len(stem) != 4 or not probe.shape("conv1", "conv", stage=1, unit=1):
        return None
    blocks = _blocks(probe)
    projected = any(_projects(probe, stage, 1) for stage in range(1, len(blocks) + 1))
    fields = {
        "blocks": blocks,
        "num_classes": logits[0] if len(logits) == 2 else 0,
        "in_channels": stem[1],
        "stem": dataclasses.replace(
            base.stem,
            kernel=stem[2],
            width=stem[0],
            bias=bool(probe.shape("stem.conv", "conv", tensor="bias")),
        ),
        "shortcut": "projection" if projected or not _widens(stem[0], blocks) else "pad",
    }
    return named_alike(base.replaced(fields), base)


def _blocks(probe: Probe) -> tuple[Block, ...]:
    strided_last = any(row[2] > 1 for row in probe.base.blocks[0].rows[1:])
    counts: list[int] = []
    while units := _units(probe, len(counts) + 1):
        counts.append(units)
    blocks = []
    for stage, units in enumerate(counts, 1):
        kind: Unit = "bottleneck" if probe.shape("conv3", "conv", stage=stage, unit=1) else "basic"
        last = "conv3" if kind == "bottleneck" else "conv2"
        rows: list[Row] = []
        for unit in range(1, units + 1):
            depth = probe.shape(last, "conv", stage=stage, unit=unit)[0]
            width = probe.shape("conv1", "conv", stage=stage, unit=unit)[0]
            strided = unit == units and stage < len(counts) if strided_last else unit == 1 and stage > 1
            rows.append((depth, width, 2 if strided else 1))
        blocks.append(Block(f"stage{stage}", kind, tuple(rows)))
    return tuple(blocks)


def _units(probe: Probe, stage: int) -> int:
    unit = 0
    while unit < _MOST_UNITS and probe.shape("conv2", "conv", stage=stage, unit=unit + 1):
        unit += 1
    return unit


def _projects(probe: Probe, stage: int, unit: int) -> bool:
    return any(probe.shape(layer, "conv", stage=stage, unit=unit) for layer in ("shortcut", "shortcut.conv"))


def _widens(channels: int, blocks: tuple[Block, ...]) -> bool:
    depths = [channels, *(row[0] for block in blocks for row in block.rows)]
    return len(set(depths)) > 1


def named_alike(spec: StackSpec, base: StackSpec) -> StackSpec:
    """Called as the row of the base's layout that has the same blocks, or else as the base with its depth."""
    layout = base.name.partition(".")[2]
    for name, entry in CATALOG.items():
        row = entry.spec
        if name.endswith(f".{layout}") and type(row) is type(spec) and getattr(row, "blocks", None) == spec.blocks:
            measured = ("num_classes", "in_channels", "stem", "shortcut")
            return spec.replaced(vars(row) | {field: getattr(spec, field) for field in measured})
    convolutions = 1 + sum((3 if block.unit == "bottleneck" else 2) * len(block.rows) for block in spec.blocks)
    return spec.replaced({"name": f"{spec.architecture}_{convolutions + 1}.{layout}"})


def _ours(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    match layout, len(shape):
        case "hwio", 4:
            return (shape[3], shape[2], shape[0], shape[1])
        case (("io" | "hwc_io"), 2):
            return (shape[1], shape[0])
        case "pixel_io", 4:
            return (shape[3], shape[2])
        case "pixel", 4:
            return shape[:2]
        case "same", _:
            return shape
    return ()
