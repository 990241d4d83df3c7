"""Recipe -> torch optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipway.training.recipe import Recipe


def build_optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trainable parameters, fused where torch has it."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [one for one in trainable if one.ndim > 1 or recipe.decay_norm_and_bias]
    plain = [one for one in trainable if not (one.ndim > 1 or recipe.decay_norm_and_bias)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    fused = device.type in {"cpu", "cuda"}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon, fused=fused)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Put back what `optimizer.state_dict()` gave: moments and counters, with the settings that the recipe made.

    Raises ValueError where the state has other settings than the recipe's or other shapes than the parameters', and
    KeyError or TypeError where it is no such state.
    """
    wanted = optimizer.state_dict()["param_groups"]
    if [_settings(group) for group in state["param_groups"]] != [_settings(group) for group in wanted]:
        raise ValueError("its optimizer has other settings than its recipe")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameters[number].shape:
                raise ValueError(f"{name} of parameter {number} has the shape {tuple(value.shape)}")
    optimizer.load_state_dict(state)


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """Of a group of parameters, all but the learning rate, which each step sets anew."""
    return {name: value for name, value in group.items() if name not in {"lr", "initial_lr"}}
