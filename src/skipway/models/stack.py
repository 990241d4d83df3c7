"""The frame that plain nets, ResNet v1 and v2 share: stem, stages of units, head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import SpecError
from skipway.models.blocks import Row, StackSpec, Unit
from skipway.models.initialization import initialize
from skipway.models.layers import classified
from skipway.models.network import Network, Note


class Stack(Network):
    """Stages `stem`, one for each block, then `logits`; a family fills in its stem, its units and its tail."""

    stem_type: ClassVar[type[nn.Module]]
    unit_types: ClassVar[Mapping[str, Callable[..., nn.Module]]]

    def __init__(self, spec: StackSpec) -> None:
        super().__init__(spec)
        self.head = spec.head
        self.global_pool = spec.global_pool
        self.stem: nn.Module | None = None
        if spec.include_root_block:
            self.stem = self.stem_type(spec)
        self.stages = [block.name for block in spec.blocks]
        channels = spec.stem_channels()
        for block, rows in zip(spec.blocks, spec.placed(), strict=True):
            units: list[nn.Module] = []
            for row, rate in rows:
                first = not units
                unit = self.make_unit(block.unit, channels, row, spec, rate=rate, first=first)
                units.append(unit)
                channels, _, _ = row
            if hasattr(self, block.name):
                raise SpecError(f"{spec.name}: '{block.name}' means something else in a network; call the block stage1")
            self.add_module(block.name, Stage(units))
        self.add_tail(channels, spec)
        self.logits: nn.Linear | None = None
        if spec.num_classes:
            self.logits = nn.Linear(spec.features(), spec.num_classes)
        initialize(self, spec.initialization)

    def make_unit(
        self,
        kind: Unit,
        channels: int,
        row: Row,
        spec: Any,
        *,
        rate: int,
        first: bool,  # noqa: ARG002 (only v2 needs it)
    ) -> nn.Module:
        """A unit for maps of `channels`. `rate` is its dilation; `first` says whether it is the first of its stage."""
        unit_type = self.unit_types[kind]
        return unit_type(channels, row, spec, rate=rate)

    def add_tail(self, channels: int, spec: Any) -> None:
        """Register what follows the last stage."""

    def walk_tail(self, x: Tensor, note: Note) -> Tensor:  # noqa: ARG002 (v2 notes its last normalization)
        """Run what follows the last stage."""
        return x

    def walk(self, x: Tensor, note: Note) -> Tensor:
        """Pictures (N, C, H, W) -> logits, or the features before them; notes each unit and each stage."""
        if self.stem is not None:
            x = self.stem(x)
            note("stem", x)
        for name in self.stages:
            stage = getattr(self, name)
            x = stage.walk(x, name, note)
            note(name, x)
        x = self.walk_tail(x, note)
        return self.walk_head(x, note)

    def walk_head(self, x: Tensor, note: Note) -> Tensor:
        """Pool and classify the last map, noting `pre_logits` and `logits`."""
        if self.head == "average_2_flatten":
            x = F.avg_pool2d(x, 2)
            # Contiguous first: channels_last memory must still flatten in (C, H, W) order.
            x = x.contiguous().flatten(1)
        elif self.global_pool:
            x = x.mean((2, 3))
        note("pre_logits", x)
        if self.logits is None:
            return x
        x = classified(x, self.logits)
        note("logits", x)
        return x


class Stage(nn.Module):
    """Units in a row, noted as `stage2.unit3`."""

    def __init__(self, units: list[nn.Module]) -> None:
        super().__init__()
        for number, unit in enumerate(units, 1):
            self.add_module(f"unit{number}", unit)

    def walk(self, x: Tensor, prefix: str, note: Note) -> Tensor:
        """Run the units on (N, C, H, W), noting each."""
        for name, unit in self.named_children():
            x = unit(x)
            note(f"{prefix}.{name}", x)
        return x
