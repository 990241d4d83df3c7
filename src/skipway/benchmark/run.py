"""`benchmark`: one network, measured by every engine, precision and batch size that was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from skipway.benchmark.memory import HighWater, Need, available, largest_half, least_need, release
from skipway.benchmark.peak import Peak
from skipway.benchmark.profiling import PROFILED, Profile, profile_forward, profile_training
from skipway.benchmark.result import BenchmarkReport, Result
from skipway.benchmark.subject import Subject, find_subject
from skipway.benchmark.timing import time_steps
from skipway.benchmark.work import Workload, forward_work, random_pictures, training_work
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

    def describe(self) -> str:
        """`eager fp32, batch 32`."""
        return f"{self.engine} {self.precision}, batch {self.batch_size}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """What to measure, and how.

    `model` is a name of the catalog or a model file; `image_size` the side of its pictures in pixels (0: its own).
    `engines` are names of `inference.engines`, or `auto` for the fastest; training knows `eager`, `compile`, and `auto`
    as the recipe has it. Every engine is measured with every precision and every batch size. `mode` is one of MODES;
    `steps` batches count, after `warmup` that do not. `recipe` is that of a training step, `seed` that of random
    weights and pictures. `profile` is a folder for traces, empty for none.
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
        """Raises SkipwayError where a value is unknown or out of its range, and names what there is."""
        _require_known("mode", [self.mode], MODES)
        _require_known("precision", self.precisions, PRECISIONS)
        _require_known("engine", self.engines, ("auto", *ENGINES))
        if not (self.batch_sizes and self.engines and self.precisions):
            raise SkipwayError("nothing to measure; give a batch size, an engine and a precision")
        for size in self.batch_sizes:
            _require_count("--batch-size", size, least=1)
        _require_count("--steps", self.steps, least=1)
        _require_count("--warmup", self.warmup, least=0)
        _require_count("--image-size", self.image_size, least=0)
        _require_count("--seed", self.seed, least=0)
        if self.mode != "train":
            return
        if not set(self.engines) <= {"auto", "eager", "compile"}:
            raise SkipwayError(f"training has no engine {', '.join(self.engines)}; give eager or compile")
        if "int8" in self.precisions:
            raise SkipwayError("training in int8 does not exist; give --precision fp32 or bf16")

    def combinations(self) -> list[Combination]:
        """What is to be measured, in order."""
        precisions = [known for name in self.precisions for known in PRECISIONS if known == name]
        product = itertools.product(self.engines, precisions, self.batch_sizes)
        return [Combination(engine, precision, size) for engine, precision, size in product]


def _require_known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raises SkipwayError unless all names are known ones."""
    for name in names:
        if name not in known:
            raise SkipwayError(f"unknown {kind} '{name}'; there are {', '.join(known)}")


def _require_count(option: str, number: int, *, least: int) -> None:
    """Raises SkipwayError for a number below `least`, or above what torch takes."""
    if not least <= number < 2**63:
        raise SkipwayError(f"{option} is {number}; give {least} or more")


def benchmark(settings: BenchmarkSettings, *, reporter: Reporter | None = None) -> BenchmarkReport:
    """Measure every combination of the settings.

    Seconds, operations a second and memory are those of the step alone: no picture is read or decoded. The operations
    of a training step are three times those of a forward pass. Ctrl-C ends the measurement early, with the results
    until then; before the first counted batch it raises KeyboardInterrupt.

    Raises SkipwayError for an engine that this machine lacks and for a batch too large for its memory; where several
    combinations were asked for, only if none can be measured.
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
    for combination in combinations:
        try:
            result = bench.measured(combination)
        except SkipwayError as error:
            errors.append(error)
            if len(combinations) > 1:
                reporter.say(f"left out {combination.describe()}: {error}")
            continue
        except KeyboardInterrupt:
            if not results:
                raise
            stopped = True
            break
        results.append(result)
        if result.timing.stopped:
            stopped = True
            break
    if not results:
        raise errors[0]
    return BenchmarkReport(tuple(results), single=len(combinations) == 1, stopped=stopped)


def _make_folder(folder: Path) -> None:
    """Make the folder of --profile before anything is measured. Raises StorageError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); give another --profile") from None


class _Bench:
    """A network on a device, ready to be measured in one way after the other."""

    def __init__(self, settings: BenchmarkSettings, subject: Subject, device: torch.device, reporter: Reporter) -> None:
        """Find the recipe, and count the network's operations and the memory that it needs."""
        self.settings = settings
        self.subject = subject
        self.device = device
        self.reporter = reporter
        if isinstance(settings.recipe, Recipe):
            self.recipe = settings.recipe
        else:
            self.recipe = find_recipe(settings.recipe)
        self.flops = PASSES[settings.mode] * count(subject.spec).flops
        self.needs: dict[Precision, Need] = {}
        self.peaks: dict[Precision, Peak] = {}
        for precision in PRECISIONS:
            self.needs[precision] = least_need(subject.spec, mode=settings.mode, precision=precision)
            self.peaks[precision] = Peak(precision, device)

    def measured(self, combination: Combination) -> Result:
        """The figures of one combination. Raises SkipwayError where it does not fit into the memory."""
        if self._is_surely_too_large(combination, share=1.0):
            raise self._too_large(combination)
        try:
            result = self._timed(combination)
            if self.settings.profile and not result.timing.stopped:
                profile = self._profiled(combination)
                result = replace(result, profile=profile)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return result
        # Outside the handler: its traceback would keep all the tensors alive.
        raise self._too_large(combination)

    def _timed(self, combination: Combination) -> Result:
        """The figures of one combination, between two measurements of the machine's peak."""
        settings = self.settings
        spec = self.subject.spec
        peak = self.peaks[combination.precision]
        if peak.best is None:
            self.reporter.say(f"measuring the {combination.precision} peak of this machine")
        peak.measure()
        water = HighWater(self.device)
        work = self._work(combination)
        water.watch()
        label = replace(combination, engine=work.engine).describe()
        timing = time_steps(
            work.step,
            warmup=settings.warmup,
            steps=settings.steps,
            device=self.device,
            progress=lambda done, total: self.reporter.counting(label, done, total),
        )
        memory = water.rise()
        result = Result(
            name=spec.name,
            mode=settings.mode,
            engine=work.engine,
            precision=combination.precision,
            batch_size=combination.batch_size,
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

    def _work(self, combination: Combination) -> Workload:
        """The step to measure: a forward pass or a training step."""
        settings = self.settings
        if settings.mode == "train":
            return training_work(
                self.subject,
                self.recipe,
                engine=combination.engine,
                precision=combination.precision,
                batch_size=combination.batch_size,
                device=self.device,
                seed=settings.seed,
                steps=max(settings.warmup + settings.steps, 1 + PROFILED),
            )
        return forward_work(
            self.subject,
            engine=combination.engine,
            precision=combination.precision,
            batch_size=combination.batch_size,
            device=self.device,
            seed=settings.seed,
            say=self.reporter.say,
        )

    def _profiled(self, combination: Combination) -> Profile:
        """What costs most in the step, and a trace of it in the folder of --profile."""
        mode = self.settings.mode
        precision, batch_size = combination.precision, combination.batch_size
        trace = Path(self.settings.profile) / f"{mode}-{precision}-{batch_size}.json"
        self.reporter.say(f"profiling into {trace}")
        if mode == "train":
            work = self._work(combination)
            return profile_training(work.step, self.device, trace)
        network = self.subject.build()
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = random_pictures(self.subject.spec, batch_size, self.settings.seed)
        return profile_forward(network, inputs.to(self.device), trace, precision=precision)

    def _too_large(self, combination: Combination) -> SkipwayError:
        """The error for a batch that does not fit into the memory. It names the largest half of it that does."""

        def runs(size: int) -> bool:
            """Whether a batch of that size can be computed."""
            return self._runs(replace(combination, batch_size=size))

        largest = largest_half(runs, combination.batch_size)
        name = self.subject.spec.name
        pictures = counted(combination.batch_size, "picture")
        do = agreeing(combination.batch_size, "does", "do")
        message = f"{name}: {pictures} at once {do} not fit into the memory"
        if combination.batch_size == 1:
            return SkipwayError(f"{message}; give a smaller --image-size")
        if not largest:
            return SkipwayError(f"{message}, and neither does one; give a smaller --image-size")
        return SkipwayError(f"{message}; the most that did, by halving, are {largest:,}: give --batch-size {largest}")

    def _runs(self, combination: Combination) -> bool:
        """Whether one step can be computed with the machine's memory."""
        # A bound that fits is no proof, and a system short of memory ends processes: keep away from its edge.
        if self._is_surely_too_large(combination, share=SAFE):
            return False
        if combination.engine == "auto" and combination.precision != "int8":  # eager does not run int8
            combination = replace(combination, engine="eager")
        self.reporter.say(f"trying {combination.batch_size:,}")
        release(self.device)
        try:
            work = self._work(combination)
            work.step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _is_surely_too_large(self, combination: Combination, *, share: float) -> bool:
        """Whether the least that the step needs is more than this share of the memory."""
        limit = available(self.device)
        if limit is None:
            return False
        need = self.needs[combination.precision].of(combination.batch_size)
        return need > share * limit
