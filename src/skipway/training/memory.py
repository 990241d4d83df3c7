"""Refuse what cannot fit into the memory, before the kernel kills the process without a message."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from skipway.errors import RecipeError
from skipway.machine import memory_limit
from skipway.models.network import Spec
from skipway.training.recipe import Recipe


@dataclass(frozen=True)
class LeastMemory:
    """A lower bound of the bytes that training takes."""

    once: int  # bytes for weights, gradients and optimizer
    each: int  # bytes for every picture of a part of a batch
    parts: int  # of a batch, which are computed one after the other or on other machines

    def bytes_for(self, batch_size: int) -> int:
        """The lower bound at a batch size."""
        pictures_at_once = max(batch_size // self.parts, 1)
        return self.once + self.each * pictures_at_once

    def largest_batch(self, available: int) -> int:
        """The most pictures a batch that the lower bound lets into so many bytes; 0 for none."""
        left = available - self.once
        pictures_at_once = max(left // self.each, 0)
        return pictures_at_once * self.parts


def least_of(spec: Spec, recipe: Recipe) -> LeastMemory:
    """The least memory in which a recipe can train a network: float32 weights, gradients, optimizer and outputs."""
    with torch.device("meta"):
        network = spec.build()
        example = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size)
    network.eval()
    output_sizes: dict[str, int] = {}

    def note_size(name: str, value: Tensor) -> None:
        output_sizes[name] = value.numel()

    with torch.no_grad():
        network.walk(example, note_size)
    outputs = _without_stages(output_sizes)
    weights = sum(parameter.numel() for parameter in network.parameters())
    optimizer_copies = 2 if recipe.optimizer in {"adam", "adamw"} else 1
    copies = 2 + optimizer_copies  # the weights and their gradients
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return LeastMemory(once=4 * copies * weights, each=4 * outputs, parts=recipe.accumulation * processes)


def _without_stages(output_sizes: dict[str, int]) -> int:
    """The sum of the outputs' sizes, without the stages': each is the output of its last unit, and counts there."""
    stages: set[str] = set()
    for name in output_sizes:
        parts = name.split(".")
        for length in range(1, len(parts)):
            stages.add(".".join(parts[:length]))
    return sum(size for name, size in output_sizes.items() if name not in stages)


def require_memory(spec: Spec, recipe: Recipe, available: int | None = None) -> None:
    """Raises RecipeError when even the lower bound exceeds the memory of this process (or `available` bytes).

    Where there is a GPU its own memory decides, and torch reports its lack by itself.
    """
    if available is None:
        if torch.cuda.is_available():
            return
        available = memory_limit()
    if available is None:
        return
    least = least_of(spec, recipe)
    needed = least.bytes_for(recipe.batch_size)
    if needed <= available:
        return
    fix = "lower --image-size"
    largest = least.largest_batch(available)
    if largest:
        fix = f"--batch-size {largest} is the most that could fit; or {fix}"
    raise RecipeError(
        f"{spec.name} at {spec.input_size} pixels, {recipe.batch_size:,} at once, needs {needed / 2**30:,.1f} GiB or "
        f"more, and there are {available / 2**30:,.1f}; {fix}"
    )
