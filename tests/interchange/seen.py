"""Networks whose statistics are those of natural pictures, without training: drawn weights, counted statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skipway.data.preprocessing import Preprocessing, preset
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.preparation.natural_pictures import crops, natural_pictures
from skipway.models import create_model
from skipway.models.blocks import StackSpec, Stem, Unit, stage
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle

WIDTHS = (16, 32, 64)


def small(
    row: str = "resnet_v1_20.cifar", *, widths: tuple[int, ...] = WIDTHS, unit: Unit = "basic", **fields: Any
) -> StackSpec:
    """A residual network with one unit a stage."""
    blocks = tuple(
        stage(f"stage{number}", unit, width, 1, stride=1 if number == 1 else 2)
        for number, width in enumerate(widths, 1)
    )
    spec = create_model(row, blocks=blocks, **{"stem": Stem(3, 1, widths[0], None), **fields}).spec
    assert isinstance(spec, StackSpec)
    return spec


def untrained(spec: Spec) -> dict[str, Tensor]:
    return dict(spec.build().state_dict())


def seen(spec: Spec, rule: Preprocessing, seed: int = 5) -> dict[str, Tensor]:
    """Weights, and the statistics that each normalization meets when crops of photographs come by."""
    torch.manual_seed(seed)
    network = spec.build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
    pictures = [rule.pixels(picture) for picture in crops(natural_pictures(), 48, rule.size, seed)]
    with torch.no_grad():
        network.train()(rule.standardized(torch.stack(pictures)))
    return dict(network.eval().state_dict())


def model(spec: StackSpec, convention: str = "cifar") -> Bundle:
    rule = preset(convention, spec.input_size)
    return Bundle(spec, rule, tuple("abcdefghij"), seen(spec, rule))


def torch_file(file: Path, spec: Spec, tensors: dict[str, Tensor], scheme: Scheme) -> Path:
    """As code of PyTorch would have saved it."""
    places = scheme.places(spec)
    torch.save({place.source: tensors[key] for key, place in places.items() if place is not None}, file)
    return file


def turned(rule: Preprocessing) -> Preprocessing:
    return replace(rule, channels="BGR", mean=rule.mean[::-1], std=rule.std[::-1])
