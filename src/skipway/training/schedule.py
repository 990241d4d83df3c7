"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from skipway.training.recipe import Recipe

_START_SHARE = 0.04  # where one_cycle begins, as a share of the peak


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Rate of update `step`, counted from 0, of `total`."""
    peak = recipe.learning_rate
    done = step / max(total, 1)
    if recipe.schedule == "one_cycle":
        return peak * _one_cycle(recipe, done)
    if done < recipe.warmup:
        warmup_steps = math.ceil(recipe.warmup * total)
        return peak * (step + 1) / warmup_steps
    if recipe.schedule == "step":
        passed = sum(done >= milestone for milestone in recipe.milestones)
        return peak * recipe.step_factor**passed
    if recipe.schedule == "cosine":
        done_after_warmup = (done - recipe.warmup) / (1 - recipe.warmup)
        return peak * _cosine(1.0, recipe.final_share, done_after_warmup)
    return peak


def _one_cycle(recipe: Recipe, done: float) -> float:
    """The share of the peak rate once `done` of the run is over: up by a cosine, then down by another."""
    if done < recipe.rise:
        return _cosine(_START_SHARE, 1.0, done / recipe.rise)
    done_of_fall = (done - recipe.rise) / (1 - recipe.rise)
    return _cosine(1.0, recipe.final_share, done_of_fall)


def _cosine(start: float, end: float, share: float) -> float:
    """The value at a share (0 to 1) of the way from `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
