"""Profiles: layers by their names, with the operations that `skipway summary` counts, and a trace that names them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from tests.contracts.tiny import tiny
from torch import Tensor, nn

from skipway.benchmark.profiling import PROFILED, layer_costs, operations, profile_forward, profile_training
from skipway.drawing.counting import count
from skipway.errors import StorageError
from skipway.models.catalog import create_model
from skipway.models.network import Network

CPU = torch.device("cpu")
NAMES = ("alexnet.caffe", "resnet_v1_50.original", "resnet_v2_50.slim", "highway_19.cifar", "highway_mlp_10")


def inputs_of(network: Network) -> Tensor:
    spec = network.spec
    return torch.rand(2, spec.in_channels, spec.input_size, spec.input_size)


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_operations_are_those_of_the_summary(name: str) -> None:
    network = tiny(name).build().eval()
    inputs = inputs_of(network)
    costs = layer_costs(network, lambda: network(inputs), CPU)
    found = sum((one.gflops_per_second or 0) * one.seconds * 1e9 for one in costs)
    assert found == pytest.approx(2 * count(network.spec).flops, rel=1e-6)  # of two pictures


def test_layers_have_their_names_and_times() -> None:
    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.03)
            return x

    network = create_model("resnet_v1_20.cifar", num_classes=3).eval()
    network.stage2.unit1.norm1 = Slow()  # type: ignore[union-attr]
    inputs = inputs_of(network)
    costs = layer_costs(network, lambda: network(inputs), CPU)
    assert costs[0].name == "stage2.unit1.norm1"
    assert costs[0].seconds >= 0.03
    assert costs[0].gflops_per_second is None
    assert [one.seconds for one in costs] == sorted((one.seconds for one in costs), reverse=True)
    layers = {name for name, layer in network.named_modules() if not any(layer.children())}
    assert {one.name for one in costs} == layers
    assert 0.5 < sum(one.share for one in costs) < 1.5  # medians need not add up
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())


def test_a_layer_that_runs_twice_is_counted_twice() -> None:
    network = create_model("alexnet.mnist").eval()
    inputs = inputs_of(network)
    once = {one.name: one for one in layer_costs(network, lambda: network(inputs), CPU)}
    twice = {one.name: one for one in layer_costs(network, lambda: (network(inputs), network(inputs)), CPU)}
    for name, one in once.items():
        if one.gflops_per_second is not None:
            rate = twice[name].gflops_per_second
            assert rate is not None
            assert rate * twice[name].seconds == pytest.approx(2 * one.gflops_per_second * one.seconds)


def test_operations_by_hand() -> None:
    grouped = nn.Conv2d(4, 6, 3, groups=2)
    assert operations(grouped, torch.empty(5, 6, 7, 7)) == 2 * (5 * 6 * 49) * (2 * 9)
    assert operations(nn.Linear(10, 3), torch.empty(5, 3)) == 2 * 15 * 10
    assert operations(nn.ReLU(), torch.empty(5, 3)) == 0


@pytest.mark.parametrize(("precision", "told"), [("fp32", "fp32"), ("bf16", "bf16"), ("int8", "fp32")])
def test_a_forward_profile_and_its_trace(tmp_path: Path, precision: str, told: str) -> None:
    network = create_model("resnet_v1_20.cifar").eval()
    found = profile_forward(network, inputs_of(network), tmp_path / "new" / "trace.json", precision=precision)
    assert len(found.costs) == 10
    assert f"eager {told}" in found.what
    events = json.loads(found.trace.read_text())["traceEvents"]
    names = [event.get("name") for event in events if event.get("ph") == "X"]
    assert names.count("stage3.unit2.conv1") == PROFILED
    lines = found.describe().splitlines()
    assert str(found.trace) in lines[0]
    assert [line.split()[0] for line in lines[1:]] == [one.name for one in found.costs]
    plain = json.loads(json.dumps(found.to_dict()))
    assert set(plain["costs"][0]) == {"name", "seconds", "share", "gflops_per_second"}


def test_a_training_profile_has_operators(tmp_path: Path) -> None:
    network = create_model("resnet_v1_20.cifar")
    inputs = inputs_of(network)
    found = profile_training(lambda: network(inputs).sum().backward(), CPU, tmp_path / "trace.json")
    assert len(found.costs) == 10
    assert any(one.name == "aten::convolution_backward" for one in found.costs)
    assert 0.5 < sum(one.share for one in found.costs) <= 1
    assert found.trace.stat().st_size > 1000


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    network = create_model("alexnet.mnist").eval()
    with pytest.raises(StorageError, match="choose another folder"):
        profile_forward(network, inputs_of(network), tmp_path / "file" / "trace.json", precision="fp32")
