"""SIGKILL at random moments; the run, resumed as often as it takes, ends bit-equal to one that nobody disturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

from scripts.torture.runs import LIVELY, Job, differences, ended, forked, progress, resumed, write_pictures

_MOST_KILLS = 4  # of one run


def kills(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:
    """Kill `count` times. Returns the kills, those in runs that ended bit-equal, and what went wrong."""
    data = write_pictures(folder / "data")
    whole: dict[str, tuple[Path, float]] = {}
    done, equal, failures = 0, 0, []
    while done < count:
        job = LIVELY[len(whole) if len(whole) < len(LIVELY) else draw.randrange(len(LIVELY))]
        if job.name not in whole:
            whole[job.name] = _undisturbed(job, data, folder / f"whole-{len(whole)}")
        reference, seconds = whole[job.name]
        run, said = folder / "killed", folder / "said.txt"
        killed, status = _killed_and_resumed(job, data, run, said, draw, seconds)
        done += killed
        wrong = [f"exit {status}: {said.read_text()[-300:]}"] if status else differences(reference, run)
        equal += 0 if wrong else killed
        failures += [f"{job.name}, {killed} kills: {'; '.join(wrong[:4])}"] if wrong else []
        shutil.rmtree(run)
        said.unlink(missing_ok=True)
        progress(f"kills: {done} of {count}, {equal} bit-equal")
    return done, equal, failures


def _undisturbed(job: Job, data: Path, out: Path) -> tuple[Path, float]:
    began = time.monotonic()
    status = ended(forked(lambda: job.train(data, out)))
    if status:
        raise RuntimeError(f"{job.name}, undisturbed, ended with {status}")
    return out, time.monotonic() - began


def _killed_and_resumed(
    job: Job, data: Path, run: Path, said: Path, draw: random.Random, seconds: float
) -> tuple[int, int]:
    """Train, kill, resume, perhaps kill again, and so on to the end: the number of kills, and the last exit code."""
    killed = 0
    wanted = draw.randint(1, _MOST_KILLS)
    work = partial(job.train, data, run)
    while killed < wanted:
        pid = forked(work, said)
        time.sleep(draw.uniform(0.02, 1.1) * seconds)
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)
        status = ended(pid)
        if status != -signal.SIGKILL:  # it was faster
            return killed, status
        killed += 1
        # Before its first checkpoint there is no run yet, and the same command begins it.
        begun = any((run / "checkpoints").glob("step-*.pt"))
        work = partial(resumed, run, said) if begun else partial(job.train, data, run, overwrite=True)
    return killed, ended(forked(work, said))
