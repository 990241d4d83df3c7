"""torchvision's ResNet-50 and AlexNet and timm's pre-activation ResNet-50, saved by torch and by safetensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.parity.files.pair import Pair, values

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

_BOTH = ("zip.pth", "legacy.pth")
PAIRS = (
    Pair("torches", "resnet50", "torchvision 0.29, resnet50, IMAGENET1K_V1.transforms", "own", _BOTH),
    Pair("torches", "alexnet", "torchvision 0.29, alexnet, IMAGENET1K_V1.transforms", "own", _BOTH),
    Pair("torches", "resnetv2_50", "timm 1.0, resnetv2_50, create_transform", "timm",
         ("zip.pth", "model.safetensors")),
)  # fmt: skip


def write(pair: Pair, photos: list[Path], folder: Path) -> np.ndarray:
    """The files; returns the logits (N, classes)."""
    network, transform = (_timm if pair.environment == "timm" else _torchvision)(pair.name)
    fill(network)
    save(network, pair.files, folder)
    return answers(network, transform, photos)


def fill(network: nn.Module) -> None:
    """Draw every parameter and running statistic."""
    import torch

    state = {}
    for key, value in network.state_dict().items():
        kind = key.rpartition(".")[2]
        if kind == "weight" and value.ndim == 1:
            kind = "gamma"
        shape = tuple(value.shape)
        counter = kind == "num_batches_tracked"
        state[key] = (
            torch.tensor(1_000) if counter else torch.from_numpy(values(key, shape, kind, fan_in=value[:1].numel()))
        )
    network.load_state_dict(state)


def save(network: nn.Module, files: tuple[str, ...], folder: Path) -> None:
    """The state dict in each form that the names tell."""
    import torch

    for file in files:
        if file.endswith(".safetensors"):
            from safetensors.torch import save_file

            save_file(network.state_dict(), folder / file)
        else:
            torch.save(network.state_dict(), folder / file, _use_new_zipfile_serialization=file.startswith("zip"))


def answers(network: nn.Module, transform: Callable[[Image.Image], Tensor], photos: list[Path]) -> np.ndarray:
    """Logits (N, classes) of the photos."""
    import torch
    from PIL import Image

    pictures = []
    for photo in photos:
        with Image.open(photo) as opened:
            pictures.append(transform(opened.convert("RGB")))
    with torch.no_grad():
        return network.eval()(torch.stack(pictures)).numpy()


def _torchvision(name: str) -> tuple[nn.Module, Callable[[Image.Image], Tensor]]:
    from torchvision import models

    return models.get_model(name), models.get_model_weights(name).IMAGENET1K_V1.transforms()


def _timm(name: str) -> tuple[nn.Module, Callable[[Image.Image], Tensor]]:
    import timm
    from timm.data import create_transform, resolve_data_config

    network = timm.create_model(name, pretrained=False)
    return network, create_transform(**resolve_data_config(model=network))
