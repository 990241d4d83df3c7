"""Highway networks against plain ones: the arms, the gates' maps, the verdict, the figure."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from skipway.claims.arm import Budget
from skipway.claims.experiments.highway import CLAIM, DEPTHS, GATED, arms, gate_outputs
from skipway.claims.results import Results
from skipway.models.catalog import create_model, find_spec
from tests.claims.made import made, rendered


def results(plain_100: float, highway_100: float, **options: Any) -> Results:
    last: dict[str, dict[str, Any]] = {arm.name: {"train_loss": 0.01} for arm in arms("quick")}
    last["plain_100"]["train_loss"] = plain_100
    last["highway_100"]["train_loss"] = highway_100
    maps = torch.linspace(-1, 1, 49 * 50).reshape(49, 50).tolist()
    last[GATED] |= dict.fromkeys(("gate_bias", "gate_mean", "gate_one", "output_one"), maps)
    return made(CLAIM, last, **options)


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_networks_of_one_depth_are_as_large(budget: Budget) -> None:
    found = {arm.name: arm for arm in arms(budget)}
    assert len(found) == 2 * len(DEPTHS)
    for depth in DEPTHS:
        plain, highway = found[f"plain_{depth}"], found[f"highway_{depth}"]
        units = []
        for arm in (plain, highway):
            assert arm.spec.to_dict()["layers"] == depth
            with torch.device("meta"):
                units.append(sum(one.numel() for one in arm.spec.replaced({"layers": 2}).build().unit1.parameters()))
        assert units == [5_112, 5_100]


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_recipes_differ_in_the_rate_alone(budget: Budget) -> None:
    found = arms(budget)
    assert len({arm.recipe.replaced(learning_rate=1.0) for arm in found}) == 1
    assert len({(arm.data, arm.pictures, arm.test_pictures) for arm in found}) == 1
    assert {arm.recipe.learning_rate for arm in found} <= {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0}


def test_the_claim_holds_where_only_plain_networks_get_worse() -> None:
    outcome = CLAIM.judge(results(2.3, 0.02))
    assert outcome.verdict == "held"
    effect = outcome.measures[-1]
    assert effect.interval is not None
    # log10 of 2.3 / 0.01 minus log10 of 0.02 / 0.01
    assert effect.interval.mean == pytest.approx(2.0607, abs=1e-3)


def test_the_claim_fails_where_highway_networks_get_worse_than_plain_ones() -> None:
    assert CLAIM.judge(results(0.02, 2.3)).verdict == "failed"


def test_one_seed_or_equal_growth_decides_nothing() -> None:
    assert CLAIM.judge(results(2.3, 0.02, seeds=1)).verdict == "undecided"
    equal = results(0.02, 0.02)
    trial = equal.trials["plain_100", 0]
    trial.curve["train_loss"][-1] *= 1.5  # type: ignore[index]
    assert CLAIM.judge(equal).verdict == "undecided"


def test_gates_and_outputs_are_those_of_the_formula() -> None:
    network: Any = create_model("highway_mlp_4", width=6, input_size=5).eval()
    pictures = torch.rand(3, 1, 5, 5)
    gates, outputs = gate_outputs(network, pictures)
    assert gates.shape == outputs.shape == (3, 3, 6)
    x = torch.relu(network.stem(pictures.flatten(1)))
    for unit, gate, output in zip((network.unit1, network.unit2, network.unit3), gates, outputs, strict=True):
        t = torch.sigmoid(unit.gate(x))
        torch.testing.assert_close(gate, t)
        x = torch.relu(unit.transform(x)) * t + x * (1 - t)
        torch.testing.assert_close(output, x)
    assert not network.unit1.gate._forward_hooks


def test_the_figure_has_a_panel_a_depth_and_four_maps() -> None:
    figure = rendered(CLAIM, results(2.3, 0.02))
    above, below = figure.subfigs
    panels = above.axes
    assert [one.get_title("left") for one in panels] == [f"{depth} layers" for depth in DEPTHS]
    assert all(one.get_yscale() == "log" and len(one.lines) == 2 for one in panels)
    assert panels[0].get_ylabel() == "training loss, nats"
    images = [one.images[0] for one in below.axes if one.images]
    assert [image.get_array().shape for image in images] == [(49, 50)] * 4
    assert find_spec("highway_mlp_50").to_dict()["gate_bias"] == pytest.approx(sum(images[0].get_clim()) / 2)
