"""Gradients by unit: measured rightly, judged by the rule, drawn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from skipway.claims.arm import Budget
from skipway.claims.experiments.vanishing_gradients import CLAIM, PAIRS, arms, gradient_norms
from skipway.claims.results import Results
from skipway.models.catalog import create_model
from tests.claims.made import made, rendered

PLAIN = {plain for plain, _ in PAIRS}


def results(plain: float, shortcut: float, **options: Any) -> Results:
    """`plain` and `shortcut`: decades from the last unit to the first."""
    last = {}
    for arm in arms("quick"):
        fall = plain if arm.name in PLAIN else shortcut
        # Seeds scale all norms, which leaves ratios; the exponent makes them differ.
        norms = [10.0 ** (fall * (1 - place / 4)) for place in range(5)]
        last[arm.name] = {f"{when}_{what}": norms for when in ("initial", "trained") for what in ("outputs", "weights")}
    found = made(CLAIM, last, **options)
    for (_, seed), trial in found.trials.items():
        for name in trial.looked:
            trial.looked[name][0] *= 1 + 0.01 * seed
    return found


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_what_is_compared_differs_in_its_shortcuts_alone(budget: Budget) -> None:
    found = {arm.name: arm for arm in arms(budget)}
    for plain, shortcut in PAIRS:
        one, other = found[plain], found[shortcut]
        assert one.recipe == other.recipe
        assert (one.data, one.pictures, one.test_pictures) == (other.data, other.pictures, other.test_pictures)
        assert one.spec.initialization == other.spec.initialization
        assert {type(one.spec), type(other.spec)} != {type(one.spec)}


@pytest.mark.parametrize("plain", [-8.0, 4.0])
def test_the_claim_holds_where_plain_gradients_vanish_or_explode(plain: float) -> None:
    assert CLAIM.judge(results(plain, 0.3)).verdict == "held"


def test_the_claim_fails_where_shortcuts_do_worse() -> None:
    assert CLAIM.judge(results(0.3, -8.0)).verdict == "failed"


def test_a_gradient_that_is_gone_altogether_decides_nothing() -> None:
    found = results(-8.0, 0.3)
    found.trials["plain_56.cifar", 1].looked["initial_outputs"][0] = 0.0
    outcome = CLAIM.judge(found)
    assert outcome.verdict == "undecided"
    assert "1 of 3 runs has no value" in outcome.reason
    assert CLAIM.judge(results(-8.0, 0.3, seeds=1)).verdict == "undecided"


def test_norms_are_those_of_the_chain_rule() -> None:
    network: Any = create_model("plain_mlp_3", width=7, input_size=4, num_classes=5)
    pictures, targets = torch.rand(6, 1, 4, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    names, outputs, weights = gradient_norms(network, pictures, targets)
    assert names == ["stem", "unit1", "unit2"]
    network.requires_grad_(requires_grad=False)
    endpoints = network.forward_endpoints(pictures)
    wrong = endpoints["predictions"] - torch.nn.functional.one_hot(targets, 5)
    at_last = wrong @ network.logits.weight
    assert outputs[-1] == pytest.approx(float(at_last.square().sum(1).mean().sqrt()), rel=1e-4)
    before = at_last * (endpoints["unit2"] > 0)
    at_first = before @ network.unit2.transform.weight
    assert outputs[1] == pytest.approx(float(at_first.square().sum(1).mean().sqrt()), rel=1e-4)
    of_weights = before.T @ endpoints["unit1"] / 6
    expected = math.hypot(float(of_weights.norm()), float(before.mean(0).norm()))
    assert weights[-1] == pytest.approx(expected, rel=1e-4)


def test_every_unit_of_a_normalized_network_is_measured() -> None:
    network = create_model("resnet_v2_20.cifar").eval()
    names, outputs, weights = gradient_norms(network, torch.rand(4, 3, 32, 32), torch.arange(4))
    assert names == ["stem", *(f"stage{stage}.unit{unit}" for stage in (1, 2, 3) for unit in (1, 2, 3))]
    assert len(outputs) == len(weights) == 10
    assert min(outputs + weights) > 0


def test_the_figure_has_a_line_a_network_on_both_sides() -> None:
    figure = rendered(CLAIM, results(-8.0, 0.3))
    networks = [len(axes.get_legend_handles_labels()[1]) for axes in figure.axes]
    assert networks == [4, 4, 3, 3]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert ["at initialization" in title for title in titles] == [True, False, True, False]
    assert ["MNIST" in title for title in titles] == [True, True, False, False]
