"""Forward and backward passes of every row, in its tiny form."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from skipway.data.preprocessing import preset
from skipway.errors import SpecError, UnknownNameError
from skipway.models.blocks import StackSpec
from skipway.models.catalog import create_model, list_models
from skipway.models.network import Network, Spec
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from tests.contracts.tiny import CLASSES, filled, fixed_size, pictures, relative, tiny, twins

ROWS = list_models()
STACKS = [name for name in ROWS if isinstance(tiny(name), StackSpec)]
DENSE = [name for name in ROWS if "global_pool" in dir(tiny(name)) and not fixed_size(tiny(name))]


@pytest.fixture(scope="module", params=ROWS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """A tiny network in evaluation mode; a test that changes it puts it back."""
    yield filled(tiny(request.param))


def test_tiny_rows_differ_where_their_layouts_do() -> None:
    """Rows may become the same network only where nothing but the depth, or the first weights, told them apart."""
    layouts = [{re.sub(r"_\d+", "", name) for name in rows} for rows in twins()]
    assert all(len(names) == 1 for names in layouts), layouts


def test_forward_at_two_sizes(network: Network) -> None:
    spec = network.spec
    with torch.no_grad():
        for side in (spec.input_size, spec.input_size + 14):
            built = filled(spec.replaced({"input_size": side})) if fixed_size(spec) else network
            logits = built(100 * pictures(spec, 2, side, side))  # loud: a deep plain net forgets faint ones
            assert logits.shape == (2, CLASSES)
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()
            assert relative(logits[:1], logits[1:]) > 1e-6  # the picture counts
        if not fixed_size(spec):
            assert network(pictures(spec, 1, spec.input_size + 3, spec.input_size + 8)).shape == (1, CLASSES)


def test_a_fixed_network_refuses_another_size(network: Network) -> None:
    spec = network.spec
    if not fixed_size(spec):
        network(pictures(spec, 1, spec.input_size + 64, spec.input_size))
        return
    with pytest.raises(SpecError, match=f"built for pictures of {spec.input_size} pixels a side"):
        network(pictures(spec, 1, spec.input_size, spec.input_size + 64))


def test_every_parameter_gets_a_gradient(network: Network) -> None:
    statistics = {name: value.clone() for name, value in network.named_buffers() if "running_" in name}
    logits = network.train()(pictures(network.spec, 3))
    (logits * torch.randn_like(logits)).sum().backward()
    try:
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A bias right before a normalization has none by nature.
            assert parameter.ndim == 1 or parameter.grad.any(), name
    finally:
        network.zero_grad(set_to_none=True)
        network.load_state_dict(statistics, strict=False)
        network.eval()


def test_a_picture_gives_the_same_logits_in_any_batch(network: Network) -> None:
    x = pictures(network.spec, 3)
    with torch.no_grad():
        whole = network(x)
        for row in range(3):
            assert relative(network(x[row : row + 1]), whole[row : row + 1]) <= 1e-5


def test_memory_format_changes_nothing(network: Network) -> None:
    x = pictures(network.spec, 2)
    with torch.no_grad():
        expected = network(x)
        try:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            assert relative(network(x.contiguous(memory_format=torch.channels_last)), expected) <= 1e-5
        finally:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def test_endpoints_are_the_pass_itself(network: Network) -> None:
    x = pictures(network.spec, 2)
    noted: dict[str, Tensor] = {}
    with torch.no_grad():
        last = network.walk(x, lambda name, value: noted.update({name: value.clone()}))
        endpoints = network.forward_endpoints(x)
        assert torch.equal(network(x), last)
    assert list(endpoints) == [*noted, "predictions"]
    # No later layer may write over an endpoint in place.
    assert all(torch.equal(endpoints[name], value) for name, value in noted.items())
    assert torch.equal(endpoints["logits"], last)
    assert torch.equal(endpoints["predictions"], last.softmax(1))


def test_dropout_and_batch_statistics_act_in_training_alone(network: Network) -> None:
    x = pictures(network.spec, 4)
    statistics = {name: value.clone() for name, value in network.named_buffers() if "running_" in name}
    acts = any(isinstance(one, nn.BatchNorm2d) or getattr(one, "p", 0) for one in network.modules())
    with torch.no_grad():
        evaluated = network(x)
        assert torch.equal(network(x), evaluated)
        assert torch.equal(network.train()(x), evaluated) != acts
    network.load_state_dict(statistics, strict=False)
    assert torch.equal(network.eval()(x), evaluated)


def test_a_model_file_gives_the_network_back(network: Network, tmp_path: Path) -> None:
    spec = network.spec
    preprocessing = preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1)
    file = tmp_path / "model.safetensors"
    labels = tuple(f"label {number}" for number in range(CLASSES))
    save_bundle(file, Bundle(spec, preprocessing, labels, dict(network.state_dict())))
    read = load_bundle(file)
    assert read.spec == spec
    assert type(read.spec) is type(spec)
    again = read.network()
    expected = network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
    x = pictures(spec, 2)
    with torch.no_grad():  # not bit by bit: tensors of a file lie at other addresses, which changes how they are summed
        assert relative(again(x), network(x)) <= 1e-6


def test_first_weights_follow_the_seed(network: Network) -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([one.flatten() for one in network.spec.build().parameters()])

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_without_a_classifier_the_features_come_out(network: Network) -> None:
    features = network.spec.replaced({"num_classes": 0}).build().eval()
    wanted = {name: value for name, value in network.state_dict().items() if name not in network.classifier_keys()}
    features.load_state_dict(wanted)  # strict: it lacks the classifier and nothing else
    x = pictures(network.spec, 2)
    with torch.no_grad():
        expected = network.forward_endpoints(x)["pre_logits"]
        assert torch.equal(features(x), expected)
        names = list(features.forward_endpoints(x))
    assert expected.ndim == 2
    assert names[-1] == "pre_logits"
    assert not {"logits", "predictions"} & set(names)


@pytest.mark.parametrize("name", DENSE)
def test_dense_prediction_averages_to_the_pooled_one(name: str) -> None:
    """The classifier is linear: the mean of its map is the logits of the mean."""
    spec = tiny(name)
    dense = filled(spec.replaced({"global_pool": False}))
    x = pictures(spec, 1, 70, 65)
    with torch.no_grad():
        found = dense(x)
        assert found.shape == (1, CLASSES, spec.map_size(70), spec.map_size(65))  # type: ignore[attr-defined]
        assert found.shape[2] > 1
        assert relative(found.mean((2, 3)), filled(spec)(x)) <= 1e-5
        predictions = dense.forward_endpoints(x)["predictions"].sum(1)
        assert torch.allclose(predictions, torch.ones_like(predictions))
        bare = filled(spec.replaced({"global_pool": False, "num_classes": 0}))
        assert bare(x).shape[2:] == found.shape[2:]


@pytest.mark.parametrize("name", STACKS)
def test_without_the_stem_a_network_takes_a_map(name: str) -> None:
    spec = tiny(name)
    bare = filled(spec.replaced({"include_root_block": False, "in_channels": 8}))
    whole = filled(spec)
    x = pictures(spec, 2)
    with torch.no_grad():
        expected = whole.forward_endpoints(x)
        stem = expected.pop("stem")
        if fixed_size(spec):
            bare = filled(bare.spec.replaced({"input_size": stem.shape[2]}))
        found = bare.forward_endpoints(stem)
    assert list(found) == list(expected)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    missing = set(whole.state_dict()) - set(bare.state_dict())
    assert missing == {key for key in whole.state_dict() if key.startswith("stem.")}


def fields_of(spec: Spec) -> set[str]:
    return {field.name for field in dataclasses.fields(spec)}


@pytest.mark.parametrize("name", ROWS)
def test_a_field_that_a_row_lacks_is_named(name: str) -> None:
    for field in sorted({"global_pool", "include_root_block", "output_stride"} - fields_of(tiny(name))):
        with pytest.raises(UnknownNameError, match=f"unknown field of {re.escape(name)} '{field}'"):
            create_model(name, **{field: False})
