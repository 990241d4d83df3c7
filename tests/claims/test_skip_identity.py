"""Residual blocks at weights of 0: measured on networks, judged by the rule, drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from skipway.claims.arm import Budget
from skipway.claims.experiments.skip_identity import (
    CLAIM,
    SCALES,
    arms,
    distance,
    keeps_shape,
    last_linear,
    scaled,
    share,
)
from skipway.claims.results import Results
from skipway.models.catalog import create_model
from tests.claims.made import made, rendered


def results(plain_rise: float, residual_rise: float, at_zero: float = 0.0, **options: Any) -> Results:
    last = {}
    for arm in arms("quick"):
        plain = arm.name == "plain"
        distances = [[1.0 if plain else scale for scale in SCALES[:-1]] + [1.0 if plain else at_zero]] * 7
        rise = plain_rise if plain else residual_rise
        last[arm.name] = {
            "blocks": ["stage1.unit1", *(f"stage{stage}.unit{unit}" for stage in (1, 2, 3) for unit in (2, 3))],
            "distance": distances,
            "share": [0.5] * 7,
            "error": 0.5,
            "error_without": [0.5 + rise] * 7,
        }
    return made(CLAIM, last, **options)


@pytest.fixture(params=["resnet_v1_20.cifar", "resnet_v2_20.cifar", "plain_20.cifar"])
def network(request: pytest.FixtureRequest) -> Any:
    """A network whose normalizations do something."""
    made = create_model(request.param).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(values, mean=0.3)
    return made


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_recipes_differ_in_the_decay_alone(budget: Budget) -> None:
    found = arms(budget)
    assert len({arm.recipe.replaced(weight_decay=0.0) for arm in found}) == 1
    assert {arm.name for arm in found if arm.recipe.weight_decay} == {"v1_decay", "v2_decay"}
    assert all(arm.recipe.decay_norm_and_bias for arm in found)


def test_blocks_that_keep_their_shape_are_found(network: Any) -> None:
    found = [name for name, unit in network.named_modules() if keeps_shape(unit)]
    all_of_them = [f"stage{stage}.unit{unit}" for stage in (1, 2, 3) for unit in (1, 2, 3)]
    change = {"stage2.unit1", "stage3.unit1"}
    if network.spec.architecture == "resnet_v2":
        change.add("stage1.unit1")  # its shortcut has the pre-activation
    assert found == [name for name in all_of_them if name not in change]


def test_a_block_at_zero_is_the_identity_where_it_has_a_shortcut(network: Any) -> None:
    unit = network.stage1.unit2
    x = torch.relu(torch.randn(2, 16, 8, 8))
    with torch.inference_mode():
        found = {scale: distance(unit, x, scale) for scale in SCALES}
        if network.spec.architecture == "plain":
            assert torch.equal(at_zero(unit, x), torch.zeros_like(x))
            assert found[0.0] == pytest.approx(1.0)
            assert found[0.01] > 0.9
        else:
            assert found[0.0] == 0.0
            assert found[0.01] == pytest.approx(found[0.1] / 10, rel=0.2)
            assert found[1.0] > 0.1


def at_zero(unit: Any, x: torch.Tensor) -> torch.Tensor:
    with scaled(unit, 0.0):
        y: torch.Tensor = unit(x)
    return y


def test_weights_are_put_back(network: Any) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode(), scaled(network.stage1.unit1, 0.0):
        assert all(not value.any() for value in last_linear(network.stage1.unit1).parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_share_is_that_of_the_branch() -> None:
    unit: Any = create_model("resnet_v2_20.cifar").eval().stage1.unit2
    x = torch.randn(2, 16, 8, 8)
    with torch.inference_mode():
        assert share(unit, x) == pytest.approx(distance(unit, x, 1.0), rel=1e-5)  # nothing follows the sum in v2


def test_verdicts() -> None:
    assert CLAIM.judge(results(0.4, 0.02)).verdict == "held"
    assert CLAIM.judge(results(0.02, 0.4)).verdict == "failed"
    assert CLAIM.judge(results(0.4, 0.02, seeds=1)).verdict == "undecided"
    unclear = results(0.1, 0.1)
    unclear.trials["v1", 0].looked["error_without"] = [0.7] * 7  # type: ignore[index]
    assert CLAIM.judge(unclear).verdict == "undecided"


def test_a_block_that_is_not_quite_the_identity_fails() -> None:
    outcome = CLAIM.judge(results(0.4, 0.02, at_zero=1e-7))
    assert outcome.verdict == "failed"
    assert "1e-07 away" in outcome.reason


def test_the_figure_reaches_zero_on_its_logarithmic_axis() -> None:
    figure = rendered(CLAIM, results(0.4, 0.02))
    left, middle, right = figure.axes
    assert left.get_xscale() == left.get_yscale() == "symlog"
    thick = [line for line in left.lines if line.get_marker() == "o"]
    assert len(thick) == 3
    assert [np.asarray(line.get_ydata())[-1] for line in thick] == [pytest.approx(1.0), 0.0, 0.0]
    assert middle.get_ylabel() == "test error, %"
    assert len(right.get_legend_handles_labels()[1]) == 4
