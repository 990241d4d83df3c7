"""Learning-rate finder: one pass of rising rates, the loss at each, a plot and a suggestion (Smith 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from skipway.data.loading import Plan, training_batches
from skipway.data.workers import starting_workers
from skipway.errors import RecipeError
from skipway.files import write_whole
from skipway.reporting import counted, joined_lines
from skipway.training.console import Reporter
from skipway.training.loop import Loop
from skipway.training.recipe import Recipe
from skipway.training.request import Options, request_of
from skipway.training.run import build_loop, prepared
from skipway.world.ranks import joined_world

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
_SETTLING_STEPS = 5  # before the average of the loss means anything


@dataclass(frozen=True)
class FoundRate:
    """What the finder found."""

    rates: tuple[float, ...]  # that were tried
    losses: tuple[float, ...]  # smoothed, one for each rate
    suggestion: float  # a learning rate
    plot: Path  # a PNG file

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "learning_rate": self.suggestion,
            "plot": str(self.plot),
            "rates": list(self.rates),
            "losses": list(self.losses),
        }

    def describe(self) -> str:
        """The suggestion as text."""
        suggestion = f"suggested: --learning-rate {self.suggestion:.2g}"
        plot = f"plot       {self.plot}"
        return joined_lines([suggestion, plot])


@starting_workers()
def find_rate(data: str | Path, *, reporter: Reporter, **options: Unpack[Options]) -> FoundRate:
    """Try rates from 1e-6 to 1 over 100 steps on the network that `train` would start with.

    The suggestion is where the smoothed loss falls fastest over the logarithm of the rate. The trained weights are not
    kept; the plot goes to `learning_rate.png` in the run folder. Raises RecipeError where the loss becomes infinite at
    once, and what `train` raises.
    """
    request, recipe = request_of(data, **options)
    constant = recipe.replaced(schedule="constant", warmup=0.0, ema=0.0, learning_rate=LOWEST)
    with joined_world(request.device) as world:
        if world.size > 1:
            raise RecipeError("--find-learning-rate runs in one process; leave torchrun out")
        # An older run may lie in the folder: the plot is added to it and nothing of it is overwritten.
        start = prepared(request, constant, reporter, overwrite=True)
        losses = _trial(build_loop(start, world, reporter), start.recipe)
    if len(losses) < 10:
        raise RecipeError(
            f"the loss became infinite after {counted(len(losses), 'step')}; look at the pictures and the recipe"
        )
    rates = tuple(_rate(step) for step in range(len(losses)))
    smooth = _smoothed(losses)
    slopes = np.gradient(np.array(smooth), np.log(rates))
    steepest = _SETTLING_STEPS + int(np.argmin(slopes[_SETTLING_STEPS:]))
    suggestion = rates[steepest]
    plot = start.folder / "learning_rate.png"
    write_whole(plot, lambda file: _draw(file, rates, smooth, suggestion))
    return FoundRate(rates, tuple(smooth), suggestion, plot)


def _rate(step: int) -> float:
    """The rate of a step, counted from 0: each is the one before times the same factor."""
    share = step / (STEPS - 1)
    return float(LOWEST * (HIGHEST / LOWEST) ** share)


def _trial(loop: Loop, recipe: Recipe) -> list[float]:
    """The loss of each step, up to the step at which it grows beyond all bounds."""
    updater = loop.updater
    batch_size = min(loop.plan.batch_size, loop.plan.length)
    plan = Plan(loop.plan.length, batch_size, loop.plan.seed)
    batches = training_batches(
        loop.material.train,
        plan,
        loop.preprocessing,
        recipe.augmentation,
        start=0,
        stop=STEPS,
        workers=loop.workers,
        pin=updater.device.type == "cuda",
    )
    updater.train_mode()
    losses: list[float] = []
    for step, batch in enumerate(batches):
        updater.recipe = recipe.replaced(learning_rate=_rate(step))
        sum_before = float(updater.loss_sum)
        updater.update(batch, step)
        sum_after = float(updater.loss_sum)
        loss = (sum_after - sum_before) / len(batch.targets)
        loop.reporter.counting("trying rates", step + 1, STEPS)
        if not math.isfinite(loss):
            break
        if losses and loss > 4 * min(losses) + 1:
            break
        losses.append(loss)
    return losses


def _smoothed(losses: list[float]) -> list[float]:
    """Exponential averages of the losses. Their start from 0 is corrected as Adam corrects its own."""
    average = 0.0
    averages: list[float] = []
    for count, loss in enumerate(losses, 1):
        average = 0.9 * average + 0.1 * loss
        averages.append(average / (1 - 0.9**count))
    return averages


def _draw(file: Path, rates: tuple[float, ...], losses: list[float], suggestion: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.semilogx(rates, losses, color="#1f6feb")
    axes.axvline(suggestion, color="#d1242f", linestyle="--", label=f"suggested: {suggestion:.2g}")
    axes.set(xlabel="learning rate", ylabel="training loss (smoothed)", title="Loss while the learning rate rises")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(file, format="png", dpi=144)
