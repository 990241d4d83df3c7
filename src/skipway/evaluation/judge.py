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
from skipway.reporting import counted, escaped, joined_lines
from skipway.weights.bundle import load_bundle
from skipway.world.ranks import World, joined_world, local_size, on_main

if TYPE_CHECKING:
    from skipway.inference.engines import Precision

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judgement:
    """An evaluation, the name of the split it is about, and the pictures of it that could not be read.

    `engine` is what answered. `exact` is the evaluation of the network itself, in fp32, where another precision was
    judged. `overlap` tells how the pictures relate to those that the model was trained on; None where the model file
    does not know. `feeding` is how the model's own statistics fit the pictures, None where it has none to ask.
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
        fed = self.feeding.warnings() if self.feeding else []
        fed += [self.matching] if self.matching else []
        if self.overlap is not None:
            return [*self.overlap.remarks(self.split, self.evaluation), *fed]
        return [UNKNOWN, *fed] if self.split in {"all", "train"} else fed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        bad = [{"file": error.file, "error": error.reason} for error in self.bad]
        facts: dict[str, Any] = {"split": self.split, "engine": self.engine, "precision": self.precision}
        if self.exact is not None:
            facts |= {"fp32_top1": self.exact.top1, "fp32_images_per_second": self.exact.images_per_second}
        facts["remarks"] = self.remarks()
        facts["fit"] = self.feeding.to_dict() if self.feeding else {}
        facts["overlap"] = None if self.overlap is None else self.overlap.to_dict(self.evaluation)
        return {**facts, **self.evaluation.to_dict(), "bad": bad}

    def describe(self) -> str:
        """The figures as text, a line a class."""
        found = self.evaluation
        labels = [escaped(score.label) for score in found.per_class]
        width = max(map(len, labels))
        lines = [
            *self.remarks(),
            f"{counted(found.count, 'picture')} ({self.split}): top-1 {found.top1:.2%}, top-5 {found.top5:.2%}, "
            f"loss {found.loss:.4f}, ECE {found.ece:.2%}; {found.images_per_second:,.0f} pictures/s",
            *self._beside(),
            f"{'class':{width}}  precision  recall      F1  support",
        ]
        lines += [
            f"{label:{width}}  {one.precision:9.2%} {one.recall:7.2%} {one.f1:7.2%} {one.support:8,}"
            for label, one in zip(labels, found.per_class, strict=True)
        ]
        return joined_lines(lines)

    def _beside(self) -> list[str]:
        """What a faster way of answering costs."""
        if self.exact is None:
            return [] if self.engine == "network" else [f"answered by {self.engine}"]
        loss = 100 * (self.exact.top1 - self.evaluation.top1)
        told = f"answered by {self.engine} in {self.precision}; in fp32 top-1 is {self.exact.top1:.2%}"
        return [f"{told}, {loss:+.2f} points are lost"]


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
    "all" for all. `Judgement.remarks` tells how the pictures relate to those of the training.

    Targets are matched to the model's labels by name, or by order where the model's are mere numbers. Unreadable
    pictures are left out and listed. Raises DataError when the labels do not fit, ModelFileError for a bad model file.
    `engine`, `precision` and `calibrate` are those of `Classifier.use`; `say` gets a line on each engine measured.

    Under torchrun the ranks share the pictures, every rank must call this, and each gets the figures of all.
    """
    require_workers(workers)
    _require_batch_size(batch_size)
    given = model if isinstance(model, Classifier) else load_bundle(model)
    with joined_world(given.device.type if isinstance(given, Classifier) else device) as world:
        classifier = given if isinstance(given, Classifier) else Classifier(given, world.device, Path(str(model)))
        classifier.require_classes()
        tell = progress if progress is not None and world.main else _silent
        source = open_source(data)
        name, checked, overlap = _checked(classifier, source, split, tell)
        use = partial(
            classifier.use,
            batch_size=min(batch_size, len(checked.split)),
            precision=precision,
            calibrate=calibrate,
            pictures=len(checked.split),
            tell=say if world.main else _unsaid,
        )
        _choose_engine(classifier, world, engine, use)
        count = _worker_count(classifier, checked.split, batch_size, workers, world, say)
        judge = partial(_judged, classifier, checked.split, batch_size, count, tell, world)
        exact = judge(classifier.network, "evaluating in fp32") if precision != "fp32" else None
        found = judge(classifier.engine, "evaluating")
        fed = feeding(classifier, checked.split)
    return Judgement(
        name,
        found,
        checked.bad,
        classifier.engine_name,
        precision,
        exact,
        overlap,
        fed,
        _matching(source.labels, classifier.labels),
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
    say: Callable[[str], None] | None,
) -> int:
    return pick_workers(
        workers,
        split,
        batch_bytes(classifier.preprocessing, min(batch_size, len(split))),
        say if say is not None and world.main else _unsaid,
        cuda=world.device.type == "cuda",
        processes=min(world.size, local_size()),
    )


def _choose_engine(classifier: Classifier, world: World, engine: str, use: Callable[[str], None]) -> None:
    """One engine for all ranks: the main one chooses, and the figures do not depend on what each would measure."""

    def chosen_by_main() -> str:
        use(engine)
        return classifier.engine_name

    chosen = on_main(world, chosen_by_main)
    if not world.main and chosen != "network":
        use(chosen)


def _checked(classifier: Classifier, source: Source, split: str, tell: Progress) -> tuple[str, Checked, Overlap | None]:
    """The name of the part to judge on, its pictures that can be read and may judge, and their overlap with those of
    the training.
    """
    wanted = wanted_part(source, split, classifier.identity)
    found = source.split(wanted.part)
    aligned = Split(found.pictures, _aligned(found.targets, source.labels, classifier.labels, source.name))
    checked = check_split(aligned, usable_cores(), lambda done, total: tell("checking pictures", done, total))
    if not len(checked.split):
        raise DataError(f"{source.name}: no picture of {wanted.part} can be read; the first: {checked.bad[0]}")
    name = split or wanted.part
    if classifier.identity is None:
        return name, checked, None
    return name, *chosen(checked, wanted, classifier.identity)


def _judged(
    classifier: Classifier,
    split: Split,
    batch_size: int,
    workers: int,
    tell: Progress,
    world: World,
    network: nn.Module,
    what: str,
) -> Evaluation:
    cuda = classifier.device.type == "cuda"
    batches = evaluation_batches(
        split,
        classifier.preprocessing,
        batch_size=batch_size,
        workers=workers,
        pin=cuda,
        rank=world.rank,
        world=world.size,
    )

    def counted() -> Iterator[Batch]:
        done = 0
        for batch in batches:
            yield batch
            done = min(done + world.size * len(batch.targets), len(split))  # the others are about as far
            tell(what, done, len(split))

    found = evaluate_network(network, counted(), classifier.preprocessing, classifier.labels, classifier.device)
    if not math.isfinite(found.loss):  # one answer is enough: its loss is part of the mean
        raise SkipwayError(classifier.told_infinite())
    return found


def _aligned(targets: np.ndarray, labels: Sequence[str], known: Sequence[str], name: str) -> np.ndarray:
    """Targets renumbered from the data's labels to the model's. Labels without a picture need no match."""
    if tuple(labels) == tuple(known) or _by_order(labels, known):
        return targets
    used = sorted(set(targets.tolist()))
    strange = [labels[target] for target in used if labels[target] not in known]
    if strange:
        raise DataError(
            f"{name} has classes that the model does not know: {', '.join(strange[:5])}; "
            f"it knows {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
        )
    place = {target: known.index(labels[target]) for target in used}
    return np.array([place[int(target)] for target in targets], np.int64)


def _by_order(labels: Sequence[str], known: Sequence[str]) -> bool:
    """Whether the model's classes are mere numbers, as those of imported models that nobody has named, and the data's
    are not.
    """
    numbered = tuple(known) == tuple(map(str, range(len(known))))
    return numbered and len(labels) == len(known) and not set(labels) & set(known)


def _matching(labels: Sequence[str], known: Sequence[str]) -> str:
    """What to say of classes that were matched by order, "" of those that were matched by name."""
    if not _by_order(labels, known):
        return ""
    pairs = ", ".join(f"{number} = {escaped(label)}" for number, label in zip(known[:5], labels, strict=False))
    return f"classes are matched by order ({pairs}{', ...' if len(labels) > 5 else ''}): the model names none"


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def _unsaid(line: str) -> None:
    """Nobody listens."""
