"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from skipway.training.recipe import Recipe

_START_SHARE = 0.04  # where one_cycle begins, as a share of the peak


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Rate of update `step`, counted from 0, of `total`."""
    peak, done = recipe.learning_rate, step / max(total, 1)
    if recipe.schedule == "one_cycle":
        if done < recipe.rise:
            return peak * _cosine(_START_SHARE, 1.0, done / recipe.rise)
        return peak * _cosine(1.0, recipe.final_share, (done - recipe.rise) / (1 - recipe.rise))
    if done < recipe.warmup:
        return peak * (step + 1) / math.ceil(recipe.warmup * total)
    if recipe.schedule == "step":
        return peak * recipe.step_factor ** sum(done >= milestone for milestone in recipe.milestones)
    if recipe.schedule == "cosine":
        return peak * _cosine(1.0, recipe.final_share, (done - recipe.warmup) / (1 - recipe.warmup))
    return peak


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
