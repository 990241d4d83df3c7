"""Networks of timm and torchvision, from a local file of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def network(library: str, name: str, weights: str | None = None) -> tuple[nn.Module, dict[str, str]]:
    """The library's network of that name, channels last, and the versions in use."""
    made: Any
    if library == "timm":
        import timm

        made, version = timm.create_model(name), timm.__version__
    else:
        import torchvision

        made, version = torchvision.models.get_model(name), torchvision.__version__
    if weights is not None:
        made.load_state_dict(torch.load(weights, weights_only=True))
    return made.to(memory_format=torch.channels_last), {library: version, "torch": torch.__version__}


def parameters(module: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(one.numel() for one in module.parameters() if one.requires_grad)
