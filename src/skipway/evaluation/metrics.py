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
    answered: list[tuple[Tensor, ...]] = []
    modes = {module: module.training for module in network.modules()}  # a frozen part may already be in eval mode
    network.eval()
    began = time.perf_counter()
    is_mixed = precision != torch.float32
    try:
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=is_mixed):
            for batch in batches:
                columns_of_batch = _judge(network, batch, preprocessing, device, meters)
                answered.append(columns_of_batch)
    finally:
        for module, mode in modes.items():
            module.training = mode
    columns = _columns(answered, device)
    if distributed and torch.distributed.is_available() and torch.distributed.is_initialized():
        columns = _gathered(columns)
    seconds = time.perf_counter() - began
    indices = columns[0]
    if not len(indices):  # a single rank of several may well go without
        raise DataError("there are no pictures to judge the network on; choose another split with --split")
    values = _values(meters)
    on_cpu = [column.cpu() for column in columns]
    return _result(values, on_cpu, tuple(labels), seconds)


def _values(meters: MetricCollection) -> dict[str, Tensor]:
    """The values of the metrics, over all ranks."""
    with warnings.catch_warnings():
        # A rank that has no pictures of its own takes part in the sums of the others all the same.
        warnings.filterwarnings("ignore", message="The ``compute`` method", category=UserWarning)
        return meters.compute()


def _columns(answered: Sequence[tuple[Tensor, ...]], device: torch.device) -> list[Tensor]:
    """Indices, targets, answers (int64) and confidences (float32) of the pictures of this process."""
    columns = []
    if not answered:
        for dtype in (torch.int64, torch.int64, torch.int64, torch.float32):
            columns.append(torch.empty(0, dtype=dtype, device=device))
        return columns
    for parts in zip(*answered, strict=True):
        column = torch.cat(parts)
        columns.append(column.to(device))
    return columns


def _gathered(columns: Sequence[Tensor]) -> list[Tensor]:
    """The columns of all ranks, in the order of the split."""
    of_all_ranks = []
    for column in columns:
        parts = gather_all_tensors(column)
        of_all_ranks.append(torch.cat(parts))
    indices = of_all_ranks[0]
    order = indices.argsort()
    return [column[order] for column in of_all_ranks]


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
    """Count a batch in the metrics. Returns its indices, targets, answers and confidences."""
    pixels = batch.pixels.to(device, non_blocking=True)
    inputs = preprocessing.standardized(pixels)
    targets = batch.targets.to(device, non_blocking=True)
    logits = network(inputs).float()
    probabilities = logits.softmax(1)
    confidences, answers = probabilities.max(1)
    losses = F.cross_entropy(logits, targets, reduction="none")
    meters["loss"].update(losses)
    meters["confusion"].update(answers, targets)
    # Logits, because where probabilities underflow to 0 they tie, and ties would decide who is among the five.
    meters["top5"].update(logits, targets)
    # Just under 1, because the metric keeps a bin of its own, the 16th, for a confidence of exactly 1.
    meters["ece"].update(probabilities.clamp(max=_BELOW_ONE), targets)
    return batch.indices, targets, answers, confidences


def _result(values: dict[str, Tensor], columns: list[Tensor], labels: tuple[str, ...], seconds: float) -> Evaluation:
    """The evaluation from the values of the metrics and the columns of all pictures."""
    confusion = values["confusion"].cpu()
    count = int(confusion.sum())
    right = int(confusion.diagonal().sum())
    rows = tuple(tuple(row) for row in confusion.tolist())
    indices, targets, answers, confidences = columns
    return Evaluation(
        top1=right / max(count, 1),
        top5=float(values["top5"]),
        loss=float(values["loss"]),
        ece=float(values["ece"]),
        count=count,
        images_per_second=count / max(seconds, 1e-9),
        per_class=_class_scores(confusion, labels),
        confusion=rows,
        labels=labels,
        indices=indices,
        targets=targets,
        answers=answers,
        confidences=confidences,
    )


def _class_scores(confusion: Tensor, labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """The scores of each class from the confusion matrix (true class, answer)."""
    right = confusion.diagonal()
    called = confusion.sum(0)
    support = confusion.sum(1)
    scores = []
    for i, label in enumerate(labels):
        precision = 0.0
        recall = 0.0
        f1 = 0.0
        if called[i]:
            precision = float(right[i] / called[i])
        if support[i]:
            recall = float(right[i] / support[i])
        if precision + recall:
            f1 = 2 * precision * recall / (precision + recall)
        score = ClassScore(label, precision, recall, f1, int(support[i]))
        scores.append(score)
    return tuple(scores)
