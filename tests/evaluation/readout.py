"""A network whose answer is written in its picture: the first pixels are the logits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from skipway.data.loading import Batch
from skipway.data.preprocessing import Preprocessing
from skipway.evaluation.metrics import Evaluation, evaluate_network

CPU = torch.device("cpu")


class Readout(nn.Module):
    """The first `classes` pixels as logits, past a dropout and a batch normalization that must both be off."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(1, eps=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(x)).flatten(1)[:, : self.classes]


def doubling(classes: int) -> Preprocessing:
    """Pixel k becomes the logit k ln 2, so that probabilities are in the ratio of 2 ** k."""
    return Preprocessing(math.isqrt(classes - 1) + 1, channels="L", scale=math.log(2), mean=(0.0,), std=(1.0,))


def pictures(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Square uint8 pictures (N, H, W) that start with these pixels."""
    side = math.isqrt(len(rows[0]) - 1) + 1
    padded = np.zeros((len(rows), side * side), np.uint8)
    padded[:, : len(rows[0])] = rows
    return padded.reshape(-1, side, side)


def batches(rows: Sequence[Sequence[int]], targets: Sequence[int], batch_size: int = 100) -> Iterator[Batch]:
    pixels = torch.from_numpy(pictures(rows))[:, None]
    for at in range(0, len(rows), batch_size):
        part = slice(at, at + batch_size)
        yield Batch(pixels[part], torch.tensor(targets[part]), torch.arange(len(rows))[part], 0, 0)


def judged(
    rows: Sequence[Sequence[int]],
    targets: Sequence[int],
    labels: Sequence[str] = (),
    batch_size: int = 100,
) -> Evaluation:
    """Evaluation of pictures with these pixels; labels are numbers unless given."""
    classes = len(rows[0])
    names = labels or [str(i) for i in range(classes)]
    return evaluate_network(
        Readout(classes), batches(rows, targets, batch_size), doubling(classes), names, CPU
    )  # fmt: skip


def confident(targets: Sequence[int], answers: Sequence[int], labels: Sequence[str]) -> Evaluation:
    """Evaluation of pictures that got these answers, later ones with a higher probability."""
    rows = np.zeros((len(targets), len(labels)), np.int64)
    rows[np.arange(len(targets)), answers] = np.linspace(4, 14, len(targets)).round()
    return judged(rows.tolist(), targets, labels)
