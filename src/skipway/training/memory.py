"""Refuse what cannot fit into the machine before the kernel ends the process without a word."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from skipway.errors import RecipeError
from skipway.machine import memory_limit
from skipway.models.network import Spec
from skipway.training.recipe import Recipe


@dataclass(frozen=True)
class Least:
    """Bytes that training takes at the very least: once, and for every picture of a batch."""

    once: int
    each: int
    parts: int  # of a batch, which are computed one after the other or on other machines

    def bytes_for(self, batch_size: int) -> int:
        """The lower bound at a batch size."""
        return self.once + self.each * max(batch_size // self.parts, 1)

    def largest_batch(self, available: int) -> int:
        """The most pictures a batch that the lower bound lets into so many bytes; 0 for none."""
        return max((available - self.once) // self.each, 0) * self.parts


def least_of(spec: Spec, recipe: Recipe) -> Least:
    """Weights, gradients, optimizer; and each unit's output for one picture."""
    with torch.device("meta"):
        network = spec.build()
        example = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size)
    kept: dict[str, int] = {}
    with torch.no_grad():
        network.eval().walk(example, lambda name, value: kept.__setitem__(name, value.numel()))
    # A stage ends with its last unit's output: the same values under two names count once.
    units = sum(size for name, size in kept.items() if not any(other.startswith(f"{name}.") for other in kept))
    copies = 2 + (2 if recipe.optimizer in {"adam", "adamw"} else 1)
    weights = sum(one.numel() for one in network.parameters())
    return Least(4 * copies * weights, 4 * units, recipe.accumulation * int(os.environ.get("WORLD_SIZE", "1")))


def require_memory(spec: Spec, recipe: Recipe, available: int | None = None) -> None:
    """Raises RecipeError when even the lower bound exceeds the memory of this process (or `available` bytes).

    Where there is a GPU its own memory decides, and torch says so by itself.
    """
    if available is None:
        if torch.cuda.is_available():
            return
        available = memory_limit()
    least = least_of(spec, recipe)
    needed = least.bytes_for(recipe.batch_size)
    if available is None or needed <= available:
        return
    largest = least.largest_batch(available)
    fix = (
        f"--batch-size {largest} is the most that could fit; or lower --image-size" if largest else "lower --image-size"
    )
    raise RecipeError(
        f"{spec.name} at {spec.input_size} pixels, {recipe.batch_size:,} at once, needs {needed / 2**30:,.1f} GiB or "
        f"more, and there are {available / 2**30:,.1f}; {fix}"
    )
