"""Receptive fields, strides and operations, against arithmetic by hand, published figures and real gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

from skipway.drawing.tracing import ReceptiveField, Tracer, on_meta, trace
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.catalog import create_model, find_spec
from skipway.models.network import Network, Spec


def traced(name: str, **fields: object) -> dict[str, tuple[int, int]]:
    """Size and jump of each endpoint's field."""
    return {key: sized(one.field) for key, one in trace(on_meta(find_spec(name).replaced(fields))).items()}


def sized(field: ReceptiveField) -> tuple[int, int]:
    assert field.size == int(field.size)
    return int(field.size), int(field.jump)


def test_the_stem_by_hand() -> None:
    """7x7/2 sees 7, jump 2; a pool of 3x3/2 behind it 7 + 2 * 2, jump 4."""
    assert traced("resnet_v1_50.torchvision")["stem"] == (11, 4)


def test_alexnet_has_the_fields_of_the_literature() -> None:
    """conv5 sees 163 pixels and pool5 195: the usual exercise."""
    spec = find_spec("alexnet.caffe")
    assert isinstance(spec, AlexNetSpec)
    bare = dataclasses.replace(spec, convs=(*spec.convs[:4], dataclasses.replace(spec.convs[4], after=())))
    assert sized(trace(on_meta(bare))["conv5"].field) == (163, 16)
    found = trace(on_meta(spec))
    assert [sized(found[f"conv{i}"].field) for i in range(1, 6)] == [(19, 8), (67, 16), (99, 16), (131, 16), (195, 32)]
    assert found["fc6"].field == ReceptiveField(195 + 5 * 32, 32, whole=True)


@pytest.mark.parametrize(("depth", "size"), [(50, 483), (101, 1027), (152, 1507)])
def test_slim_networks_have_the_fields_published_for_them(depth: int, size: int) -> None:
    """Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", table 1."""
    name = f"resnet_v1_{depth}.slim"
    assert traced(name)["stage4"] == (size, 32)
    # Dilation takes the place of the stride: the map is larger, and sees the same.
    assert traced(name, output_stride=8)["stage4"] == (size, 8)


def test_units_of_a_plain_net_by_hand() -> None:
    found = traced("plain_20.cifar")
    assert found["stem"] == (3, 1)
    assert found["stage1"] == (3 + 6 * 2, 1)
    assert found["stage2.unit1"] == (15 + 2 + 4, 2)  # the stride is in the first convolution
    assert found["stage2"] == (15 + 2 + 5 * 4, 2)
    assert found["stage3"] == (37 + 4 + 5 * 8, 4)
    assert found["pre_logits"][0] == 81 + 7 * 4
    # A shortcut sees less than the branch beside it: the sum sees what the branch does.
    assert {key: found[key] for key in ("stage1", "stage2", "stage3")} == {
        key: traced("resnet_v1_20.cifar")[key] for key in ("stage1", "stage2", "stage3")
    }


@pytest.mark.parametrize("name", ["plain_20.cifar", "resnet_v1_20.cifar", "resnet_v2_20.cifar", "resnet_v2_164.cifar"])
def test_a_gradient_reaches_just_the_pixels_of_the_field(name: str) -> None:
    spec = find_spec(name)
    if name == "resnet_v2_164.cifar":  # wider than a test's picture at full depth
        blocks = tuple(dataclasses.replace(block, rows=block.rows[:2]) for block in spec.blocks)  # type: ignore[attr-defined]
        spec = spec.replaced({"blocks": blocks})
    spec = spec.replaced({"input_size": 128})
    network = spec.build().double().eval()
    for parameter in network.parameters():  # nothing cancels, no ReLU closes
        nn.init.constant_(parameter, 0.01)
    picture = torch.ones(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    found = trace(on_meta(spec))
    for key in ("stem", "stage1", "stage2", "stage3"):
        values = network.forward_endpoints(picture)[key].sum(1)[0]
        middle = values.shape[0] // 2
        starts = []
        for row in (middle, middle + 1):
            (gradient,) = torch.autograd.grad(values[row, middle], picture, retain_graph=True)
            reached = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
            assert int(reached[-1] - reached[0]) + 1 == found[key].field.size
            starts.append(int(reached[0]))
        assert starts[1] - starts[0] == found[key].field.jump


@pytest.mark.parametrize("name", ["resnet_v1_50.signs", "resnet_v2_50.keras", "alexnet.tflearn", "highway_19.cifar"])
def test_a_trace_names_what_a_forward_pass_names(name: str) -> None:
    found = trace(on_meta(find_spec(name)))
    spec = find_spec(name)
    with torch.device("meta"):
        picture = torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size)
        endpoints = spec.build().eval().forward_endpoints(picture)
    del endpoints["predictions"]
    assert {key: one.shape for key, one in found.items()} == {
        key: tuple(one.shape[1:]) for key, one in endpoints.items()
    }
    assert list(found) == list(endpoints)
    assert found["logits"].field.whole


@pytest.mark.parametrize("name", ["resnet_v1_50.slim", "resnet_v2_18.timm", "highway_19.cifar", "alexnet.owt"])
def test_operations_are_those_of_torchs_counter(name: str) -> None:
    spec = find_spec(name)
    with torch.device("meta"):
        network, picture = spec.build().eval(), torch.zeros(1, spec.in_channels, spec.input_size, spec.input_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(picture)
    assert sum(one.flops for one in trace(on_meta(spec)).values()) == counter.get_total_flops() > 0


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_operations_are_those_that_torchvision_states(depth: int) -> None:
    """Billions of multiplications with an addition each."""
    flops = sum(one.flops for one in trace(on_meta(find_spec(f"resnet_v1_{depth}.torchvision"))).values())
    for weights in get_model_weights(f"resnet{depth}"):
        assert round(flops / 2e9, 3) == weights.meta["_ops"]


def test_an_adaptive_pool_may_be_uneven() -> None:
    """8 values to 6: windows of 2, though 8 / 6 of a value apart."""
    tracer = Tracer(picture := torch.empty(1, 1, 8, 8, device="meta"))
    with torch.no_grad(), tracer:
        tracer.note("pooled", nn.functional.adaptive_avg_pool2d(picture, 6))
        tracer.note("mean", nn.functional.adaptive_avg_pool2d(picture, 1))
    assert (tracer.endpoints["pooled"].field.size, float(tracer.endpoints["pooled"].field.jump)) == (2, 8 / 6)
    assert tracer.endpoints["mean"].field == ReceptiveField(8, 1, whole=True)


def test_every_second_pixel_doubles_the_jump_alone() -> None:
    tracer = Tracer(picture := torch.empty(1, 3, 8, 8, device="meta"))
    with torch.no_grad(), tracer:
        tracer.note("columns", picture[:, :, :, ::2])
        tracer.note("both", picture[:, :, ::2, ::2])
        tracer.note("channels", picture[:, ::2])
    assert [sized(tracer.endpoints[key].field) for key in ("columns", "both", "channels")] == [(1, 1), (1, 2), (1, 1)]


def test_an_unknown_operation_is_refused_rather_than_guessed() -> None:
    tracer = Tracer(picture := torch.empty(1, 3, 8, 8, device="meta"))
    with torch.no_grad(), tracer, pytest.raises(NotImplementedError, match=r"no rule .* of aten\.cumsum"):
        picture.cumsum(2)
    with torch.no_grad(), tracer, pytest.raises(NotImplementedError, match="transposed"):
        nn.functional.conv_transpose2d(picture, torch.empty(3, 3, 2, 2, device="meta"))
    with torch.no_grad(), tracer, pytest.raises(NotImplementedError, match="x does not depend on the picture"):
        tracer.note("x", torch.empty(1, device="meta"))


@pytest.mark.parametrize("name", ["alexnet.mnist", "resnet_v1_20.cifar", "resnet_v2_20.cifar", "highway_19.cifar"])
def test_the_network_on_meta_is_the_network(name: str) -> None:
    def shapes(network: Network) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in network.state_dict().items()}

    network = on_meta(find_spec(name))
    assert all(one.is_meta for one in (*network.parameters(), *network.buffers()))
    assert shapes(network) == shapes(create_model(name))


def test_a_row_of_convolutions_by_hand() -> None:
    """Kernel and stride change the field each in its own way, padding does not."""
    spec: Spec = AlexNetSpec(
        name="hand",
        convs=(Conv(4, 5, stride=3, padding=1), Conv(4, 1, stride=2), Conv(4, 3, padding="same", after=("pool",))),
        hidden=(),
        input_size=64,
        num_classes=2,
    )
    found = [sized(one.field) for key, one in trace(on_meta(spec)).items() if key.startswith("conv")]
    assert found == [(5, 3), (5, 6), (5 + 2 * 6 + 2 * 6, 12)]
