"""Recipe -> torch optimizer."""

from __future__ import annotations

import torch
from torch import nn

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
