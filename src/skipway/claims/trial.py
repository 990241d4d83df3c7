"""One run of one arm, in a process of its own: trained, or continued, or found finished."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from skipway.claims.claim import Arm, Settings
from skipway.claims.data import Place
from skipway.claims.finished import Finished
from skipway.claims.results import Trial
from skipway.data.loading import Plan
from skipway.data.sources import open_source
from skipway.errors import DivergedError, NoCheckpointError, SkipwayError
from skipway.files import write_text
from skipway.machine import pick_device
from skipway.models.network import Spec
from skipway.training.console import Silent
from skipway.training.loop import total_steps
from skipway.training.recipe import Recipe, recipe_to_toml
from skipway.training.run import resume, train
from skipway.version import __version__

Progress = Callable[[float], None]
Curve = dict[str, list[float | None]]


@dataclass(frozen=True)
class Task:
    """A run that a process can take on: everything in it is plain."""

    claim: str
    arm: str
    seed: int
    settings: Settings
    place: Place
    folder: Path
    device: str

    @property
    def result(self) -> Path:
        """The file that a finished run leaves."""
        return self.folder / "trial.json"


class _Shared(Silent):
    """Tells the share of the run that is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:  # noqa: ARG002
        self._progress(done / total)


def key_of(arm: Arm, place: Place, seed: int, device: str) -> str:
    """Changes with the network, the recipe, the pictures, the seed, the kind of device and the versions."""
    versions = [__version__, torch.__version__.partition("+")[0]]
    recipe = arm.recipe.replaced(keep_checkpoints=1)  # which changes no result
    spec = {name: value for name, value in arm.spec.to_dict().items() if (name, value) != ("pad", "both")}  # as before
    facts = [spec, recipe_to_toml(recipe), place.digest, seed, device, versions]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def finished_trial(task: Task) -> Trial | None:
    """What the run has left, if it is done."""
    try:
        return Trial(**json.loads(task.result.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def perform(task: Task, progress: Progress) -> Trial:
    """Run an arm to its end and look into it. A run that diverges is a result, too, unless it is to be looked into.

    Raises SkipwayError's children, and StoppedError after Ctrl-C.
    """
    from skipway.claims.catalog import find_claim

    claim = find_claim(task.claim)
    arm = next(one for one in task.settings.arms_of(claim) if one.name == task.arm)
    begun, worked = time.perf_counter(), time.process_time()
    diverged = False
    try:
        _train(arm, task, progress)
    except DivergedError as error:
        if claim.look is not None:
            raise SkipwayError(f"{str(error).partition(';')[0]}; --seed gives other first weights") from None
        diverged = True
    curve = read_curve(task.folder / "metrics.csv")
    if diverged:
        curve = filled(curve, arm.recipe, len(open_source(task.place.data).split("train")))
    trained = {"seconds": time.perf_counter() - begun, "core_seconds": time.process_time() - worked}
    finished = Finished(arm, task.seed, task.folder, task.place.data, pick_device(task.device))
    looked = claim.look(finished) if claim.look is not None else {}
    times = {**trained, **looked.pop("times", {})}
    trial = Trial(arm.name, task.seed, curve, looked, times)
    write_text(task.result, json.dumps(asdict(trial)))
    return trial


def _train(arm: Arm, task: Task, progress: Progress) -> None:
    reporter = _Shared(progress)
    if (task.folder / "config.toml").is_file():
        try:
            resume(task.folder, data=task.place.data, reporter=reporter)
            return
        except NoCheckpointError:  # it ended before its first one, or all are damaged: only then is nothing lost
            pass
    train(
        task.place.data,
        model=arm.spec,
        recipe=arm.recipe,
        val="test",
        seed=task.seed,
        device=task.device,
        workers=0,
        out=task.folder,
        overwrite=True,
        reporter=reporter,
    )


def filled(curve: Curve, recipe: Recipe, pictures: int) -> Curve:
    """The curve of a run that diverged, as long as the others: no values where it had none."""
    plan = Plan(pictures, recipe.batch_size, 0, recipe.drop_last)
    total = total_steps(recipe, plan)
    steps = [*range(plan.steps_per_epoch, total, plan.steps_per_epoch), total]
    missing: list[float | None] = [None] * (len(steps) - len(curve["step"]))
    return {name: [*values, *missing] for name, values in curve.items()} | {"step": [float(one) for one in steps]}


def read_curve(file: Path) -> Curve:
    """The columns of metrics.csv that a claim speaks of; errors are fractions. Empty where there is no file yet."""
    rows = []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
    return {
        "step": [float(row["step"]) for row in rows],
        "train_loss": [float(row["train_loss"]) for row in rows],
        "train_error": [1 - float(row["train_top1"]) for row in rows],
        "test_loss": [float(row["val_loss"]) for row in rows],
        "test_error": [1 - float(row["val_top1"]) for row in rows],
    }


def described(spec: Spec, recipe: Recipe) -> dict[str, Any]:
    """A network and its recipe for result.json: whatever is needed to run them again."""
    return {"network": spec.to_dict(), "recipe": recipe_to_toml(recipe)}
