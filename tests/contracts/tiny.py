"""A row of the catalog made tiny: every field that tells layouts apart as it is, few units, few channels.

The numbers of a deep network teach nothing that those of a shallow one do not, take minutes, and blow up with weights
that nobody trained.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import Block, Row, StackSpec
from skipway.models.catalog import find_spec, list_models
from skipway.models.highway import HighwaySpec
from skipway.models.mlp import MLPSpec
from skipway.models.network import Network, Spec
from tests.parity.compare import fill

CLASSES = 5


def tiny(name: str, **fields: object) -> Spec:
    """The tiny form of a row for pictures of 33 pixels, or of the smallest side that it can take; then `fields`."""
    spec = _narrowed(find_spec(name)).replaced({"num_classes": CLASSES, "input_size": 1000})
    return spec.replaced({"input_size": max(spec.smallest_input(), 33)} | fields)


def _narrowed(spec: Spec) -> Spec:
    if isinstance(spec, AlexNetSpec):
        convs = tuple(dataclasses.replace(row, depth=row.depth // 16) for row in spec.convs)
        return spec.replaced({"convs": convs, "hidden": tuple(24 for _ in spec.hidden)})
    if isinstance(spec, MLPSpec):
        return spec.replaced({"layers": 4, "width": 12})
    if isinstance(spec, HighwaySpec):
        stages = [dataclasses.replace(row, depth=row.depth // 4, kernels=row.kernels[:2]) for row in spec.stages]
        return spec.replaced({"stages": stages, "last_width": 12})
    assert isinstance(spec, StackSpec)
    share = spec.stem.width // 8  # a stem of 8 channels, and all else in proportion
    blocks = [dataclasses.replace(block, rows=_kept(block, share)) for block in spec.blocks]
    return spec.replaced({"blocks": blocks, "stem": dataclasses.replace(spec.stem, width=8)})


def _kept(block: Block, share: int) -> tuple[Row, ...]:
    """The first unit, which projects or pads; one in the middle; the last one, where some layouts have the stride."""
    rows = [block.rows[place] for place in sorted({0, 1, len(block.rows) - 1})]
    return tuple((depth // share, width // share, stride) for depth, width, stride in rows)


# Fields that change neither a network's layers nor what they compute.
_REMARKS = {"name", "preprocessing", "initialization", "weight_decay", "year", "paper", "source"}


def twins() -> list[list[str]]:
    """The rows of the catalog, together where their tiny forms are one and the same network."""
    groups: dict[str, list[str]] = {}
    for name in list_models():
        fields = {key: value for key, value in tiny(name).to_dict().items() if key not in _REMARKS}
        groups.setdefault(repr(fields), []).append(name)
    return list(groups.values())


def filled(spec: Spec) -> Network:
    """The network with weights by formula, for evaluation: no statistic is 0 or 1 that would hide being left out."""
    network = spec.build()
    fill(network)
    return network.eval()


def pictures(spec: Spec, count: int, *sides: int) -> Tensor:
    """(count, C, H, W) of standard normal noise, of the spec's own size unless `sides` gives H and W."""
    height, width = sides or (spec.input_size,) * 2
    return torch.randn(count, spec.in_channels, height, width)


def fixed_size(spec: Spec) -> bool:
    """Whether the classifier flattens a map, so that the network fits pictures of one size only."""
    return spec.flattened(spec.input_size) != spec.flattened(spec.input_size + 64)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest expected value. Both must be finite, and the expected one not 0."""
    assert found.shape == expected.shape, f"{tuple(found.shape)} is not {tuple(expected.shape)}"
    assert found.isfinite().all()
    assert expected.isfinite().all()
    scale = expected.abs().max().item()
    assert scale > 0
    return (found - expected).abs().max().item() / scale
