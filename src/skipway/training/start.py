"""The network that a run starts from: drawn afresh, or taken from a model file with a new head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from skipway.data.preprocessing import Preprocessing
from skipway.errors import SpecError, UnknownNameError
from skipway.models.network import Network, Spec
from skipway.reporting import counted
from skipway.training.choice import preprocessing_for
from skipway.training.memory import require_memory
from skipway.training.recipe import Recipe
from skipway.weights.bundle import Bundle
from skipway.weights.model_header import require_readable

Say = Callable[[str], None]


def fresh_network(
    described: Spec, labels: Sequence[str], recipe: Recipe, image_size: int, seed: int, say: Say
) -> tuple[Network, Preprocessing]:
    """The network for these labels, its first weights a function of the seed."""
    spec = _adapted(described, labels, recipe, image_size, say)
    preprocessing = preprocessing_for(spec)  # first: it refuses sizes that would fill the memory
    require_readable(spec, preprocessing)  # now, not when the model file is written
    require_memory(spec, recipe)
    torch.manual_seed(seed)
    network = spec.build()
    if recipe.zero_residual:
        zero_residuals(network)
    return network, preprocessing


def network_from(
    file: Path, bundle: Bundle, labels: Sequence[str], recipe: Recipe, image_size: int, seed: int, say: Say
) -> tuple[Network, Preprocessing]:
    """The network of a model file and its contents. Its head is drawn afresh when the labels differ."""
    fields: dict[str, Any] = {"num_classes": len(labels)}
    if image_size and image_size != bundle.spec.input_size:
        fields["input_size"] = image_size
    spec = bundle.spec.replaced(fields | _dropout(bundle.spec, recipe, say))
    preprocessing = bundle.preprocessing.of_size(spec.input_size)
    require_readable(spec, preprocessing)  # now, not when the model file is written
    require_memory(spec, recipe)
    torch.manual_seed(seed)
    network = spec.build()
    own = network.state_dict()
    reset = set(network.classifier_keys()) if tuple(labels) != bundle.labels else set()
    reset |= {name for name, tensor in bundle.tensors.items() if name in own and own[name].shape != tensor.shape}
    kept = {name: tensor for name, tensor in bundle.tensors.items() if name in own and name not in reset}
    network.load_state_dict(kept, strict=False)
    renewed = f"{len(own) - len(kept)} reset ({', '.join(sorted(reset)) or 'none'})"
    say(f"from {file}: {counted(len(kept), 'tensor')} kept, {renewed}")
    return network, preprocessing


def zero_residuals(network: nn.Module) -> None:
    """Start each v1 residual branch at zero by its last normalization's scale."""
    for module in network.modules():
        if hasattr(module, "shortcut"):
            norms = [child for child in module.children() if isinstance(child, nn.BatchNorm2d)]
            # In v1 the last child norm closes the branch; in v2 it opens one, and a zero there would cut nothing off.
            if norms and not hasattr(module, "preact"):
                nn.init.zeros_(norms[-1].weight)


def set_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Batch normalization's momentum, torch's sense, where the recipe replaces the source's."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def freeze_stages(network: Network, names: Sequence[str]) -> list[nn.Module]:
    """Stop the gradient of these stages and return them. Raises UnknownNameError for a stage that is not there."""
    stages = dict(network.named_children())
    for name in names:
        if name not in stages:
            raise UnknownNameError(f"stage of {network.spec.name}", name, list(stages))
    frozen = [stages[name].requires_grad_(requires_grad=False) for name in names]
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise SpecError("every stage is frozen, nothing is left to train; take one out of freeze")
    return frozen


def _adapted(spec: Spec, labels: Sequence[str], recipe: Recipe, image_size: int, say: Say) -> Spec:
    fields: dict[str, Any] = {"num_classes": len(labels)}
    if image_size:
        fields["input_size"] = image_size
    if recipe.initialization != "source":
        fields["initialization"] = recipe.initialization
    return spec.replaced(fields | _dropout(spec, recipe, say))


def _dropout(spec: Spec, recipe: Recipe, say: Say) -> dict[str, Any]:
    """The field that the recipe's drop rate replaces."""
    if recipe.dropout < 0:
        return {}
    if "dropout" in spec.to_dict():
        return {"dropout": recipe.dropout}
    say(f"{spec.name} has no dropout: the recipe's {recipe.dropout} has nothing to act on")
    return {}
