"""`benchmark`: one network, measured by every engine, precision and batch size that was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from skipway.benchmark.memory import HighWater, available, largest_half, least_need, release
from skipway.benchmark.peak import Peak
from skipway.benchmark.profiling import PROFILED, Profile, profile_forward, profile_training
from skipway.benchmark.result import Report, Result
from skipway.benchmark.subject import Subject, find_subject
from skipway.benchmark.timing import time_steps
from skipway.benchmark.work import Work, forward_work, random_pictures, training_work
from skipway.drawing.counting import count
from skipway.errors import SkipwayError, StorageError, is_out_of_memory
from skipway.inference.engines import ENGINES, PRECISIONS, Precision
from skipway.machine import pick_device
from skipway.reporting import agreeing, counted
from skipway.training.console import Reporter, Silent
from skipway.training.recipe import Recipe
from skipway.training.recipes import find_recipe

MODES = ("forward", "train")
# Of the memory, for the lower bound of what a trial takes: a unit's input, its output and what lies between them are
# there at the same time.
SAFE = 0.2
# A forward pass, the gradient of the activations, the gradient of the weights: each as many operations.
PASSES = {"forward": 1, "train": 3}


@dataclass(frozen=True)
class Combination:
    """What one row of the table measures."""

    engine: str
    precision: Precision
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and how.

    `model` is a name of the catalog or a model file; `image_size` the side of its pictures in pixels (0: its own).
    `engines` are names of `inference.engines`, or `auto` for the fastest; training knows `eager`, `compile`, and `auto`
    as the recipe has it. Every engine is measured with every precision and every batch size. `profile` is a folder for
    traces, empty for none.
    """

    model: str
    batch_sizes: tuple[int, ...] = (32,)
    engines: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...] = ("fp32",)
    mode: str = "forward"
    steps: int = 100
    warmup: int = 10
    image_size: int = 0
    device: str = "auto"
    recipe: str | Recipe = "quick"
    seed: int = 0
    profile: str = ""

    def __post_init__(self) -> None:
        """Raises SkipwayError, naming what there is."""
        _require_known("mode", [self.mode], MODES)
        _require_known("precision", self.precisions, PRECISIONS)
        _require_known("engine", self.engines, ("auto", *ENGINES))
        if not (self.batch_sizes and self.engines and self.precisions):
            raise SkipwayError("nothing to measure; give a batch size, an engine and a precision")
        for name, number, least in (
            *(("--batch-size", size, 1) for size in self.batch_sizes),
            ("--steps", self.steps, 1),
            ("--warmup", self.warmup, 0),
            ("--image-size", self.image_size, 0),
            ("--seed", self.seed, 0),
        ):
            if not least <= number < 2**63:
                raise SkipwayError(f"{name} is {number}; give {least} or more")
        if self.mode == "train" and not set(self.engines) <= {"auto", "eager", "compile"}:
            raise SkipwayError(f"training has no engine {', '.join(self.engines)}; give eager or compile")
        if self.mode == "train" and "int8" in self.precisions:
            raise SkipwayError("training in int8 does not exist; give --precision fp32 or bf16")

    def combinations(self) -> list[Combination]:
        """What is to be measured, in order."""
        precisions = [known for name in self.precisions for known in PRECISIONS if known == name]
        return [Combination(*one) for one in itertools.product(self.engines, precisions, self.batch_sizes)]


def _require_known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise SkipwayError(f"unknown {kind} '{name}'; there are {', '.join(known)}")


def benchmark(settings: Settings, *, reporter: Reporter | None = None) -> Report:
    """Measure. Ctrl-C ends it early, with what was measured until then; before the first counted batch it passes.

    Seconds, operations a second and memory are those of the step alone: no picture is read or decoded. The operations
    of a training step are three times those of a forward pass. Raises SkipwayError for an engine that this machine
    lacks and for a batch too large for its memory; where several combinations were asked for, only if none can be
    measured.
    """
    reporter = reporter or Silent()
    device = pick_device(settings.device)
    subject = find_subject(settings.model, image_size=settings.image_size, seed=settings.seed)
    bench = _Bench(settings, subject, device, reporter)
    if settings.profile:
        _make_folder(Path(settings.profile))
    combinations = settings.combinations()
    results: list[Result] = []
    errors: list[SkipwayError] = []
    stopped = False
    for one in combinations:
        try:
            results.append(bench.measured(one))
            stopped = results[-1].timing.stopped
        except SkipwayError as error:
            errors.append(error)
            if len(combinations) > 1:
                reporter.say(f"left out {one.engine} {one.precision}, batch {one.batch_size}: {error}")
        except KeyboardInterrupt:
            if not results:
                raise
            stopped = True
        if stopped:
            break
    if not results:
        raise errors[0]
    return Report(tuple(results), single=len(combinations) == 1, stopped=stopped)


def _make_folder(folder: Path) -> None:
    """Now, and not after everything has been measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); give another --profile") from None


class _Bench:
    """A network on a device, ready to be measured in one way after the other."""

    def __init__(self, settings: Settings, subject: Subject, device: torch.device, reporter: Reporter) -> None:
        self.settings, self.subject, self.device, self.reporter = settings, subject, device, reporter
        self.recipe = settings.recipe if isinstance(settings.recipe, Recipe) else find_recipe(settings.recipe)
        self.flops = PASSES[settings.mode] * count(subject.spec).flops
        self.needs = {
            precision: least_need(subject.spec, mode=settings.mode, precision=precision) for precision in PRECISIONS
        }
        self.peaks = {precision: Peak(precision, device) for precision in PRECISIONS}

    def measured(self, one: Combination) -> Result:
        """The figures of one combination. Raises SkipwayError where it does not fit into the memory."""
        if self._fits_surely_not(one, share=1.0):
            raise self._too_large(one)
        try:
            result = self._measured(one)
            if self.settings.profile and not result.timing.stopped:
                result = replace(result, profile=self._profiled(one))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return result
        # Outside the handler: its traceback would keep all the tensors alive.
        raise self._too_large(one)

    def _measured(self, one: Combination) -> Result:
        settings, spec, peak = self.settings, self.subject.spec, self.peaks[one.precision]
        if peak.best is None:
            self.reporter.say(f"measuring the {one.precision} peak of this machine")
        peak.measure()
        water = HighWater(self.device)
        work = self._work(one)
        water.watch()
        label = f"{work.engine} {one.precision}, batch {one.batch_size}"
        timing = time_steps(
            work.step,
            warmup=settings.warmup,
            steps=settings.steps,
            device=self.device,
            tell=lambda done, total: self.reporter.counting(label, done, total),
        )
        memory = water.rise()
        result = Result(
            name=spec.name,
            mode=settings.mode,
            engine=work.engine,
            precision=one.precision,
            batch_size=one.batch_size,
            image_size=spec.input_size,
            warmup=settings.warmup,
            device=self.device,
            timing=timing,
            flops=self.flops,
            peak=peak.best,
            memory=memory,
        )
        if timing.stopped:
            return result
        peak.measure()
        return replace(result, peak=peak.best)

    def _work(self, one: Combination) -> Work:
        settings = self.settings
        if settings.mode == "train":
            return training_work(
                self.subject,
                self.recipe,
                engine=one.engine,
                precision=one.precision,
                batch_size=one.batch_size,
                device=self.device,
                seed=settings.seed,
                steps=max(settings.warmup + settings.steps, 1 + PROFILED),
            )
        return forward_work(
            self.subject,
            engine=one.engine,
            precision=one.precision,
            batch_size=one.batch_size,
            device=self.device,
            seed=settings.seed,
            say=self.reporter.say,
        )

    def _profiled(self, one: Combination) -> Profile:
        settings = self.settings
        trace = Path(settings.profile) / f"{settings.mode}-{one.precision}-{one.batch_size}.json"
        self.reporter.say(f"profiling into {trace}")
        if settings.mode == "train":
            return profile_training(self._work(one).step, self.device, trace)
        network = self.subject.build().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = random_pictures(self.subject.spec, one.batch_size, settings.seed).to(self.device)
        return profile_forward(network, inputs, trace, precision=one.precision)

    def _too_large(self, one: Combination) -> SkipwayError:
        largest = largest_half(lambda size: self._runs(replace(one, batch_size=size)), one.batch_size)
        told = f"{self.subject.spec.name}: {counted(one.batch_size, 'picture')} at once "
        told += f"{agreeing(one.batch_size, 'does', 'do')} not fit into the memory"
        if largest:
            return SkipwayError(f"{told}; the most that did, by halving, are {largest:,}: give --batch-size {largest}")
        if one.batch_size == 1:
            return SkipwayError(f"{told}; give a smaller --image-size")
        return SkipwayError(f"{told}, and neither does one; give a smaller --image-size")

    def _runs(self, one: Combination) -> bool:
        # A bound that fits is no proof, and a system short of memory ends processes: keep away from its edge.
        if self._fits_surely_not(one, share=SAFE):
            return False
        if one.engine == "auto" and one.precision != "int8":  # which eager has not
            one = replace(one, engine="eager")
        self.reporter.say(f"trying {one.batch_size:,}")
        release(self.device)
        try:
            self._work(one).step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _fits_surely_not(self, one: Combination, *, share: float) -> bool:
        limit = available(self.device)
        return limit is not None and self.needs[one.precision].of(one.batch_size) > share * limit
