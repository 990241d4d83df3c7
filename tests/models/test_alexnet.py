"""What follows AlexNet's layers: ReLU, or what the paper compares it with."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from skipway.errors import SpecError
from skipway.models import AlexNetSpec, Conv, create_model, find_spec, list_models
from skipway.models.catalog import spec_from_dict
from tests.contracts.tiny import relative
from tests.parity.compare import fill

FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
SMALL = AlexNetSpec(
    name="small", input_size=12, num_classes=3, convs=(Conv(4, 3, after=("pool",)), Conv(6, 3, padding=1)), hidden=(7,)
)


@pytest.mark.parametrize("hidden", FUNCTIONS)
@pytest.mark.parametrize("convs", FUNCTIONS)
def test_both_parts_have_an_activation_of_their_own(convs: str, hidden: str) -> None:
    network = SMALL.replaced({"conv_activation": convs, "activation": hidden}).build().eval()
    fill(network)
    state = network.state_dict()
    x = torch.randn(2, 3, 12, 12)

    def conv(x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
        return FUNCTIONS[convs](F.conv2d(x, weight, bias, padding=padding))

    with torch.no_grad():
        maps = conv(F.max_pool2d(conv(x, "conv1", 0), 3, 2), "conv2", 1).flatten(1)
        features = FUNCTIONS[hidden](F.linear(maps, state["fc3.fc.weight"], state["fc3.fc.bias"]))
        expected = F.linear(features, state["logits.weight"], state["logits.bias"])
        assert relative(network(x), expected) <= 1e-6


@pytest.mark.parametrize("name", list_models("alexnet.*"))
def test_every_row_has_relu_behind_its_convolutions(name: str) -> None:
    spec = find_spec(name)
    assert isinstance(spec, AlexNetSpec)
    assert spec.conv_activation == "relu"
    assert spec.activation == ("tanh" if name == "alexnet.tflearn" else "relu")


def test_an_activation_draws_nothing_and_keeps_the_keys() -> None:
    states = []
    for convs, hidden in (("relu", "relu"), ("tanh", "sigmoid")):
        torch.manual_seed(3)
        states.append(create_model("alexnet.mnist", hidden=(8,), conv_activation=convs, activation=hidden).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_spec_survives_json_and_may_be_older_than_the_field() -> None:
    spec = SMALL.replaced({"conv_activation": "sigmoid", "activation": "sigmoid"})
    plain = json.loads(json.dumps(spec.to_dict()))
    assert spec_from_dict(plain) == spec
    del plain["conv_activation"]
    assert spec_from_dict(plain) == spec.replaced({"conv_activation": "relu"})


@pytest.mark.parametrize("field", ["conv_activation", "activation"])
def test_another_activation_is_refused(field: str) -> None:
    with pytest.raises(SpecError, match=f"small: {field} is 'gelu'; it must be one of relu, tanh, sigmoid"):
        SMALL.replaced({field: "gelu"})
