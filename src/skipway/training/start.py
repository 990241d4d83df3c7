"""The network that a run starts from: drawn afresh, or taken from a model file with a new head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
    """The network for these labels and its preprocessing. The first weights are a function of the seed.

    Raises SpecError, ModelFileError for pictures that no model file may ask for, and RecipeError for lack of memory.
    """
    fields: dict[str, Any] = {"num_classes": len(labels)}
    if image_size:
        fields["input_size"] = image_size
    if recipe.initialization != "source":
        fields["initialization"] = recipe.initialization
    fields |= _dropout(described, recipe, say)
    spec = described.replaced(fields)
    preprocessing = preprocessing_for(spec)  # first: it refuses sizes that would fill the memory
    network = _drawn_network(spec, preprocessing, recipe, seed)
    if recipe.zero_residual:
        zero_residuals(network)
    return network, preprocessing


def network_from(
    file: Path, bundle: Bundle, labels: Sequence[str], recipe: Recipe, image_size: int, seed: int, say: Say
) -> tuple[Network, Preprocessing]:
    """The network of a model file and its preprocessing. Its head is drawn afresh when the labels differ.

    Raises SpecError, ModelFileError for pictures that no model file may ask for, and RecipeError for lack of memory.
    """
    fields: dict[str, Any] = {"num_classes": len(labels)}
    if image_size and image_size != bundle.spec.input_size:
        fields["input_size"] = image_size
    fields |= _dropout(bundle.spec, recipe, say)
    spec = bundle.spec.replaced(fields)
    preprocessing = bundle.preprocessing.of_size(spec.input_size)
    network = _drawn_network(spec, preprocessing, recipe, seed)
    own = network.state_dict()
    # Tensors that keep their first, drawn values.
    reset: set[str] = set()
    if tuple(labels) != bundle.labels:
        reset.update(network.classifier_keys())
    kept: dict[str, Tensor] = {}
    for name, tensor in bundle.tensors.items():
        if name not in own:
            continue
        if own[name].shape != tensor.shape:
            reset.add(name)
        elif name not in reset:
            kept[name] = tensor
    network.load_state_dict(kept, strict=False)
    names = ", ".join(sorted(reset)) or "none"
    say(f"from {file}: {counted(len(kept), 'tensor')} kept, {len(own) - len(kept)} reset ({names})")
    return network, preprocessing


def _drawn_network(spec: Spec, preprocessing: Preprocessing, recipe: Recipe, seed: int) -> Network:
    """A network with weights drawn from the seed, once it is clear that it fits into a model file and the memory."""
    require_readable(spec, preprocessing)  # now, not when the model file is written
    require_memory(spec, recipe)
    torch.manual_seed(seed)
    return spec.build()


def zero_residuals(network: nn.Module) -> None:
    """Start each v1 residual branch at zero by its last normalization's scale."""
    for module in network.modules():
        # In v1 the last child norm closes the branch; in v2 it opens one, and a zero there would cut nothing off.
        is_v1_block = hasattr(module, "shortcut") and not hasattr(module, "preact")
        if not is_v1_block:
            continue
        norms = [child for child in module.children() if isinstance(child, nn.BatchNorm2d)]
        if norms:
            nn.init.zeros_(norms[-1].weight)


def set_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Set the momentum of every batch normalization, in torch's sense: the share of the newest batch."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def freeze_stages(network: Network, names: Sequence[str]) -> list[nn.Module]:
    """Stop the gradient of these stages and return them.

    Raises UnknownNameError for a stage that is not there, and SpecError where nothing is left to train.
    """
    stages = dict(network.named_children())
    for name in names:
        if name not in stages:
            raise UnknownNameError(f"stage of {network.spec.name}", name, list(stages))
    frozen: list[nn.Module] = []
    for name in names:
        stage = stages[name]
        stage.requires_grad_(requires_grad=False)
        frozen.append(stage)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise SpecError("every stage is frozen, nothing is left to train; take one out of freeze")
    return frozen


def _dropout(spec: Spec, recipe: Recipe, say: Say) -> dict[str, Any]:
    """The field of the spec that the recipe's drop rate replaces, if there is one."""
    if recipe.dropout < 0:
        return {}
    if "dropout" not in spec.to_dict():
        say(f"{spec.name} has no dropout: the recipe's {recipe.dropout} has nothing to act on")
        return {}
    return {"dropout": recipe.dropout}
