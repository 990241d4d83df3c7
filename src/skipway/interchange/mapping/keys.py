"""Our state-dict keys taken apart: which unit of which stage, which layer of it, which of its tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from skipway.models.network import Spec

Kind = Literal["conv", "linear", "norm"]


@dataclass(frozen=True)
class Key:
    """`stage2.unit3.conv1.weight` is stage 2, unit 3, layer `conv1`, tensor `weight`; outside the stages both are 0.

    `layer` is the path below the unit, or the whole of it: `conv1`, `shortcut.norm`, `stem.conv`, `logits`. `shape` is
    our tensor's.
    """

    name: str
    stage: int
    unit: int
    layer: str
    tensor: str
    kind: Kind
    shape: tuple[int, ...]


def keys_of(spec: Spec) -> list[Key]:
    """The keys of a spec's network in its own order, without taking memory for its weights."""
    return list(_keys_of(spec))


@lru_cache(maxsize=16)  # every scheme that might name a network asks
def _keys_of(spec: Spec) -> tuple[Key, ...]:
    with torch.device("meta"):
        network = spec.build()
    kinds: dict[str, Kind] = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            kinds[path] = "norm"
        elif isinstance(module, nn.Conv2d):
            kinds[path] = "conv"
        elif isinstance(module, nn.Linear):
            kinds[path] = "linear"
    keys = []
    for name, value in network.state_dict().items():
        path, _, tensor = name.rpartition(".")
        found = re.fullmatch(r"stage(\d+)\.unit(\d+)\.(.+)", path)
        stage, unit, layer = (int(found[1]), int(found[2]), found[3]) if found else (0, 0, path)
        keys.append(Key(name, stage, unit, layer, tensor, kinds[path], tuple(value.shape)))
    return tuple(keys)
