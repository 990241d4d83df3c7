"""`torch.export` and `torch.compile` take every network whole: one graph, without a break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.contracts.pins import SHOWN
from tests.contracts.tiny import filled, pictures, relative, tiny, twins


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    """What was compiled for one network must not count towards the limit of another."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", [rows[0] for rows in twins()])
def test_an_exported_network_takes_batches_of_any_size(name: str) -> None:
    network = filled(tiny(name))
    batch = torch.export.Dim("batch", min=1, max=64)
    example = pictures(network.spec, 2)
    exported = torch.export.export(network, (example,), dynamic_shapes=({0: batch},), strict=False).module()
    with torch.no_grad():
        for count in (1, 3):
            x = pictures(network.spec, count)
            assert relative(exported(x), network(x)) <= 1e-6


@pytest.mark.parametrize("name", SHOWN)
def test_a_compiled_network_is_one_graph(name: str) -> None:
    network = filled(tiny(name))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    x = pictures(network.spec, 2)
    with torch.no_grad():
        assert relative(compiled(x), network(x)) <= 1e-6


@pytest.mark.parametrize("name", ["resnet_v2_20.cifar"])
@pytest.mark.slow
def test_a_compiled_network_trains_as_the_plain_one(name: str) -> None:
    network = filled(tiny(name)).train()
    statistics = {key: value.clone() for key, value in network.named_buffers()}
    x = pictures(network.spec, 4)
    gradients = []
    for run in (network, torch.compile(network, backend="aot_eager", fullgraph=True)):
        network.load_state_dict(statistics, strict=False)
        network.zero_grad(set_to_none=True)
        run(x)[:, 0].sum().backward()
        gradients.append({key: one.grad.clone() for key, one in network.named_parameters() if one.grad is not None})
    assert set(gradients[0]) == {key for key, _ in network.named_parameters()}
    for key, expected in gradients[0].items():
        if expected.any():
            assert relative(gradients[1][key], expected) <= 1e-4, key
