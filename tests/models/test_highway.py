"""Highway units: what the gates do at their ends, and what they start from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skipway.models import Gates, HighwayMLPSpec, conv_unit, create_model, dense_unit, find_spec, list_models
from skipway.models.highway import HighwayUnit
from tests.contracts.tiny import relative

CLOSED, OPEN = -40.0, 40.0  # biases at which a sigmoid is 0 or 1 in fp32


def units(gates: Gates) -> list[tuple[HighwayUnit, Tensor]]:
    return [(dense_unit(6, gates), torch.randn(3, 6)), (conv_unit(6, 3, gates), torch.randn(3, 6, 5, 4))]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_closed_gate_carries_and_an_open_one_transforms(activation: str) -> None:
    act = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    for unit, x in units(Gates(activation=activation)):  # type: ignore[arg-type]
        with torch.no_grad():
            unit.gate.bias.fill_(CLOSED)  # type: ignore[union-attr]
            assert relative(unit(x), x) <= 1e-6
            unit.gate.bias.fill_(OPEN)  # type: ignore[union-attr]
            assert relative(unit(x), act(unit.transform(x))) <= 1e-6


def test_a_coupled_gate_mixes_what_it_does_not_transform() -> None:
    for unit, x in units(Gates()):
        with torch.no_grad():
            t = torch.sigmoid(unit.gate(x))
            expected = torch.relu(unit.transform(x)) * t + x * (1 - t)
            assert relative(unit(x), expected) <= 1e-6
        assert unit.carry is None


def test_a_free_carry_gate_is_its_own() -> None:
    for unit, x in units(Gates(carry="free")):
        assert unit.carry is not None
        with torch.no_grad():
            h, t, c = torch.relu(unit.transform(x)), torch.sigmoid(unit.gate(x)), torch.sigmoid(unit.carry(x))
            assert relative(unit(x), h * t + x * c) <= 1e-6
            assert relative(unit(x), h * t + x * (1 - t)) > 1e-2
            unit.gate.bias.fill_(OPEN)  # type: ignore[union-attr]
            unit.carry.bias.fill_(OPEN)  # type: ignore[union-attr]
            assert relative(unit(x), h + x) <= 1e-6  # a residual unit
            unit.carry.bias.fill_(CLOSED)  # type: ignore[union-attr]
            assert relative(unit(x), h) <= 1e-6  # a plain layer


@pytest.mark.parametrize("name", ["highway_mlp_10", "highway_19.cifar", "highway_32.cifar"])
def test_gates_start_at_the_specs_bias(name: str) -> None:
    for bias in (find_spec(name).gate_bias, -1.5):  # type: ignore[attr-defined]
        network = create_model(name, gate_bias=bias, carry="free")
        gated = [unit for unit in network.modules() if isinstance(unit, HighwayUnit)]
        assert gated
        for unit in gated:
            assert torch.equal(unit.gate.bias, torch.full_like(unit.gate.bias, bias))  # type: ignore[arg-type]
            assert unit.carry is not None
            assert torch.equal(unit.carry.bias, torch.full_like(unit.carry.bias, -bias))  # type: ignore[arg-type]
            assert unit.transform.bias is not None
            assert not unit.transform.bias.any()


def test_the_deeper_the_more_is_carried_at_first() -> None:
    biases = {layers: find_spec(f"highway_mlp_{layers}").gate_bias for layers in (1, 10, 11, 20, 21, 50, 100, 900)}  # type: ignore[attr-defined]
    assert biases == {1: -1, 10: -1, 11: -2, 20: -2, 21: -3, 50: -3, 100: -3, 900: -3}
    assert find_spec("highway_19.cifar").gate_bias == -2  # type: ignore[attr-defined]


@pytest.mark.parametrize("layers", [1, 2, 7, 71, 9999])
def test_a_fully_connected_network_has_any_number_of_layers(layers: int) -> None:
    name = f"highway_mlp_{layers}"
    assert name not in list_models()
    spec = find_spec(name)
    assert isinstance(spec, HighwayMLPSpec)
    assert spec.name == name
    assert spec.layers == layers
    if layers > 100:
        return
    network = spec.build()
    assert sum(isinstance(one, HighwayUnit) for one in network.modules()) == layers - 1
    trainable = sum(one.numel() for one in network.parameters())
    assert trainable == 784 * 50 + 50 + (layers - 1) * 2 * (50 * 50 + 50) + 50 * 10 + 10
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_through_71_layers_the_loss_is_heard_where_gates_carry() -> None:
    """The gradient of the first layer, at gates that start mostly closed and half open."""

    def first_gradient(gate_bias: float) -> float:
        torch.manual_seed(0)
        network = create_model("highway_mlp_71", gate_bias=gate_bias, activation="tanh")
        network(torch.randn(4, 1, 28, 28)).square().sum().backward()
        stem = network.get_submodule("stem")
        assert isinstance(stem, nn.Linear)
        assert stem.weight.grad is not None
        return stem.weight.grad.norm().item()

    assert first_gradient(-3.0) > 0.1
    assert first_gradient(0.0) < 1e-5


def test_where_the_convolutional_networks_pool_and_drop() -> None:
    network = create_model("highway_19.cifar")
    rates = {key: one.p for key, one in network.named_modules() if isinstance(one, nn.Dropout)}
    assert rates == {"stage1.dropout": 0.2, "stage2.dropout": 0.2, "stage3.dropout": 0.2, "dropout": 0.2}
    x = torch.rand(1, 3, 33, 32)
    maps = {key: tuple(value.shape[1:]) for key, value in network.forward_endpoints(x).items() if value.ndim == 4}
    assert maps["stage1"] == (32, 33, 32)
    assert maps["stage2.conv"] == maps["stage2.unit5"] == (80, 16, 16)
    assert maps["stage3"] == (128, 8, 8)
    assert maps["last_conv"] == (100, 8, 8)
