"""The plain fully connected nets, beside the highway networks that they are compared with."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from skipway.errors import SkipwayError
from skipway.models import PlainMLPSpec, create_model, find_spec, list_models
from skipway.models.catalog import find_entry
from skipway.models.mlp import DenseUnit
from tests.contracts.tiny import relative


def test_four_depths_are_listed() -> None:
    assert list_models("plain_mlp_*") == [f"plain_mlp_{layers}" for layers in (10, 20, 50, 100)]


@pytest.mark.parametrize("layers", [1, 2, 10, 71, 9999])
def test_there_is_one_of_any_depth(layers: int) -> None:
    entry = find_entry(f"plain_mlp_{layers}")
    spec = entry.spec
    assert isinstance(spec, PlainMLPSpec)
    assert (spec.name, spec.layers, spec.width) == (f"plain_mlp_{layers}", layers, 71)
    if layers > 100:
        return
    network = spec.build()
    assert sum(isinstance(one, DenseUnit) for one in network.modules()) == layers - 1
    trainable = sum(one.numel() for one in network.parameters())
    assert trainable == entry.parameters == 55_735 + (layers - 1) * 5_112 + 720
    x = torch.rand(2, 1, 28, 28)
    units = [f"unit{number}" for number in range(1, layers)]
    assert list(network.forward_endpoints(x)) == ["stem", *units, "pre_logits", "logits", "predictions"]
    assert network(x).shape == (2, 10)


def test_its_layers_are_about_as_large_as_highway_units() -> None:
    """Section 3.1: some 5,000 parameters a layer in both."""
    sizes = {
        name: sum(one.numel() for one in create_model(f"{name}_10").get_submodule("unit1").parameters())
        for name in ("plain_mlp", "highway_mlp")
    }
    assert sizes == {"plain_mlp": 5_112, "highway_mlp": 5_100}


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("tanh", torch.tanh)])
def test_its_layers_by_hand(activation: str, function: type[torch.relu]) -> None:
    network = create_model("plain_mlp_4", activation=activation, width=9, input_size=6)
    x = torch.randn(3, 1, 6, 6)
    state = network.state_dict()
    with torch.no_grad():
        value = x.flatten(1)
        for name in ("stem", "unit1.transform", "unit2.transform", "unit3.transform"):
            value = function(F.linear(value, state[f"{name}.weight"], state[f"{name}.bias"]))
        expected = F.linear(value, state["logits.weight"], state["logits.bias"])
        assert relative(network(x), expected) <= 1e-6


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("plain_mlp_10", {"layers": 0}, "layers is 0 and width 71; give 1 or more of each"),
        ("plain_mlp_10", {"width": 0}, "layers is 10 and width 0; give 1 or more of each"),
        ("plain_mlp_10", {"activation": "sigmoid"}, "activation is 'sigmoid'; it must be one of relu, tanh"),
        ("plain_mlp_10", {"gate_bias": -1.0}, "unknown field of plain_mlp_10 'gate_bias'"),
        ("plain_mlp", {}, "plain_mlp_N has N layers, from 1 to 9999"),
        ("plain_mlp_0", {}, "plain_mlp_N has N layers, from 1 to 9999"),
        ("plain_mlp_10000", {}, "plain_mlp_N has N layers, from 1 to 9999"),
        ("other_mlp_10", {}, "unknown model 'other_mlp_10'; the nearest"),
    ],
)
def test_what_cannot_be_is_refused(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(SkipwayError, match=message):
        create_model(name, **fields)
    assert find_spec("plain_mlp_10").replaced({"width": 1, "layers": 1}).build().logits is not None
