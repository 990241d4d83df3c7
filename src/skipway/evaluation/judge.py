"""`evaluate`: how good a model file is on a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from skipway.data.checking import Checked, check_split
from skipway.data.dataset import Source, Split
from skipway.data.loading import Batch, evaluation_batches
from skipway.data.sources import open_source
from skipway.data.workers import batch_bytes, pick_workers, require_workers, starting_workers
from skipway.errors import DataError, PictureError, SkipwayError
from skipway.evaluation.feeding import Feeding, feeding
from skipway.evaluation.metrics import Evaluation, evaluate_network
from skipway.evaluation.overlap import UNKNOWN, Overlap, chosen, wanted_part
from skipway.inference.classifier import Classifier
from skipway.machine import usable_cores
from skipway.reporting import counted, escaped, joined_lines, table
from skipway.weights.bundle import load_bundle
from skipway.world.ranks import World, joined_world, local_size, on_main

if TYPE_CHECKING:
    from skipway.inference.engines import Precision

Progress = Callable[[str, int, int], None]  # gets what is done, how many pictures are done, and how many there are


@dataclass(frozen=True)
class Judgement:
    """How good a model is on a split of a data set.

    Attributes:
        split: Name of the split.
        evaluation: The figures of the engine that answered.
        bad: The pictures that could not be read.
        engine: Name of the engine that answered; `network` is the network itself.
        precision: Arithmetic of the engine.
        exact: Figures of the network itself in fp32, where the engine has another precision.
        overlap: How the pictures relate to those of the training; None where the model file does not say.
        feeding: How the model's own statistics fit the pictures; None where it has no such statistics.
        matching: A remark on classes that were matched by their order, "" where they were matched by name.
    """

    split: str
    evaluation: Evaluation
    bad: tuple[PictureError, ...]
    engine: str = "network"
    precision: Precision = "fp32"
    exact: Evaluation | None = None
    overlap: Overlap | None = None
    feeding: Feeding | None = None
    matching: str = ""

    def remarks(self) -> list[str]:
        """What a reader of the figures must know of the pictures, a line each."""
        lines: list[str] = []
        if self.overlap is not None:
            lines += self.overlap.remarks(self.split, self.evaluation)
        elif self.split in {"all", "train"}:
            lines.append(UNKNOWN)
        if self.feeding is not None:
            lines += self.feeding.warnings()
        if self.matching:
            lines.append(self.matching)
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        facts: dict[str, Any] = {"split": self.split, "engine": self.engine, "precision": self.precision}
        if self.exact is not None:
            facts["fp32_top1"] = self.exact.top1
            facts["fp32_images_per_second"] = self.exact.images_per_second
        facts["remarks"] = self.remarks()
        facts["fit"] = {}
        if self.feeding is not None:
            facts["fit"] = self.feeding.to_dict()
        facts["overlap"] = None
        if self.overlap is not None:
            facts["overlap"] = self.overlap.to_dict(self.evaluation)
        facts.update(self.evaluation.to_dict())
        facts["bad"] = [{"file": error.file, "error": error.reason} for error in self.bad]
        return facts

    def describe(self) -> str:
        """The figures as text: remarks, those of all pictures, and a table with a line for each class."""
        result = self.evaluation
        pictures = counted(result.count, "picture")
        accuracy = f"top-1 {result.top1:.2%}, top-5 {result.top5:.2%}"
        summary = f"{accuracy}, loss {result.loss:.4f}, ECE {result.ece:.2%}"
        speed = f"{result.images_per_second:,.0f} pictures/s"
        lines = self.remarks()
        lines.append(f"{pictures} ({self.split}): {summary}; {speed}")
        lines += self._engine_lines()
        rows = []
        for score in result.per_class:
            fractions = (score.precision, score.recall, score.f1)
            percents = [f"{fraction:.2%}" for fraction in fractions]
            rows.append((score.label, *percents, f"{score.support:,}"))
        classes = table(("class", "precision", "recall", "F1", "support"), rows)
        return f"{joined_lines(lines)}\n{classes}"

    def _engine_lines(self) -> list[str]:
        """Which engine answered, and how much accuracy a lower precision costs; empty for the network in fp32."""
        if self.exact is not None:
            loss = 100 * (self.exact.top1 - self.evaluation.top1)
            engine = f"answered by {self.engine} in {self.precision}"
            return [f"{engine}; in fp32 top-1 is {self.exact.top1:.2%}, {loss:+.2f} points are lost"]
        if self.engine == "network":
            return []
        return [f"answered by {self.engine}"]


@starting_workers()
def evaluate(
    model: Path | str | Classifier,
    data: Path | str,
    *,
    split: str = "",
    batch_size: int = 64,
    workers: int = -1,
    device: str = "auto",
    engine: str = "auto",
    precision: Precision = "fp32",
    calibrate: Path | str = "",
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Judgement:
    """Judge a model file, or a loaded one, on a split of a data set (test, else val, else all there is).

    Of data without parts, the pictures that the model was trained on are left out, as far as the model file knows them
    by their content; `split` takes "val" and "train" there, too, for those that were held out and those trained on, and
    "all" for all. `Judgement.remarks` says how the pictures relate to those of the training.

    Targets are matched to the model's labels by name, or by order where the model's are mere numbers. Unreadable
    pictures are left out and listed. Raises DataError when the labels do not fit, ModelFileError for a bad model file.
    `engine`, `precision` and `calibrate` are those of `Classifier.use`; `say` gets a line on each engine measured.

    Under torchrun the ranks share the pictures, every rank must call this, and each gets the figures of all.
    """
    require_workers(workers)
    _require_batch_size(batch_size)
    given = model if isinstance(model, Classifier) else load_bundle(model)
    if isinstance(given, Classifier):
        device = given.device.type
    with joined_world(device) as world:
        classifier = given if isinstance(given, Classifier) else Classifier(given, world.device, Path(str(model)))
        classifier.require_classes()
        # Only the main rank reports.
        report_progress = progress if progress is not None and world.main else _no_progress
        report_line = say if say is not None and world.main else _no_line
        source = open_source(data)
        name, checked, overlap = _checked(classifier, source, split, report_progress)
        use = partial(classifier.use, precision=precision, calibrate=calibrate, tell=say if world.main else _no_line)
        count = len(checked.split)
        _choose_engine(classifier, world, engine, partial(use, batch_size=min(batch_size, count), pictures=count))
        processes = _worker_count(classifier, checked.split, batch_size, workers, world, report_line)
        judge = partial(_judged, classifier, checked.split, batch_size, processes, report_progress, world)
        exact = judge(classifier.network, "evaluating in fp32") if precision != "fp32" else None
        result = judge(classifier.engine, "evaluating")
        fit = feeding(classifier, checked.split)
    return Judgement(
        split=name,
        evaluation=result,
        bad=checked.bad,
        engine=classifier.engine_name,
        precision=precision,
        exact=exact,
        overlap=overlap,
        feeding=fit,
        matching=_matching(source.labels, classifier.labels),
    )


def _require_batch_size(batch_size: int) -> None:
    if type(batch_size) is not int or batch_size < 1:
        raise SkipwayError(f"batch_size is {batch_size}; give 1 or more")


def _worker_count(
    classifier: Classifier,
    split: Split,
    batch_size: int,
    workers: int,
    world: World,
    report_line: Callable[[str], None],
) -> int:
    """How many worker processes load the pictures of this rank."""
    pictures_of_batch = min(batch_size, len(split))
    bytes_of_batch = batch_bytes(classifier.preprocessing, pictures_of_batch)
    ranks_here = min(world.size, local_size())
    on_gpu = world.device.type == "cuda"
    return pick_workers(workers, split, bytes_of_batch, report_line, cuda=on_gpu, processes=ranks_here)


def _choose_engine(classifier: Classifier, world: World, engine: str, use: Callable[[str], None]) -> None:
    """One engine for all ranks: the main one chooses, and the figures do not depend on what each would measure."""

    def chosen_by_main() -> str:
        use(engine)
        return classifier.engine_name

    chosen = on_main(world, chosen_by_main)
    if not world.main and chosen != "network":
        use(chosen)


def _checked(
    classifier: Classifier, source: Source, split: str, report_progress: Progress
) -> tuple[str, Checked, Overlap | None]:
    """The name of the part to judge on, its pictures that can be read and may judge, and their overlap with those of
    the training.
    """
    wanted = wanted_part(source, split, classifier.identity)
    part = source.split(wanted.part)
    targets = _aligned(part.targets, source.labels, classifier.labels, source.name)

    def report_checked(done: int, total: int) -> None:
        report_progress("checking pictures", done, total)

    checked = check_split(Split(part.pictures, targets), usable_cores(), report_checked)
    if not len(checked.split):
        raise DataError(f"{source.name}: no picture of {wanted.part} can be read; the first: {checked.bad[0]}")
    name = split or wanted.part
    if classifier.identity is None:
        return name, checked, None
    kept, overlap = chosen(checked, wanted, classifier.identity)
    return name, kept, overlap


def _judged(
    classifier: Classifier,
    split: Split,
    batch_size: int,
    workers: int,
    report_progress: Progress,
    world: World,
    network: nn.Module,
    activity: str,
) -> Evaluation:
    """The figures of a network, or of an engine, on the pictures of all ranks. Raises SkipwayError for a loss of NaN.

    `activity` is the text of the progress reports.
    """
    on_gpu = classifier.device.type == "cuda"
    batches = evaluation_batches(
        split,
        classifier.preprocessing,
        batch_size=batch_size,
        workers=workers,
        pin=on_gpu,
        rank=world.rank,
        world=world.size,
    )
    total = len(split)

    def reported_batches() -> Iterator[Batch]:
        done = 0
        for batch in batches:
            yield batch
            of_all_ranks = world.size * len(batch.targets)  # the others are about as far
            done = min(done + of_all_ranks, total)
            report_progress(activity, done, total)

    result = evaluate_network(
        network, reported_batches(), classifier.preprocessing, classifier.labels, classifier.device
    )
    if not math.isfinite(result.loss):  # a single such answer is enough: its loss is part of the mean
        raise SkipwayError(classifier.infinite_message())
    return result


def _aligned(targets: np.ndarray, labels: Sequence[str], known: Sequence[str], name: str) -> np.ndarray:
    """Targets renumbered from the data's labels to the model's. Labels without a picture need no match.

    Raises DataError where the model does not know a label.
    """
    is_same = tuple(labels) == tuple(known)
    if is_same or _by_order(labels, known):
        return targets
    number_of: dict[int, int] = {}
    unknown: list[str] = []
    for target in sorted(set(targets.tolist())):
        label = labels[target]
        if label in known:
            number_of[target] = known.index(label)
        else:
            unknown.append(label)
    if unknown:
        some_unknown = ", ".join(unknown[:5])
        some_known = ", ".join(known[:8])
        dots = " ..." if len(known) > 8 else ""
        raise DataError(f"{name} has classes that the model does not know: {some_unknown}; it knows {some_known}{dots}")
    return np.array([number_of[int(target)] for target in targets], np.int64)


def _by_order(labels: Sequence[str], known: Sequence[str]) -> bool:
    """Whether classes are matched by their order: those of the model are mere numbers, and those of the data are not.

    Imported models whose classes nobody has named have such numbers.
    """
    numbers = [str(number) for number in range(len(known))]
    if list(known) != numbers or len(labels) != len(known):
        return False
    return set(labels).isdisjoint(known)


def _matching(labels: Sequence[str], known: Sequence[str]) -> str:
    """The remark on classes that were matched by order, "" for those that were matched by name."""
    if not _by_order(labels, known):
        return ""
    pairs = []
    for number, label in zip(known[:5], labels, strict=False):
        pairs.append(f"{number} = {escaped(label)}")
    if len(labels) > 5:
        pairs.append("...")
    return f"classes are matched by order ({', '.join(pairs)}): the model names none"


def _no_progress(activity: str, done: int, total: int) -> None:
    """Report no progress."""


def _no_line(line: str) -> None:
    """Report no line."""
