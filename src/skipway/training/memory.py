"""Refuse what cannot fit into the machine before the kernel ends the process without a word."""

from __future__ import annotations

import os

import torch

from skipway.errors import RecipeError
from skipway.models.network import Spec
from skipway.training.recipe import Recipe


def least_bytes(spec: Spec, recipe: Recipe) -> int:
    """A lower bound of what training takes: weights, gradients, optimizer, and each unit's output for one part."""
    with torch.device("meta"):
        network = spec.build()
        example = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size)
    kept: dict[str, int] = {}
    with torch.no_grad():
        network.eval().walk(example, lambda name, value: kept.__setitem__(name, value.numel()))
    # A stage ends with its last unit's output: the same values under two names count once.
    units = sum(size for name, size in kept.items() if not any(other.startswith(f"{name}.") for other in kept))
    copies = 2 + (2 if recipe.optimizer in {"adam", "adamw"} else 1)
    parts = recipe.accumulation * int(os.environ.get("WORLD_SIZE", "1"))
    weights = sum(one.numel() for one in network.parameters())
    return 4 * (copies * weights + units * max(recipe.batch_size // parts, 1))


def require_memory(spec: Spec, recipe: Recipe, available: int | None = None) -> None:
    """Raises RecipeError when even the lower bound exceeds the machine's memory (or `available` bytes).

    Where there is a GPU its own memory decides, and torch says so by itself.
    """
    if available is None:
        if torch.cuda.is_available():
            return
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = least_bytes(spec, recipe)
    if needed > available:
        raise RecipeError(
            f"{spec.name} at {spec.input_size} pixels needs {needed / 2**30:,.0f} GiB or more, "
            f"this machine has {available / 2**30:,.0f}; lower --image-size or --batch-size"
        )
