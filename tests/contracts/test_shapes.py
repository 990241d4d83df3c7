"""Every row at full depth and width on the meta device, where shapes are worked out and no number is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from skipway.models.catalog import CATALOG, find_spec, list_models
from skipway.models.network import Network, Spec
from tests.contracts.pins import REPIN, SHOWN, key_lines, pin, pinned
from tests.contracts.tiny import tiny


def on_meta(spec: Spec) -> Network:
    with torch.device("meta"):
        return spec.build()


@pytest.fixture(scope="module", params=list_models())
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    yield on_meta(find_spec(request.param))


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    spec = network.spec
    x = torch.zeros(2, spec.in_channels, spec.input_size, spec.input_size, device="meta")
    with torch.no_grad():
        return {name: tuple(value.shape) for name, value in network.forward_endpoints(x).items()}


def test_the_catalog_is_complete() -> None:
    assert len(list_models()) >= 55


def test_every_parameter_is_counted(network: Network) -> None:
    assert all(one.requires_grad for one in network.parameters())
    assert sum(one.numel() for one in network.parameters()) == CATALOG[network.spec.name].parameters


def _is_unit(key: str) -> bool:
    return key.rpartition(".")[2].startswith("unit")


def test_endpoints_at_the_size_of_the_source(network: Network) -> None:
    spec = network.spec
    evaluation = shapes(network.eval())
    assert list(shapes(network.train()).items()) == list(evaluation.items())
    names = list(evaluation)
    assert names[-3:] == ["pre_logits", "logits", "predictions"]
    assert evaluation["logits"] == evaluation["predictions"] == (2, spec.num_classes)
    classifier = network.get_submodule("logits")
    assert isinstance(classifier, nn.Linear)
    assert evaluation["pre_logits"] == (2, classifier.in_features)
    maps = [shape for shape in evaluation.values() if len(shape) == 4]
    if hasattr(spec, "map_size"):
        assert maps[-1][2:] == (spec.map_size(spec.input_size),) * 2
    # Each stage with weights and each unit reports its output, in forward order.
    stages = [key for key, child in network.named_children() if any(True for _ in child.parameters())]
    assert [key for key in names if "." not in key and key not in {"pre_logits", "predictions"}] == stages
    assert [key for key in names if _is_unit(key)] == [key for key, _ in network.named_modules() if _is_unit(key)]


def test_classifier_keys_are_what_depends_on_the_classes(network: Network) -> None:
    state = network.state_dict()
    five = on_meta(network.spec.replaced({"num_classes": 5})).state_dict()
    assert list(five) == list(state)
    differing = {key for key, value in five.items() if value.shape != state[key].shape}
    assert differing == set(network.classifier_keys())


def test_state_dict_keys_are_pinned(network: Network) -> None:
    name = network.spec.name
    pins, _ = pinned()
    assert pin(network) == pins[name], f"keys or shapes of {name} have changed; {REPIN}"


@pytest.mark.parametrize("name", SHOWN)
def test_state_dict_keys_of_a_family_are_pinned(name: str) -> None:
    """A change of what all rows share shows here by name."""
    _, shown = pinned()
    found, expected = key_lines(on_meta(tiny(name))), shown[name]
    surplus, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    assert found == expected, f"{name} has {surplus} and lacks {missing}; {REPIN}"


def test_the_pins_are_those_of_the_catalog() -> None:
    pins, shown = pinned()
    assert list(pins) == list_models(), REPIN
    assert list(shown) == list(SHOWN), REPIN
    assert {find_spec(name).architecture for name in SHOWN} == {find_spec(name).architecture for name in list_models()}


def test_a_pin_sees_keys_and_shapes() -> None:
    spec = tiny("resnet_v1_20.cifar")
    pins = {pin(on_meta(spec.replaced(change))) for change in ({}, {"conv_bias": True}, {"num_classes": 6})}
    assert len(pins) == 3
