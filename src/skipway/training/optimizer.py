"""The torch optimizer that a recipe means."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipway.training.recipe import Recipe


def build_optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trainable parameters, fused where torch has it."""
    groups = _parameter_groups(network, recipe)
    rate = recipe.learning_rate
    fused = device.type in {"cpu", "cuda"}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, rate, betas=recipe.betas, eps=recipe.epsilon, fused=fused)
    return torch.optim.AdamW(groups, rate, betas=recipe.betas, eps=recipe.epsilon, fused=fused)


def _parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The trainable parameters with weight decay, and those without: norms and biases, which have one dimension."""
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim > 1 or recipe.decay_norm_and_bias:
            decayed.append(parameter)
        else:
            undecayed.append(parameter)
    groups: list[dict[str, Any]] = []
    if decayed:
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay})
    if undecayed:
        groups.append({"params": undecayed, "weight_decay": 0.0})
    return groups


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Load what `optimizer.state_dict()` returned: moments and counters, with the settings that the recipe made.

    Raises ValueError where the state has other settings than the recipe's or other shapes than the parameters', and
    KeyError or TypeError where it is not the state of an optimizer.
    """
    own_settings = _settings(optimizer.state_dict())
    if _settings(state) != own_settings:
        raise ValueError("its optimizer has other settings than its recipe")
    parameters: list[Tensor] = []
    for group in optimizer.param_groups:
        parameters += group["params"]
    for number, values in state["state"].items():
        _require_shapes(number, values, parameters[number])
    optimizer.load_state_dict(state)


def _settings(state: Any) -> list[dict[str, Any]]:
    """Of each group of parameters, all but the learning rate, which each step sets anew."""
    found: list[dict[str, Any]] = []
    for group in state["param_groups"]:
        settings = dict(group)
        settings.pop("lr", None)
        settings.pop("initial_lr", None)
        found.append(settings)
    return found


def _require_shapes(number: int, values: dict[str, Any], parameter: Tensor) -> None:
    """Raises ValueError unless what the optimizer keeps of a parameter has its shape. Counters are single numbers."""
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.ndim == 0:
            continue
        if value.shape != parameter.shape:
            raise ValueError(f"{name} of parameter {number} has the shape {tuple(value.shape)}")
