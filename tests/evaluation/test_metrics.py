"""The scores, each against numbers worked out by hand: a pixel k means the odds 2 ** k."""

from __future__ import annotations

import json
import math

import pytest
import torch
from readout import CPU, Readout, batches, doubling, judged
from torch import nn

from skipway.errors import DataError
from skipway.evaluation.metrics import ClassScore, evaluate_network

# Probabilities 4/7 2/7 1/7, then 1/10 8/10 1/10 twice, then 2/4 1/4 1/4.
ROWS = [[2, 1, 0], [0, 3, 0], [0, 3, 0], [1, 0, 0]]
TARGETS = [0, 0, 1, 2]


def random_rows(count: int, classes: int, highest: int = 9) -> tuple[list[list[int]], list[int]]:
    return torch.randint(0, highest, (count, classes)).tolist(), torch.randint(0, classes, (count,)).tolist()


def test_accuracy_and_loss() -> None:
    evaluation = judged(ROWS, TARGETS)
    assert (evaluation.count, evaluation.top1, evaluation.top5) == (4, 0.5, 1.0)
    assert evaluation.loss == pytest.approx((math.log(7 / 4) + math.log(10) + math.log(10 / 8) + math.log(4)) / 4)
    assert evaluation.images_per_second > 0


def test_each_picture_is_told() -> None:
    evaluation = judged(ROWS, TARGETS, batch_size=3)
    assert evaluation.indices.tolist() == [0, 1, 2, 3]
    assert evaluation.targets.tolist() == TARGETS
    assert evaluation.answers.tolist() == [0, 1, 1, 0]
    assert evaluation.confidences.tolist() == pytest.approx([4 / 7, 0.8, 0.8, 0.5])


def test_confusion_has_a_row_for_each_true_class() -> None:
    assert judged(ROWS, TARGETS).confusion == ((1, 1, 0), (0, 1, 0), (1, 0, 0))


def test_scores_of_classes() -> None:
    first, second, third = judged(ROWS, TARGETS, ["a", "b", "c"]).per_class
    assert first == ClassScore("a", precision=0.5, recall=0.5, f1=0.5, support=2)
    assert (second.precision, second.recall, second.support) == (0.5, 1.0, 1)
    assert second.f1 == pytest.approx(2 / 3)
    assert third == ClassScore("c", precision=0.0, recall=0.0, f1=0.0, support=1)  # never answered


def test_a_class_that_does_not_occur() -> None:
    rows = [[*row, 0] for row in ROWS]
    *_, absent = judged(rows, TARGETS).per_class
    assert absent == ClassScore("3", precision=0.0, recall=0.0, f1=0.0, support=0)


def test_top5_counts_the_five_greatest() -> None:
    evaluation = judged([[6, 5, 4, 3, 2, 1, 0]] * 7, list(range(7)))
    assert evaluation.top5 == pytest.approx(5 / 7)
    assert evaluation.top1 == pytest.approx(1 / 7)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_top5_of_few_classes_is_always_right(classes: int) -> None:
    assert judged(*random_rows(20, classes)).top5 == 1.0


def test_top5_where_probabilities_vanish() -> None:
    # 2 ** -240 is 0 in fp32; the order of the logits still tells who is among the five.
    row = [0, 1, 2, 3, 4, 5, 255]
    assert judged([row] * 5, [6, 5, 4, 3, 2]).top5 == 1.0
    assert judged([row] * 2, [0, 1]).top5 == 0.0


def test_calibration_error_by_hand() -> None:
    # Each probability is alone in its bin, but for 8/10, which is right once out of twice.
    expected = (1 - 4 / 7) / 4 + 2 * (0.8 - 0.5) / 4 + 0.5 / 4
    assert judged(ROWS, TARGETS).ece == pytest.approx(expected, abs=1e-6)


def test_calibration_error_by_formula() -> None:
    rows, targets = random_rows(300, 4)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, target in zip(rows, targets, strict=True):
        odds = [2**k for k in row]
        confidence = max(odds) / sum(odds)
        bins.setdefault(min(int(confidence * 15 + 1e-6), 14), []).append((confidence, odds.index(max(odds)) == target))
    error = sum(abs(sum(p for p, _ in one) - sum(hit for _, hit in one)) for one in bins.values()) / 300
    assert judged(rows, targets).ece == pytest.approx(error, abs=1e-5)


def test_certainty_shares_the_last_bin() -> None:
    # A wrong answer of probability 1 and a right one of 16/17: apart, their errors could not make up for each other.
    assert judged([[255, 0], [4, 0]], [1, 0]).ece == pytest.approx((1 + 16 / 17) / 2 - 0.5, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    rows, targets = random_rows(50, 8)
    whole, parts = judged(rows, targets, batch_size=64), judged(rows, targets, batch_size=batch_size)
    assert parts.confusion == whole.confusion
    assert parts.per_class == whole.per_class
    assert torch.equal(parts.indices, whole.indices)
    assert torch.equal(parts.confidences, whole.confidences)
    for name in ("top1", "top5", "loss", "ece"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-5), name


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(training: bool) -> None:
    network = Readout(3).train(training)
    evaluate_network(network, batches(ROWS, TARGETS), doubling(3), "abc", CPU)
    assert all(module.training == training for module in network.modules())


def test_mode_of_a_frozen_part_is_restored() -> None:
    network = Readout(3).train()
    network.norm.eval()
    evaluate_network(network, batches(ROWS, TARGETS), doubling(3), "abc", CPU)
    assert (network.training, network.drop.training, network.norm.training) == (True, True, False)


def test_mode_is_restored_after_a_failure() -> None:
    network = Readout(3).train()
    with pytest.raises(IndexError):
        evaluate_network(network, batches(ROWS, [0, 1, 2, 99]), doubling(3), "abc", CPU)
    assert network.drop.training


def test_judging_teaches_nothing() -> None:
    network = Readout(3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate_network(network, batches(ROWS, TARGETS), doubling(3), "abc", CPU)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Undefined(nn.Module):
    """NaN for the first picture of a batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = x.flatten(1)[:, :3].clone()
        logits[0] = math.nan
        return logits


def test_an_undefined_answer_spoils_the_loss() -> None:
    assert math.isnan(evaluate_network(Undefined(), batches(ROWS, TARGETS), doubling(3), "abc", CPU).loss)


def test_nothing_to_judge() -> None:
    with pytest.raises(DataError, match="no pictures"):
        evaluate_network(Readout(3), iter(()), doubling(3), "abc", CPU)
    with pytest.raises(DataError, match="two classes"):
        evaluate_network(Readout(1), batches([[1]], [0]), doubling(1), ["only"], CPU)


def test_json_holds_no_tensor() -> None:
    told = judged(ROWS, TARGETS, ["a", "b", "c"]).to_dict()
    assert json.loads(json.dumps(told)) == told
    fields = {"top1", "top5", "loss", "ece", "count", "images_per_second", "per_class", "confusion", "labels"}
    assert set(told) == fields
