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

from skipway.claims import catalog
from skipway.claims.arm import Arm
from skipway.claims.claim import Settings
from skipway.claims.data import ArmData
from skipway.claims.finished import Finished
from skipway.claims.results import Trial
from skipway.data.loading import Plan
from skipway.data.sources import open_source
from skipway.errors import DivergedError, NoCheckpointError, SkipwayError
from skipway.files import write_text
from skipway.machine import pick_device
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
    place: ArmData
    folder: Path
    device: str

    @property
    def result(self) -> Path:
        """The file that a finished run leaves."""
        return self.folder / "trial.json"


class _ProgressReporter(Silent):
    """Reports the share of the run that is done, and nothing else."""

    def __init__(self, progress: Progress) -> None:
        """`progress` is called with the share, from 0 to 1."""
        self._progress = progress

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:  # noqa: ARG002
        """After each step of the training."""
        self._progress(done / total)


def key_of(arm: Arm, place: ArmData, seed: int, device: str) -> str:
    """Changes with the network, the recipe, the pictures, the seed, the kind of device and the versions."""
    torch_version = torch.__version__.partition("+")[0]
    recipe = arm.recipe.replaced(keep_checkpoints=1)  # the number of checkpoints changes no result
    spec = arm.spec.to_dict()
    if spec.get("pad") == "both":  # keys of runs from before this field existed stay valid
        del spec["pad"]
    facts = [spec, recipe_to_toml(recipe), place.digest, seed, device, [__version__, torch_version]]
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def finished_trial(task: Task) -> Trial | None:
    """What the run has left, if it is done."""
    try:
        fields = json.loads(task.result.read_text(encoding="utf-8"))
        return Trial(**fields)
    except (OSError, ValueError, TypeError):
        return None


def perform(task: Task, progress: Progress) -> Trial:
    """Run an arm to its end and look into it. A run that diverges is a result, too, unless it is to be looked into.

    `progress` is called with the share of the training that is done. Raises SkipwayError's children, and StoppedError
    after Ctrl-C.
    """
    claim = catalog.find_claim(task.claim)
    (arm,) = [arm for arm in task.settings.arms_of(claim) if arm.name == task.arm]
    begun = time.perf_counter()
    begun_core = time.process_time()
    diverged = False
    try:
        _train(arm, task, progress)
    except DivergedError as error:
        if claim.look is not None:
            what = str(error).partition(";")[0]
            raise SkipwayError(f"{what}; --seed gives other first weights") from None
        diverged = True
    curve = read_curve(task.folder / "metrics.csv")
    if diverged:
        pictures = open_source(task.place.data).split("train")
        curve = filled(curve, arm.recipe, len(pictures))
    times = {"seconds": time.perf_counter() - begun, "core_seconds": time.process_time() - begun_core}
    looked: dict[str, Any] = {}
    if claim.look is not None:
        finished = Finished(arm, task.seed, task.folder, task.place.data, pick_device(task.device))
        looked = claim.look(finished)
        times.update(looked.pop("times", {}))
    trial = Trial(arm.name, task.seed, curve, looked, times)
    write_text(task.result, json.dumps(asdict(trial)))
    return trial


def _train(arm: Arm, task: Task, progress: Progress) -> None:
    """Train the network of an arm, or continue the run that an earlier call began."""
    reporter = _ProgressReporter(progress)
    if (task.folder / "config.toml").is_file():
        try:
            resume(task.folder, data=task.place.data, reporter=reporter)
        except NoCheckpointError:
            # It ended before its first checkpoint, or all are damaged: nothing is lost where it begins again.
            pass
        else:
            return
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
    """The curve of a run that diverged, as long as the others: no values where it had none.

    `pictures` is how many the run trains on.
    """
    plan = Plan(pictures, recipe.batch_size, 0, recipe.drop_last)
    total = total_steps(recipe, plan)
    steps = [*range(plan.steps_per_epoch, total, plan.steps_per_epoch), total]
    missing: list[float | None] = [None] * (len(steps) - len(curve["step"]))
    whole = {name: [*values, *missing] for name, values in curve.items()}
    whole["step"] = [float(step) for step in steps]
    return whole


def read_curve(file: Path) -> Curve:
    """The columns of metrics.csv that a claim uses; errors are fractions. Empty where there is no file yet."""
    curve: Curve = {"step": [], "train_loss": [], "train_error": [], "test_loss": [], "test_error": []}
    if not file.is_file():
        return curve
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            curve["step"].append(float(row["step"]))
            curve["train_loss"].append(float(row["train_loss"]))
            curve["train_error"].append(1 - float(row["train_top1"]))
            curve["test_loss"].append(float(row["val_loss"]))
            curve["test_error"].append(1 - float(row["val_top1"]))
    return curve
