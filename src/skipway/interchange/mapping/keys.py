"""The parts of our state-dict keys: which unit of which stage, which layer of it, which of its tensors."""

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
    """The parts of one key: `stage2.unit3.conv1.weight` is stage 2, unit 3, layer `conv1`, tensor `weight`.

    Outside the stages `stage` and `unit` are 0. `layer` is the path below the unit, or the whole path outside the
    stages: `conv1`, `shortcut.norm`, `stem.conv`, `logits`. `name` is the whole key, `kind` the kind of the layer, and
    `shape` the shape of our tensor.
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


@lru_cache(maxsize=16)  # every scheme that is tried on a file asks for them
def _keys_of(spec: Spec) -> tuple[Key, ...]:
    with torch.device("meta"):
        network = spec.build()
    kinds = _layer_kinds(network)
    keys = []
    for name, value in network.state_dict().items():
        layer, _, tensor = name.rpartition(".")
        kind = kinds[layer]
        stage, unit = 0, 0
        in_unit = re.fullmatch(r"stage(\d+)\.unit(\d+)\.(.+)", layer)
        if in_unit:
            stage = int(in_unit[1])
            unit = int(in_unit[2])
            layer = in_unit[3]
        key = Key(name, stage, unit, layer, tensor, kind, tuple(value.shape))
        keys.append(key)
    return tuple(keys)


def _layer_kinds(network: nn.Module) -> dict[str, Kind]:
    """The kind of each layer that has weights, by its path in the network."""
    kinds: dict[str, Kind] = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            kinds[path] = "norm"
        elif isinstance(module, nn.Conv2d):
            kinds[path] = "conv"
        elif isinstance(module, nn.Linear):
            kinds[path] = "linear"
    return kinds
