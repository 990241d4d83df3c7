"""Two processes that want the same run folder: one gets it, and the other is told who has it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

from scripts.torture.runs import REFUSED, SMALL, Job, differences, ended, forked, progress, resumed, write_pictures


def writers(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:
    """Let two processes train into one folder, or resume it, `count` times. Returns rounds, good ones and the rest."""
    data = write_pictures(folder / "data")
    whole = folder / "whole"
    job = Job("small", SMALL.model, SMALL.recipe.replaced(epochs=12))
    if status := ended(forked(lambda: job.train(data, whole))):
        raise RuntimeError(f"a run that nobody disturbed ended with {status}")
    good, failures = 0, []
    for number in range(count):
        run = folder / "both"
        both = draw.random() < 0.5
        if not both:  # two resume a run that was killed
            pid = forked(partial(job.train, data, run))
            time.sleep(0.3)
            _kill(pid)
        wrong = _race(job, data, run, folder, draw, trains=both) or "; ".join(differences(whole, run)[:4])
        good += not wrong
        failures += [f"{'train' if both else 'resume'} twice: {wrong}"] if wrong else []
        shutil.rmtree(run, ignore_errors=True)
        progress(f"writers: {number + 1} of {count}, {good} as they should")
    return count, good, failures


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    ended(pid)


def _race(job: Job, data: Path, run: Path, folder: Path, draw: random.Random, *, trains: bool) -> str:
    said = [folder / "first.txt", folder / "second.txt"]
    trains = trains or not any((run / "checkpoints").glob("step-*.pt"))
    pids = []
    for file in said:
        file.unlink(missing_ok=True)
        work = partial(job.train, data, run) if trains else partial(resumed, run, file)
        pids.append(forked(work, file))
        time.sleep(draw.uniform(0, 0.3))
    codes = [ended(pid) for pid in pids]
    texts = [file.read_text() if file.exists() else "" for file in said]
    if sorted(codes) == [0, 0] and not trains:
        return ""  # the second came when the first was done, and had its result told again
    if sorted(codes) != [0, REFUSED]:
        return f"exit codes {codes}: {texts}"
    refusal = texts[codes.index(REFUSED)]
    named = "in use by" in refusal or "holds a run already" in refusal
    return "" if named else f"refused with: {refusal}"
