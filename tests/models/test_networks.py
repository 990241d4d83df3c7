"""One check, all models: shapes, gradients, endpoints, and outputs that depend on the picture alone.

Each row of the catalog is built with its own depth and layout, but narrow and for small pictures: what is tested does
not depend on them, and the whole catalog takes seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import create_model, find_spec, list_models
from skipway.models.highway import HighwayMLPSpec, HighwaySpec
from skipway.models.network import Network, Spec


def narrow(spec: Spec) -> Spec:
    """The same network with an eighth of its channels or, where that would leave too few, a quarter."""
    side = max(spec.smallest_input(), 33)
    if isinstance(spec, AlexNetSpec):
        convs = tuple(dataclasses.replace(row, depth=row.depth // 8) for row in spec.convs)
        hidden = tuple(48 for _ in spec.hidden)
        return dataclasses.replace(spec, num_classes=7, input_size=side, convs=convs, hidden=hidden)
    if isinstance(spec, HighwayMLPSpec):
        return dataclasses.replace(spec, num_classes=7, input_size=side, width=12, layers=min(spec.layers, 30))
    if isinstance(spec, HighwaySpec):
        stages = tuple(dataclasses.replace(row, depth=row.depth // 4) for row in spec.stages)
        return dataclasses.replace(spec, num_classes=7, input_size=side, stages=stages, last_width=12)
    assert isinstance(spec, StackSpec)
    share = 8 if spec.stem.width >= 64 else 4
    blocks = tuple(
        dataclasses.replace(
            block, rows=tuple((depth // share, width // share, stride) for depth, width, stride in block.rows)
        )
        for block in spec.blocks
    )
    stem = dataclasses.replace(spec.stem, width=spec.stem.width // share)
    return dataclasses.replace(spec, num_classes=7, input_size=side, blocks=blocks, stem=stem)


def takes_any_size(spec: Spec) -> bool:
    return spec.flattened(spec.input_size) in {0, spec.flattened(spec.input_size + 8)}


def pictures(spec: Spec, count: int, side: int | None = None) -> Tensor:
    return torch.rand(count, spec.in_channels, side or spec.input_size, side or spec.input_size)


def settle(network: Network) -> None:
    """Give the normalizations the statistics of a batch: of depth 50 and more, activations explode without."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(pictures(network.spec, 8, 65 if takes_any_size(network.spec) else None))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def close(one: Tensor, other: Tensor, share: float) -> None:
    """Equal up to a share of the largest value."""
    assert one.shape == other.shape
    assert one.isfinite().all()
    difference = ((one - other).abs().max() / other.abs().max()).item()
    assert difference <= share


@pytest.fixture(scope="module", params=list_models())
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """A settled small network; tests put it in the mode they need and leave its weights alone."""
    torch.manual_seed(1)
    built = narrow(find_spec(request.param)).build()
    settle(built)
    yield built


@pytest.mark.parametrize("name", list_models())
def test_logits_at_the_size_of_the_source(name: str) -> None:
    """On the meta device, where shapes cost nothing."""
    spec = find_spec(name)
    with torch.device("meta"):
        built = spec.build().eval()
        endpoints = built.forward_endpoints(pictures(spec, 2))
    assert endpoints["logits"].shape == (2, spec.num_classes)
    maps = [value for value in endpoints.values() if value.ndim == 4]
    assert maps[-1].shape[2] == maps[-1].shape[3] == spec.map_size(spec.input_size)  # type: ignore[attr-defined]


def test_finite_logits(network: Network) -> None:
    spec = network.spec
    with torch.no_grad():
        logits = network.eval()(pictures(spec, 2))
        assert logits.shape == (2, 7)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert logits.std() > 0
        if takes_any_size(spec):
            for side in (spec.input_size - 1, spec.input_size + 4):
                assert network(pictures(spec, 1, side)).shape == (1, 7)
            assert network(torch.rand(1, spec.in_channels, 40, 56)).shape == (1, 7)


def test_weights_survive_a_round_trip(network: Network) -> None:
    torch.manual_seed(99)
    twin = network.spec.build().eval()
    x = pictures(network.spec, 2)
    with torch.no_grad():
        assert not torch.equal(twin(x), network.eval()(x))
        twin.load_state_dict(network.state_dict())
        assert torch.equal(twin(x), network(x))


def test_every_parameter_gets_a_gradient(network: Network) -> None:
    statistics = {name: value.clone() for name, value in network.named_buffers() if "running_" in name}
    x = pictures(network.spec, 3)
    logits = network.train()(x)
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


def test_a_picture_gives_the_same_logits_in_any_batch(network: Network) -> None:
    x = pictures(network.spec, 3)
    with torch.no_grad():
        whole = network.eval()(x)
        for row in range(3):
            close(network(x[row : row + 1]), whole[row : row + 1], 1e-5)


def test_memory_format_changes_nothing(network: Network) -> None:
    x = pictures(network.spec, 2)
    with torch.no_grad():
        expected = network.eval()(x)
        try:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            close(network(x.contiguous(memory_format=torch.channels_last)), expected, 1e-4)
        finally:
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def test_endpoints_are_the_pass_itself(network: Network) -> None:
    x = pictures(network.spec, 2)
    noted: dict[str, Tensor] = {}
    with torch.no_grad():
        last = network.eval().walk(x, lambda name, value: noted.update({name: value.clone()}))
        endpoints = network.forward_endpoints(x)
        assert torch.equal(network(x), last)
    assert list(endpoints) == [*noted, "predictions"]
    # No later layer may write over an endpoint in place.
    assert all(torch.equal(endpoints[name], value) for name, value in noted.items())
    assert torch.equal(endpoints["logits"], last)
    assert torch.equal(endpoints["predictions"], last.softmax(1))
    names = list(endpoints)
    assert names[-3:] == ["pre_logits", "logits", "predictions"]
    assert [name for name in names if "." not in name][: len(network.stages)]  # type: ignore[arg-type]
    assert set(network.stages) <= set(names)  # type: ignore[arg-type]


def test_endpoints_have_the_same_names_in_training(network: Network) -> None:
    statistics = {name: value.clone() for name, value in network.named_buffers() if "running_" in name}
    x = pictures(network.spec, 2)
    with torch.no_grad():
        training = network.train().forward_endpoints(x)
        network.load_state_dict(statistics, strict=False)
        evaluation = network.eval().forward_endpoints(x)
    assert list(training) == list(evaluation)
    assert [value.shape for value in training.values()] == [value.shape for value in evaluation.values()]


def test_without_a_classifier_the_features_come_out(network: Network) -> None:
    features = network.spec.replaced({"num_classes": 0}).build().eval()
    wanted = {name: value for name, value in network.state_dict().items() if name not in network.classifier_keys()}
    features.load_state_dict(wanted)  # strict: it lacks the classifier and nothing else
    x = pictures(network.spec, 2)
    with torch.no_grad():
        expected = network.eval().forward_endpoints(x)["pre_logits"]
        assert torch.equal(features(x), expected)
        assert expected.ndim == 2
        names = set(features.forward_endpoints(x))
    assert not names & {"logits", "predictions"}
    assert "pre_logits" in names


@pytest.mark.parametrize("name", list_models())
def test_classifier_keys_are_what_depends_on_the_classes(name: str) -> None:
    spec = find_spec(name)
    with torch.device("meta"):
        few, many = (spec.replaced({"num_classes": count}).build() for count in (5, 9))
    differing = {key for key, value in few.state_dict().items() if value.shape != many.state_dict()[key].shape}
    assert differing == set(few.classifier_keys())


@pytest.mark.parametrize("name", [name for name in list_models() if takes_any_size(find_spec(name))])
def test_dense_prediction_averages_to_the_pooled_one(name: str) -> None:
    """The classifier is linear: the mean of its map is the logits of the mean."""
    spec = narrow(find_spec(name))
    pooled = spec.build()
    settle(pooled)
    dense = spec.replaced({"global_pool": False}).build().eval()
    dense.load_state_dict(pooled.state_dict())
    x = pictures(spec, 1, 65)
    with torch.no_grad():
        found = dense(x)
        assert found.shape == (1, 7, *[spec.map_size(65)] * 2)  # type: ignore[attr-defined]
        close(found.mean((2, 3)), pooled.eval()(x), 1e-4)
        assert torch.allclose(dense.forward_endpoints(x)["predictions"].sum(1), torch.tensor(1.0))


@pytest.mark.parametrize("name", ["resnet_v1_20.cifar", "resnet_v2_50.slim"])
def test_without_the_stem_a_network_takes_a_map(name: str) -> None:
    spec = narrow(find_spec(name))
    built = spec.replaced({"include_root_block": False, "in_channels": 6}).build().eval()
    with torch.no_grad():
        endpoints = built.forward_endpoints(torch.rand(1, 6, 16, 16))
    assert "stem" not in endpoints
    assert endpoints["stage1.unit1"].shape[2:] == (16, 16)
    assert endpoints["logits"].shape == (1, 7)


def test_first_weights_follow_the_seed() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        built = create_model("resnet_v1_20.cifar")
        return torch.cat([one.flatten() for one in built.parameters()])

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
