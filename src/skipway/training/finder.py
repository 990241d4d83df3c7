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


@dataclass(frozen=True)
class FoundRate:
    """`rates` and smoothed `losses` of the trial, the suggested rate, and the plot's file."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    plot: Path

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
        return joined_lines([f"suggested: --learning-rate {self.suggestion:.2g}", f"plot       {self.plot}"])


@starting_workers()
def find_rate(data: str | Path, *, reporter: Reporter, **options: Unpack[Options]) -> FoundRate:
    """Try rates from 1e-6 to 1 over 100 steps on the network that `train` would start with.

    The suggestion is where the smoothed loss falls fastest per factor of rate. Nothing is trained for keeps; the plot
    goes to `learning_rate.png` in the run folder.
    """
    request, recipe = request_of(data, **options)
    constant = recipe.replaced(schedule="constant", warmup=0.0, ema=0.0, learning_rate=LOWEST)
    with joined_world(request.device) as world:
        if world.size > 1:
            raise RecipeError("--find-learning-rate runs in one process; leave torchrun out")
        # An older run may lie in the folder: the plot joins it and nothing is overwritten.
        start = prepared(request, constant, reporter, overwrite=True)
        losses = _trial(build_loop(start, world, reporter), start.recipe)
    if len(losses) < 10:
        raise RecipeError(
            f"the loss became infinite after {counted(len(losses), 'step')}; look at the pictures and the recipe"
        )
    rates = tuple(_rate(step) for step in range(len(losses)))
    smooth = _smoothed(losses)
    slopes = np.gradient(np.array(smooth), np.log(rates))
    suggestion = rates[int(np.argmin(slopes[5:])) + 5]
    plot = start.folder / "learning_rate.png"
    write_whole(plot, lambda file: _draw(file, rates, smooth, suggestion))
    return FoundRate(rates, tuple(smooth), suggestion, plot)


def _rate(step: int) -> float:
    return float(LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)))


def _trial(loop: Loop, recipe: Recipe) -> list[float]:
    updater, plan = loop.updater, loop.plan
    wide = Plan(plan.length, min(plan.batch_size, plan.length), plan.seed)
    batches = training_batches(
        loop.material.train,
        wide,
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
        before = float(updater.loss_sum)
        updater.update(batch, step)
        loss = (float(updater.loss_sum) - before) / len(batch.targets)
        loop.reporter.counting("trying rates", step + 1, STEPS)
        if not math.isfinite(loss) or (losses and loss > 4 * min(losses) + 1):
            break
        losses.append(loss)
    return losses


def _smoothed(losses: list[float]) -> list[float]:
    """Exponential average, its start corrected as Adam's is."""
    average, found = 0.0, []
    for count, loss in enumerate(losses, 1):
        average = 0.9 * average + 0.1 * loss
        found.append(average / (1 - 0.9**count))
    return found


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
