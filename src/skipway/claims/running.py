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

from skipway.claims.arm import Arm
from skipway.claims.claim import Claim, Settings
from skipway.claims.data import ArmData, place_for, require_data
from skipway.claims.results import Results, Trial
from skipway.claims.trial import Task, finished_trial, key_of, perform
from skipway.data.workers import require_main_guard
from skipway.errors import SkipwayError
from skipway.machine import pick_device, usable_cores
from skipway.reporting import counted
from skipway.training.console import Reporter

# In a process that runs tasks: where it reports the share that is done, and how it learns that it is to stop.
_channel: Queue[Any] | None = None
_stop: Event | None = None

_QUIET_SECONDS = 60.0  # between two lines about the progress, where no bar can show it
_REPORTED_SHARE = 0.01  # the least progress of a run that is reported


@dataclass(frozen=True)
class Where:
    """Folders and machine of a claim's runs.

    `folder` is for the files of all claims. `data` is empty to fetch the data. `device` is auto, cpu or cuda.
    `processes` is how many runs go on at once; 0 takes what fits.
    """

    folder: Path
    data: str = ""
    device: str = "auto"
    processes: int = 0


def run_claim(claim: Claim, settings: Settings, where: Where, reporter: Reporter) -> Results:
    """Run every arm with every seed.

    Raises SkipwayError's children, and KeyboardInterrupt, after which the same call goes on from there.
    """
    require_main_guard()
    device = pick_device(where.device).type
    if settings.budget == "full" and device != "cuda":
        reporter.say("the full budget is made for a GPU: here it may take days (Ctrl-C stops it, and it goes on later)")
    arms = settings.arms_of(claim)
    trials: dict[Task, Trial | None] = {}
    for task in _tasks(claim, arms, settings, where, device, reporter):
        trials[task] = finished_trial(task)
    due = [task for task, trial in trials.items() if trial is None]
    runs = counted(len(trials), "run")
    seeds = len(trials) // len(arms)
    finished = len(trials) - len(due)
    reporter.say(f"{claim.name}: {runs} (arms: {len(arms)}, seeds: {seeds}), {finished} of them finished earlier")
    if due:
        processes = where.processes
        if not processes:
            processes = 1 if device == "cuda" else usable_cores()
        performed = _performed(due, processes, reporter)
        trials.update(zip(due, performed, strict=True))
    labels = {arm.name: arm.label for arm in arms}
    done = [trial for trial in trials.values() if trial is not None]
    return Results(labels, done)


def _tasks(
    claim: Claim, arms: Sequence[Arm], settings: Settings, where: Where, device: str, reporter: Reporter
) -> list[Task]:
    """The runs of a claim, one seed after the other: where they are cut short, whole comparisons are done."""
    places = _places(arms, where, reporter)
    folder = where.folder / claim.name / "runs" / settings.budget
    tasks = []
    for seed in settings.seeds_of(claim):
        for arm in arms:
            place = places[arm.name]
            key = key_of(arm, place, seed, device)
            run_folder = folder / f"{arm.name}-{seed}-{key}"
            tasks.append(Task(claim.name, arm.name, seed, settings, place, run_folder, device))
    return tasks


def _places(arms: Sequence[Arm], where: Where, reporter: Reporter) -> dict[str, ArmData]:
    """Where the pictures of each arm lie, by the arm's name. Smaller sets are written where they are missing."""
    cache = where.folder / "data"
    kinds = {arm.data for arm in arms}
    opened = require_data(where.data, kinds, cache)
    made: dict[tuple[Any, ...], ArmData] = {}
    places = {}
    for arm in arms:
        wanted = (arm.data, arm.pictures, arm.test_pictures)
        if wanted not in made:
            reporter.say(f"data: {opened[arm.data]}, {arm.describe_pictures()}")
            made[wanted] = place_for(arm, opened, cache)
        places[arm.name] = made[wanted]
    return places


def _performed(due: Sequence[Task], processes: int, reporter: Reporter) -> list[Trial]:
    """Run the tasks in so many processes at once. The trials are in the order of the tasks."""
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in whatever state they are
    channel = context.Queue()
    stop = context.Event()
    workers = min(processes, len(due))
    with (
        _shown(channel, due, reporter) as done,
        ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(channel, stop, os.getpid())) as pool,
    ):
        with _without_interrupts():  # the processes start with the first task
            futures = [pool.submit(_perform, number, task) for number, task in enumerate(due)]
        for future, task in zip(futures, due, strict=True):
            callback = _reporting_end(task, done, len(due), reporter)
            future.add_done_callback(callback)
        try:
            wait(futures)
        except KeyboardInterrupt:
            _stop_all(pool, stop)
            raise KeyboardInterrupt("stopped; the same command goes on from here") from None
        try:
            return [future.result() for future in futures]
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


def _reporting_end(task: Task, done: list[Task], total: int, reporter: Reporter) -> Callable[[Future[Trial]], None]:
    """A callback that reports a finished run with its errors, and adds it to `done`."""

    def report(future: Future[Trial]) -> None:
        """Called when the run has ended, in whatever way."""
        if future.cancelled() or future.exception() is not None:
            return
        done.append(task)
        trial = future.result()
        train_error = trial.last("train_error")
        test_error = trial.last("test_error")
        seconds = trial.times["seconds"]
        reporter.say(
            f"run {len(done)} of {total}: {task.arm}, seed {task.seed}: train error {train_error:.1%}, "
            f"test error {test_error:.1%}; {seconds:.0f} s"
        )

    return report


@contextlib.contextmanager
def _shown(channel: Queue[Any], due: Sequence[Task], reporter: Reporter) -> Iterator[list[Task]]:
    """Progress of all runs together while the block lasts; yields the list of finished ones, for their callbacks."""
    listener = threading.Thread(target=_listen, args=(channel, len(due), reporter), daemon=True)
    listener.start()
    try:
        yield []
    finally:
        channel.put(None)
        listener.join(timeout=5)


def _listen(channel: Queue[Any], count: int, reporter: Reporter) -> None:
    """Report the progress of so many runs, as their shares come through the channel; None ends it."""
    shares = [0.0] * count
    last = time.monotonic()
    while True:
        message = channel.get()
        if message is None:
            return
        number, share = message
        shares[number] = share
        done = sum(shares)
        reporter.counting("training", round(100 * done), 100 * count)
        quiet = not getattr(reporter, "live", True)
        if quiet and time.monotonic() - last > _QUIET_SECONDS:
            last = time.monotonic()
            reporter.say(f"{done / count:.0%} of the training is done")


def _prepare(channel: Queue[Any], stop: Event, parent: int) -> None:
    """In a new process: one thread each, so that the sums, and with them the result, are the same however many run.

    `parent` is the process that started this one. It may have been killed before this process got so far.
    """
    import torch

    global _channel, _stop
    _channel = channel
    _stop = stop
    torch.set_num_threads(1)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is for the first process to hear, and to hand on by `stop`
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C does nothing for a moment, nor in processes that are started in it until they say otherwise.

    In the middle of their imports it would end them with a traceback.
    """
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
    """Run a task in a process of the pool. `number` is its place among the tasks."""
    if _is_stopping():  # the pool has one run more in its queue than it will cancel
        raise KeyboardInterrupt
    last = 0.0
    interrupted = False

    def progress(share: float) -> None:
        """Report the share that is done, and stop the training once the first process asks for it."""
        nonlocal last, interrupted
        if _channel is not None and (share - last >= _REPORTED_SHARE or share == 1):
            last = share
            _channel.put((number, share))
        if _is_stopping() and not interrupted:
            interrupted = True
            signal.raise_signal(signal.SIGINT)  # training saves what a resume needs, and ends

    try:
        return perform(task, progress)
    except SkipwayError as error:
        # Plain, since errors with arguments of their own do not survive the way between processes.
        raise SkipwayError(f"{task.arm}, seed {task.seed}: {error}") from None


def _is_stopping() -> bool:
    """Whether the first process has asked all others to stop."""
    return _stop is not None and _stop.is_set()
