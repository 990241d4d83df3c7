"""`evaluate`: how good a model file is on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skipway.data.checking import check_split
from skipway.data.dataset import Split
from skipway.data.loading import Batch, default_workers, evaluation_batches
from skipway.data.sources import open_source
from skipway.errors import DataError, PictureError
from skipway.evaluation.metrics import Evaluation, evaluate_network
from skipway.inference.classifier import Classifier, load
from skipway.machine import usable_cores

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judgement:
    """An evaluation, the name of the split it is about, and the pictures of it that could not be read."""

    split: str
    evaluation: Evaluation
    bad: tuple[PictureError, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        bad = [{"file": error.file, "error": error.reason} for error in self.bad]
        return {"split": self.split, **self.evaluation.to_dict(), "bad": bad}

    def told(self) -> str:
        """The figures as text, a line a class."""
        found = self.evaluation
        width = max(len(score.label) for score in found.per_class)
        lines = [
            f"{found.count:,} pictures ({self.split}): top-1 {found.top1:.2%}, top-5 {found.top5:.2%}, "
            f"loss {found.loss:.4f}, ECE {found.ece:.2%}; {found.images_per_second:,.0f} pictures/s",
            f"{'class':{width}}  precision  recall      F1  support",
        ]
        lines += [
            f"{one.label:{width}}  {one.precision:9.2%} {one.recall:7.2%} {one.f1:7.2%} {one.support:8,}"
            for one in found.per_class
        ]
        return "\n".join(lines)


def evaluate(
    model: Path | str | Classifier,
    data: Path | str,
    *,
    split: str = "",
    batch_size: int = 64,
    workers: int = -1,
    device: str = "auto",
    progress: Progress | None = None,
) -> Judgement:
    """Judge a model file, or a loaded one, on a split of a data set (test, else val, else all there is).

    Targets are matched to the model's labels by name. Unreadable pictures are left out and listed. Raises DataError
    when the labels do not fit, ModelFileError for a bad model file.
    """
    classifier = model if isinstance(model, Classifier) else load(model, device)
    source = open_source(data)
    name = split or source.evaluation_split()
    found = source.split(name)
    chosen = Split(found.pictures, _aligned(found.targets, source.labels, classifier.labels, source.name))
    tell = progress or _silent
    checked = check_split(chosen, usable_cores(), lambda done, total: tell("checking pictures", done, total))
    if not len(checked.split):
        raise DataError(f"{source.name}: no picture of {name} can be read; the first: {checked.bad[0]}")
    cuda = classifier.device.type == "cuda"
    batches = evaluation_batches(
        checked.split,
        classifier.preprocessing,
        batch_size=batch_size,
        workers=workers if workers >= 0 else default_workers(checked.split, usable_cores(), cuda=cuda),
        pin=cuda,
    )
    total = len(checked.split)

    def counted() -> Iterator[Batch]:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch.targets)
            tell("evaluating", done, total)

    evaluation = evaluate_network(
        classifier.network,
        counted(),
        classifier.preprocessing,
        classifier.labels,
        classifier.device,
    )
    return Judgement(name, evaluation, checked.bad)


def _aligned(targets: np.ndarray, labels: Sequence[str], known: Sequence[str], name: str) -> np.ndarray:
    """Targets renumbered from the data's labels to the model's. Labels without a picture need no match."""
    if tuple(labels) == tuple(known):
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


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""
