"""All runs of a claim, spread over processes; finished ones are not repeated."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from skipway.claims.claim import Arm, Claim, Settings
from skipway.claims.data import Place, place_for, require_data
from skipway.claims.results import Results, Trial
from skipway.claims.trial import Task, finished_trial, key_of, perform
from skipway.data.workers import require_main_guard
from skipway.errors import SkipwayError
from skipway.machine import pick_device, usable_cores
from skipway.reporting import counted
from skipway.training.console import Reporter

_channel: Queue[Any] | None = None
_stop: Event | None = None
_QUIET_SECONDS = 60.0


@dataclass(frozen=True)
class Where:
    """Folders and machine of a claim's runs. `data` is empty to fetch; `processes` 0 takes what fits."""

    folder: Path
    data: str = ""
    device: str = "auto"
    processes: int = 0


def run_claim(claim: Claim, settings: Settings, where: Where, reporter: Reporter) -> Results:
    """Every arm with every seed.

    Raises SkipwayError's children, and KeyboardInterrupt, after which the same call goes on from there.
    """
    require_main_guard()
    arms = settings.arms_of(claim)
    device = pick_device(where.device).type
    if settings.budget == "full" and device != "cuda":
        reporter.say("the full budget is made for a GPU: here it may take days (Ctrl-C stops it, and it goes on later)")
    places = _places(arms, where, reporter)
    trials: dict[Task, Trial | None] = {}
    # A seed after the other, so that a run cut short has whole comparisons to show.
    for seed in settings.seeds_of(claim):
        for arm in arms:
            key = key_of(arm, places[arm.name], seed, device)
            folder = where.folder / claim.name / "runs" / settings.budget / f"{arm.name}-{seed}-{key}"
            task = Task(claim.name, arm.name, seed, settings, places[arm.name], folder, device)
            trials[task] = finished_trial(task)
    due = [task for task, trial in trials.items() if trial is None]
    reporter.say(f"{claim.name}: {counted(len(trials), 'run')} (arms: {len(arms)}, seeds: {len(trials) // len(arms)}), "
                 f"{len(trials) - len(due)} of them finished earlier")  # fmt: skip
    if due:
        count = where.processes or (1 if device == "cuda" else usable_cores())
        trials.update(zip(due, _performed(due, count, reporter), strict=True))
    labels = {arm.name: arm.label for arm in arms}
    return Results(labels, [trial for trial in trials.values() if trial is not None])


def _places(arms: Sequence[Arm], where: Where, reporter: Reporter) -> dict[str, Place]:
    cache = where.folder / "data"
    opened = require_data(where.data, {arm.data for arm in arms}, cache)
    made: dict[tuple[Any, ...], Place] = {}
    for arm in arms:
        wanted = (arm.data, arm.pictures, arm.test_pictures)
        if wanted not in made:
            reporter.say(f"data: {opened[arm.data]}, {told_pictures(arm)}")
            made[wanted] = place_for(arm, opened, cache)
    return {arm.name: made[arm.data, arm.pictures, arm.test_pictures] for arm in arms}


def told_pictures(arm: Arm) -> str:
    """How many pictures an arm trains on and is tested with."""
    train, test = (f"{count:,}" if count else "all" for count in (arm.pictures, arm.test_pictures))
    return f"{train} pictures to train on, {test} to test with"


def _performed(due: Sequence[Task], processes: int, reporter: Reporter) -> list[Trial]:
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in whatever state they are
    channel, stop = context.Queue(), context.Event()
    workers = min(processes, len(due))
    with (
        _shown(channel, due, reporter) as done,
        ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(channel, stop, os.getpid())) as pool,
    ):
        with _deaf():  # the processes start with the first of them
            futures = [pool.submit(_perform, number, task) for number, task in enumerate(due)]
        for future, task in zip(futures, due, strict=True):
            future.add_done_callback(_finished(task, done, len(due), reporter))
        try:
            wait(futures)
        except KeyboardInterrupt:
            _stop_all(pool, stop)
            raise KeyboardInterrupt("stopped; the same command goes on from here") from None
        try:
            return [one.result() for one in futures]
        except BrokenProcessPool:
            raise SkipwayError(
                "the system ended one of the runs, most likely for lack of memory; give --processes 1 (finished runs "
                "stay finished)"
            ) from None


def _stop_all(pool: ProcessPoolExecutor, stop: Event) -> None:
    """Let each process save its run after the step under way; a second Ctrl-C ends them at once."""
    stop.set()
    try:
        pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        for child in multiprocessing.active_children():
            child.kill()


def _finished(task: Task, done: list[Task], total: int, reporter: Reporter) -> Callable[[Future[Trial]], None]:
    def tell(future: Future[Trial]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        done.append(task)
        trial = future.result()
        errors = f"train error {trial.last('train_error'):.1%}, test error {trial.last('test_error'):.1%}"
        seconds = trial.times["seconds"]
        reporter.say(f"run {len(done)} of {total}: {task.arm}, seed {task.seed}: {errors}; {seconds:.0f} s")

    return tell


@contextlib.contextmanager
def _shown(channel: Queue[Any], due: Sequence[Task], reporter: Reporter) -> Iterator[list[Task]]:
    """Progress of all runs together while the block lasts; yields the list of finished ones, for their callbacks."""
    shares, last = [0.0] * len(due), time.monotonic()

    def listen() -> None:
        nonlocal last
        while (told := channel.get()) is not None:
            number, share = told
            shares[number] = share
            reporter.counting("training", round(100 * sum(shares)), 100 * len(due))
            if not getattr(reporter, "live", True) and time.monotonic() - last > _QUIET_SECONDS:
                last = time.monotonic()
                reporter.say(f"{sum(shares) / len(due):.0%} of the training is done")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield []
    finally:
        channel.put(None)
        listener.join(timeout=5)


def _prepare(channel: Queue[Any], stop: Event, parent: int) -> None:
    """In a new process: one thread each, so that the sums, and with them the result, are the same however many run.

    `parent` is the process that started this one. It may have been killed before this process got so far.
    """
    import torch

    global _channel, _stop
    _channel, _stop = channel, stop
    torch.set_num_threads(1)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is for the first process to hear, and to hand on by `stop`
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C does nothing for a moment, nor in processes that are started in it until they say otherwise: in the midst
    of their imports it would end them with a traceback."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: signals are not ours to handle
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent(parent: int) -> None:
    """End this process soon after its parent was killed: somebody may begin the same runs again."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _perform(number: int, task: Task) -> Trial:
    if _stopping():  # the pool has one run more in its queue than it will cancel
        raise KeyboardInterrupt
    last, asked = 0.0, False

    def progress(share: float) -> None:
        nonlocal last, asked
        if _channel is not None and (share - last >= 0.01 or share == 1):
            last = share
            _channel.put((number, share))
        if _stopping() and not asked:
            asked = True
            signal.raise_signal(signal.SIGINT)  # training saves what a resume needs, and ends

    try:
        return perform(task, progress)
    except SkipwayError as error:
        # Plain, since errors with arguments of their own do not survive the way between processes.
        raise SkipwayError(f"{task.arm}, seed {task.seed}: {error}") from None


def _stopping() -> bool:
    return _stop is not None and _stop.is_set()
