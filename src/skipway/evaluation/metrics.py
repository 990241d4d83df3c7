"""How good a classifier is: counts gathered batch by batch, summed over ranks, then one frozen result."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)
from torchmetrics.utilities.distributed import gather_all_tensors

from skipway.data.loading import Batch
from skipway.data.preprocessing import Preprocessing
from skipway.errors import DataError

CALIBRATION_BINS = 15
_BELOW_ONE = 1 - 2**-24  # the greatest fp32 number under 1


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; precision, recall and F1 are fractions, 0 where undefined; support is a count."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What `skipway evaluate` answers.

    `top1`, `top5`, `ece` (expected calibration error over 15 equal bins, Guo et al. 2017) are fractions, `loss` is the
    mean cross-entropy in nats. `confusion[i][j]` counts pictures of class i that were called j. `indices` hold, for
    each picture in order, its position in the split, `targets` its class, `answers` the class it was called and
    `confidences` the probability of that answer. These four stay out of the JSON.
    """

    top1: float
    top5: float
    loss: float
    ece: float
    count: int
    images_per_second: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]
    indices: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    answers: Tensor = field(repr=False)
    confidences: Tensor = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "ece": self.ece,
            "count": self.count,
            "images_per_second": self.images_per_second,
            "per_class": [vars(score) for score in self.per_class],
            "confusion": [list(row) for row in self.confusion],
            "labels": list(self.labels),
        }


def evaluate_network(
    network: nn.Module,
    batches: Iterable[Batch],
    preprocessing: Preprocessing,
    labels: Sequence[str],
    device: torch.device,
    *,
    precision: torch.dtype = torch.float32,
    distributed: bool = True,
) -> Evaluation:
    """Judge a network on batches of counts. Each of its modules is left in the mode, training or not, that it came in.

    `distributed` gathers from the ranks of a torchrun world, each of which then brings its own part of the pictures,
    and gets the figures of all. The pictures per second are those of all ranks in the time of the slowest.
    Raises DataError where there is nothing to judge: no picture at all, or one class only.
    """
    if len(labels) < 2:
        raise DataError("with fewer than two classes no answer can be wrong; add pictures of another class")
    meters = _meters(len(labels), distributed=distributed).to(device)
    seen: list[tuple[Tensor, ...]] = []
    modes = {module: module.training for module in network.modules()}  # a frozen part may already be in eval mode
    network.eval()
    began = time.perf_counter()
    try:
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
            seen.extend(_judge(network, batch, preprocessing, device, meters) for batch in batches)
    finally:
        for module, mode in modes.items():
            module.training = mode
    columns = _columns(seen, device)
    if distributed and torch.distributed.is_available() and torch.distributed.is_initialized():
        columns = _gathered(columns)
    seconds = time.perf_counter() - began
    if not len(columns[0]):  # one rank of several may well go without
        raise DataError("there are no pictures to judge the network on; choose another split with --split")
    return _result(_values(meters), [column.cpu() for column in columns], tuple(labels), seconds)


def _values(meters: MetricCollection) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # A rank that has no pictures of its own: it takes part in the sums of the others.
        warnings.filterwarnings("ignore", message="The ``compute`` method", category=UserWarning)
        return meters.compute()


def _columns(seen: Sequence[tuple[Tensor, ...]], device: torch.device) -> list[Tensor]:
    """Indices, targets, answers (int64) and confidences (float32) of the pictures of this process."""
    if not seen:
        kinds = (torch.int64, torch.int64, torch.int64, torch.float32)
        return [torch.empty(0, dtype=kind, device=device) for kind in kinds]
    return [torch.cat(column).to(device) for column in zip(*seen, strict=True)]


def _gathered(columns: Sequence[Tensor]) -> list[Tensor]:
    """The columns of all ranks, in the order of the split."""
    whole = [torch.cat(gather_all_tensors(column)) for column in columns]
    order = whole[0].argsort()
    return [column[order] for column in whole]


def _meters(classes: int, *, distributed: bool) -> MetricCollection:
    sync = {"sync_on_compute": distributed}
    return MetricCollection(
        {
            "loss": MeanMetric(nan_strategy="disable", **sync),  # or a picture answered with NaN would not count
            "top5": MulticlassAccuracy(classes, top_k=min(5, classes), average="micro", **sync),
            "ece": MulticlassCalibrationError(classes, n_bins=CALIBRATION_BINS, **sync),
            "confusion": MulticlassConfusionMatrix(classes, **sync),
        },
        compute_groups=False,
    )


def _judge(
    network: nn.Module, batch: Batch, preprocessing: Preprocessing, device: torch.device, meters: MetricCollection
) -> tuple[Tensor, ...]:
    inputs = preprocessing.standardized(batch.pixels.to(device, non_blocking=True))
    targets = batch.targets.to(device, non_blocking=True)
    logits = network(inputs).float()
    probabilities = logits.softmax(1)
    confidences, answers = probabilities.max(1)
    meters["loss"].update(F.cross_entropy(logits, targets, reduction="none"))
    meters["confusion"].update(answers, targets)
    # Logits, because where probabilities underflow to 0 they tie, and ties would decide who is among the five.
    meters["top5"].update(logits, targets)
    # Just under 1, because the metric keeps a bin of its own, the 16th, for a confidence of exactly 1.
    meters["ece"].update(probabilities.clamp(max=_BELOW_ONE), targets)
    return batch.indices, targets, answers, confidences


def _result(values: dict[str, Tensor], seen: list[Tensor], labels: tuple[str, ...], seconds: float) -> Evaluation:
    confusion = values["confusion"].cpu()
    count = int(confusion.sum())
    right = confusion.diagonal()
    called, support = confusion.sum(0), confusion.sum(1)
    scores = []
    for i, label in enumerate(labels):
        precision = float(right[i] / called[i]) if called[i] else 0.0
        recall = float(right[i] / support[i]) if support[i] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores.append(ClassScore(label, precision, recall, f1, int(support[i])))
    indices, targets, answers, confidences = seen
    return Evaluation(
        top1=int(right.sum()) / max(count, 1),
        top5=float(values["top5"]),
        loss=float(values["loss"]),
        ece=float(values["ece"]),
        count=count,
        images_per_second=count / max(seconds, 1e-9),
        per_class=tuple(scores),
        confusion=tuple(tuple(int(one) for one in row) for row in confusion),
        labels=labels,
        indices=indices,
        targets=targets,
        answers=answers,
        confidences=confidences,
    )
