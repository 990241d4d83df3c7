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

from skipway.claims.claim import Arm, Settings
from skipway.claims.data import Place
from skipway.claims.finished import Finished
from skipway.claims.results import Trial
from skipway.errors import RunError
from skipway.inference.classifier import pick_device
from skipway.models.network import Spec
from skipway.training.console import Silent
from skipway.training.recipe import Recipe, recipe_to_toml
from skipway.training.run import resume, train
from skipway.version import __version__
from skipway.weights.files import write_text

Progress = Callable[[float], None]


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


def key_of(arm: Arm, task: Task) -> str:
    """Changes with whatever could change the outcome of the run."""
    facts = [arm.spec.to_dict(), recipe_to_toml(arm.recipe), task.place.digest, task.seed, task.device, __version__]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def finished_trial(task: Task, key: str) -> Trial | None:
    """What the run has left, if it is done and nothing that it depends on has changed."""
    try:
        plain = json.loads(task.result.read_text(encoding="utf-8"))
        return Trial(**plain["trial"]) if plain["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def perform(task: Task, progress: Progress) -> Trial:
    """Run an arm to its end and look into it. Raises SkipwayError's children, and StoppedError after Ctrl-C."""
    from skipway.claims.catalog import find_claim

    claim = find_claim(task.claim)
    arm = next(one for one in task.settings.arms_of(claim) if one.name == task.arm)
    key = key_of(arm, task)
    begun, worked = time.perf_counter(), time.process_time()
    _train(arm, task, key, progress)
    finished = Finished(arm, task.seed, task.folder, task.place.data, pick_device(task.device))
    trained = {"seconds": time.perf_counter() - begun, "core_seconds": time.process_time() - worked}
    looked = claim.look(finished) if claim.look is not None else {}
    times = {**trained, **looked.pop("times", {})}
    trial = Trial(arm.name, task.seed, read_curve(task.folder / "metrics.csv"), looked, times)
    write_text(task.result, json.dumps({"key": key, "trial": asdict(trial)}))
    return trial


def _train(arm: Arm, task: Task, key: str, progress: Progress) -> None:
    stamp, reporter = task.folder / "key.txt", _Shared(progress)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == key:
        try:
            resume(task.folder, reporter=reporter)
            return
        except RunError:  # it ended before its first checkpoint
            pass
    write_text(stamp, key)
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


def read_curve(file: Path) -> dict[str, list[float]]:
    """The columns of metrics.csv that a claim speaks of; errors are fractions."""
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
