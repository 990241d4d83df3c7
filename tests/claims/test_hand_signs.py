"""The hand signs: the setting is the post's, the accuracies are what they say, the verdict follows the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skipway.claims.arm import Arm
from skipway.claims.experiments.hand_signs import ARM, CLAIM, POST, POST_CURVE, arms, batch_accuracy
from skipway.claims.finished import Finished
from skipway.claims.results import Results
from skipway.data.sources import open_source
from skipway.models.catalog import create_model, find_spec
from skipway.training.choice import preprocessing_for
from skipway.training.recipes import SIGNS
from skipway.weights.bundle import Bundle, save_bundle
from tests.claims.made import made, rendered


def results(recomputed: float, **options: Any) -> Results:
    last = {"train_error": 0.05, "test_error": 0.7, "recomputed": recomputed, "batch": 0.9}
    return made(CLAIM, {ARM: last}, **options)


def test_the_setting_is_the_posts() -> None:
    for budget in ("quick", "full"):
        (arm,) = arms(budget)  # type: ignore[arg-type]
        assert arm.recipe == SIGNS
        assert arm.recipe.epochs == len(POST_CURVE) == 10
        assert arm.spec == find_spec("resnet_v1_50.signs")
        assert (arm.pictures, arm.test_pictures) == (0, 0)


@pytest.mark.parametrize(
    ("accuracy", "spread", "word"),
    [(0.95, 0.01, "held"), (0.85, 0.01, "failed"), (0.90, 0.05, "undecided")],
)
def test_verdicts(accuracy: float, spread: float, word: str) -> None:
    outcome = CLAIM.judge(results(accuracy, spread=spread))
    assert outcome.verdict == word
    effect = outcome.measures[-1].interval
    assert effect is not None
    assert effect.mean == pytest.approx(100 * (accuracy - POST))


def test_one_seed_decides_nothing() -> None:
    assert CLAIM.judge(results(0.99, seeds=1)).verdict == "undecided"


def test_batch_statistics_are_those_of_mixed_batches_of_32(data: Path, tmp_path: Path) -> None:
    network: Any = create_model("resnet_v1_20.cifar")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
    preprocessing = preprocessing_for(network.spec)
    labels = tuple("0123456789")
    state = {name: value.clone() for name, value in network.state_dict().items()}
    bundle = Bundle(network.spec, preprocessing, labels, state, provenance={}, metrics={})
    save_bundle(tmp_path / "model.safetensors", bundle)
    place = str(data / "cifar10")
    arm = Arm(ARM, ARM, network.spec, SIGNS)
    found = batch_accuracy(Finished(arm, 0, tmp_path, place, torch.device("cpu")))

    split = open_source(place).split("test")
    order = np.random.default_rng(0).permutation(len(split))
    network.train()
    network.stem.eval()  # the code leaves that one at its running statistics
    right = 0
    with torch.no_grad():
        for at in range(0, len(order), 32):
            chosen = order[at : at + 32]
            pixels = torch.stack([preprocessing.pixels(split.pictures[int(i)]) for i in chosen])
            answers = network(preprocessing.standardized(pixels)).argmax(1).numpy()
            right += int((answers == split.targets[chosen]).sum())
    assert found == right / len(split)


def test_the_figure_has_the_posts_numbers() -> None:
    figure = rendered(CLAIM, results(0.95))
    left, right = figure.axes
    assert "training, the post" in left.get_legend_handles_labels()[1]
    heights = sorted(float(line.get_ydata()[0]) for line in right.lines if len(line.get_xdata()) == 2)
    assert heights == pytest.approx([89.17, 95.0], abs=0.01)
    assert [one.get_text().split()[0] for one in right.get_xticklabels()] == ["running,", "of", "running"]
