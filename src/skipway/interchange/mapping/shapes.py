"""The spec that follows from a file's names and shapes: counts of stages and units, depths and widths.

A scheme has the names of a source. Its base, a row of the catalog, says how the source builds networks (where the
stride sits, how it pads). How many layers there are and how wide they are is read from the arrays.
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
    """The shapes of our tensors in a file, by the names of one scheme.

    `base` is the network that the scheme's names are asked for, and `shapes` are those of the file's arrays.
    """

    scheme: Scheme
    base: StackSpec
    shapes: Shapes

    def shape(
        self, layer: str, kind: Kind, *, stage: int = 0, unit: int = 0, tensor: str = "weight"
    ) -> tuple[int, ...]:
        """The shape of a tensor in our layout, () where the file has none. `stage` and `unit` are as in Key."""
        name = f"logits.{tensor}" if layer == "logits" else ""
        key = Key(name, stage, unit, layer, tensor, kind, ())
        place = self.scheme.place(key, self.base)
        if place is None:
            return ()
        found = self.shapes.get(place.source, ())
        return _ours(found, place.layout)


def infer_stack(shapes: Shapes, scheme: Scheme, base: StackSpec) -> StackSpec | None:
    """The network of a file with arrays of these `shapes`, by the names of this scheme; None where it is no ResNet.

    It has the name of the catalog's row that has its blocks, if there is one. What names and shapes do not show (input
    size, strides, padding, epsilon) is the base's.
    """
    probe = Probe(scheme, base, shapes)
    stem = probe.shape("stem.conv", "conv")
    first_conv = probe.shape("conv1", "conv", stage=1, unit=1)
    if len(stem) != 4 or not first_conv:
        return None
    width, in_channels, kernel, _ = stem
    bias = probe.shape("stem.conv", "conv", tensor="bias")
    logits = probe.shape("logits", "linear")
    blocks = _blocks(probe)
    shortcut = "projection"
    if _widens(width, blocks) and not _has_projections(probe, len(blocks)):
        shortcut = "pad"
    num_classes = 0
    if len(logits) == 2:
        num_classes = logits[0]
    fields = {
        "blocks": blocks,
        "num_classes": num_classes,
        "in_channels": in_channels,
        "stem": dataclasses.replace(base.stem, kernel=kernel, width=width, bias=bool(bias)),
        "shortcut": shortcut,
    }
    spec = base.replaced(fields)
    return named_alike(spec, base)


def _blocks(probe: Probe) -> tuple[Block, ...]:
    """The stages of the network. Its strides are 2, in the same unit of a stage as in the base."""
    counts: list[int] = []
    units = _units(probe, 1)
    while units:
        counts.append(units)
        units = _units(probe, len(counts) + 1)
    # In some networks, TF-Slim's among them, the last unit of a stage has the stride, in others the first.
    strided_last = any(row[2] > 1 for row in probe.base.blocks[0].rows[1:])
    blocks = []
    for stage, units in enumerate(counts, 1):
        strided_unit = 0
        if strided_last and stage < len(counts):
            strided_unit = units
        elif not strided_last and stage > 1:
            strided_unit = 1
        block = _block(probe, stage, units, strided_unit)
        blocks.append(block)
    return tuple(blocks)


def _block(probe: Probe, stage: int, units: int, strided_unit: int) -> Block:
    """A stage of so many units. The unit `strided_unit`, from 1, has stride 2; 0 is none."""
    kind: Unit = "basic"
    last_conv = "conv2"
    if probe.shape("conv3", "conv", stage=stage, unit=1):
        kind = "bottleneck"
        last_conv = "conv3"
    rows: list[Row] = []
    for unit in range(1, units + 1):
        first_shape = probe.shape("conv1", "conv", stage=stage, unit=unit)
        last_shape = probe.shape(last_conv, "conv", stage=stage, unit=unit)
        width = first_shape[0]
        depth = last_shape[0]
        stride = 2 if unit == strided_unit else 1
        rows.append((depth, width, stride))
    return Block(f"stage{stage}", kind, tuple(rows))


def _units(probe: Probe, stage: int) -> int:
    """How many units of a stage the file has."""
    units = 0
    while units < _MOST_UNITS:
        shape = probe.shape("conv2", "conv", stage=stage, unit=units + 1)
        if not shape:
            break
        units += 1
    return units


def _has_projections(probe: Probe, stages: int) -> bool:
    """Whether the first unit of any stage has a convolution in its shortcut."""
    for stage in range(1, stages + 1):
        for layer in ("shortcut", "shortcut.conv"):
            shape = probe.shape(layer, "conv", stage=stage, unit=1)
            if shape:
                return True
    return False


def _widens(channels: int, blocks: tuple[Block, ...]) -> bool:
    """Whether the depth changes anywhere after the stem, which has `channels`."""
    depths = {channels}
    for block in blocks:
        for depth, _, _ in block.rows:
            depths.add(depth)
    return len(depths) > 1


def named_alike(spec: StackSpec, base: StackSpec) -> StackSpec:
    """The spec with the name and the other fields of the catalog's row of the base's layout that has its blocks.

    Where there is no such row, only its name changes: its depth, in the base's layout.
    """
    layout = base.name.partition(".")[2]
    for name, entry in CATALOG.items():
        row = entry.spec
        if type(row) is not type(spec) or not name.endswith(f".{layout}"):
            continue
        if getattr(row, "blocks", None) == spec.blocks:
            fields = vars(row).copy()
            for name_of_field in ("num_classes", "in_channels", "stem", "shortcut"):  # which the arrays show
                fields[name_of_field] = getattr(spec, name_of_field)
            return spec.replaced(fields)
    layers = 2  # the stem and the classifier
    for block in spec.blocks:
        convolutions = 3 if block.unit == "bottleneck" else 2
        layers += convolutions * len(block.rows)
    return spec.replaced({"name": f"{spec.architecture}_{layers}.{layout}"})


def _ours(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """A shape of the source in our layout, () where it is not of that layout."""
    match layout, len(shape):
        case "hwio", 4:
            height, width, inputs, outputs = shape
            return (outputs, inputs, height, width)
        case (("io" | "hwc_io"), 2):
            inputs, outputs = shape
            return (outputs, inputs)
        case "pixel_io", 4:
            _, _, inputs, outputs = shape
            return (outputs, inputs)
        case "pixel", 4:
            return shape[:2]
        case "same", _:
            return shape
    return ()
