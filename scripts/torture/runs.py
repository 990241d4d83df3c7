"""Small runs to attack: data, recipes, and training in forked children, so that torch is loaded once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from skipway.data.augmentation import Augmentation
from skipway.errors import SkipwayError
from skipway.training.console import Silent
from skipway.training.recipe import Recipe
from skipway.training.recipes import find_recipe
from skipway.training.run import resume, train
from skipway.training.state import checkpoints, read_checkpoint
from skipway.weights.bundle import load_bundle

REFUSED, STOPPED, DEFECT = 2, 130, 1
_LIVELY = Augmentation(crop="padded", mirror=0.5, rotate=10, brightness=0.2, randaugment=1, mixup=0.2, erasing=0.2)
_SHORT: dict[str, Any] = {"epochs": 3, "pictures": 0, "batch_size": 8, "checkpoint_steps": 2}


@dataclass(frozen=True)
class Job:
    """A network, a recipe and the number of workers."""

    name: str
    model: str
    recipe: Recipe
    workers: int = 0

    def train(self, data: Path, out: Path, **options: Any) -> None:
        """Train it into `out`."""
        settings: dict[str, Any] = {"model": self.model, "recipe": self.recipe, "image_size": 16, "seed": 3}
        train(data, out=out, workers=self.workers, device="cpu", **settings, **options)


JOBS = (
    Job("quick", "resnet_v1_20.cifar", find_recipe("quick").replaced(**_SHORT)),
    Job("strong, 2 workers", "resnet_v1_20.cifar", find_recipe("strong").replaced(**_SHORT), workers=2),
    Job("signs", "resnet_v1_20.cifar", find_recipe("signs").replaced(**_SHORT | {"validation": 0.2})),
    Job(
        "averaged, 2 workers",
        "resnet_v2_20.cifar",
        Recipe(ema=0.9, accumulation=2, clip_norm=5.0, schedule="one_cycle", **_SHORT | {"batch_size": 10}),
        workers=2,
    ),
    Job("sgd", "alexnet.mnist", Recipe(optimizer="sgd", initialization="he", keep="last", **_SHORT)),
)
LIVELY = tuple(replace(job, recipe=job.recipe.replaced(augmentation=_LIVELY)) for job in JOBS)
SMALL = Job("small", "plain_mlp_2", Recipe(keep_checkpoints=2, **_SHORT))


def write_pictures(root: Path, each: int = 11, seed: int = 0) -> Path:
    """A folder of three class folders of noisy 16-pixel PNG files."""
    draw = np.random.default_rng(seed)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir(parents=True)
        for number in range(each):
            picture = draw.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            picture[..., channel] += 100
            Image.fromarray(picture).save(root / name / f"{number}.png")
    return root


class Lines(Silent):
    """Keeps what a run says in a file, which outlives the process."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def say(self, text: str) -> None:
        with self.file.open("a") as opened:
            opened.write(text + "\n")


def forked(work: Callable[[], None], said: Path | None = None) -> int:
    """Start `work` in a child and return its process number. It ends with 0, 2 (refused; `said` gets the line), 130,
    or 1."""
    pid = os.fork()
    if pid:
        return pid
    status = DEFECT
    with contextlib.suppress(BaseException):
        os.setpgid(0, 0)  # with its workers, to be killed as one
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        work()
        status = 0
    except SkipwayError as error:
        status = REFUSED
        _append(said, f"error: {error}")
    except KeyboardInterrupt:
        status = STOPPED
    except BaseException as error:
        _append(said, f"defect: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _append(file: Path | None, text: str) -> None:
    if file is not None:
        with file.open("a") as opened:
            opened.write(text + "\n")


def ended(pid: int, limit_s: float = 120.0) -> int:
    """The status of a child: its exit code, or minus the signal that ended it; -99 where it ran past the limit."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -99


def differences(one: Path, other: Path) -> list[str]:
    """In what two finished runs differ: weights, metrics, optimizer, history; nothing where they are bit-equal."""
    found: list[str] = []
    first, second = load_bundle(one / "model.safetensors"), load_bundle(other / "model.safetensors")
    for name, tensor in first.tensors.items():
        if not torch.equal(tensor, second.tensors[name]):
            found.append(name)
    if first.metrics != second.metrics:
        found.append("metrics")
    last = [read_checkpoint(checkpoints(run)[-1]) for run in (one, other)]
    ours, theirs = (checkpoint.contents["optimizer"]["state"] for checkpoint in last)
    for number, values in ours.items():
        for key, value in values.items():
            if not torch.equal(value, theirs[number][key]):
                found.append(f"optimizer {key} of {number}")
    for row, again in zip(last[0].progress.history, last[1].progress.history, strict=True):
        timeless = {key for key in row if key not in {"seconds", "images_per_second"}}
        found += [f"history {key}" for key in timeless if row[key] != again[key]]
    return found


def resumed(run: Path, said: Path) -> None:
    """Resume a run; what it says goes into `said`."""
    resume(run, reporter=Lines(said))


def progress(text: str) -> None:
    """A line on stderr: the figures go to stdout."""
    print(text, file=sys.stderr, flush=True)
