"""Networks against other implementations of them, and the facts in which layouts differ."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from skipway.models.blocks import Norm, Row, stage
from skipway.models.catalog import create_model, find_spec
from skipway.models.layers import LocalResponseNorm, MaxPool2d
from skipway.models.network import Network
from skipway.models.resnet_v1 import BottleneckV1, ResNetV1Spec
from skipway.models.resnet_v2 import BottleneckV2, ResNetV2Spec


def with_random_statistics(network: nn.Module) -> nn.Module:
    """Random numbers in every tensor, also those that start as ones and zeros and would hide an exchange."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    values, wanted = list(source.state_dict().values()), target.state_dict()
    assert [value.shape for value in values] == [value.shape for value in wanted.values()]
    target.load_state_dict(dict(zip(wanted, values, strict=True)))


def same_logits(ours: nn.Module, theirs: nn.Module, *sides: int) -> None:
    for side in sides:
        x = torch.randn(2, 3, side, side)
        with torch.no_grad():
            expected, found = theirs(x), ours(x)
        assert ((found - expected).abs().max() / expected.abs().max()).item() <= 1e-5


def test_resnet_18_is_torchvisions() -> None:
    theirs = with_random_statistics(torchvision.models.resnet18(weights=None))
    ours = create_model("resnet_v1_18.torchvision").eval()
    copy_in_order(theirs, ours)
    same_logits(ours, theirs, 64, 75)


def test_bottlenecks_with_the_stride_in_the_middle_are_torchvisions() -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    theirs = with_random_statistics(ResNet(Bottleneck, [2, 1, 1, 1], num_classes=9))
    widths = ((64, 2, 1), (128, 1, 2), (256, 1, 2), (512, 1, 2))
    blocks = tuple(
        stage(f"stage{number}", "bottleneck", width, units, stride=stride)
        for number, (width, units, stride) in enumerate(widths, 1)
    )
    ours = {
        place: ResNetV1Spec(name="test", num_classes=9, blocks=blocks, stride_in=place).build().eval()
        for place in ("first", "middle")
    }
    for network in ours.values():
        copy_in_order(theirs, network)  # shapes alone cannot tell the two layouts apart
    same_logits(ours["middle"], theirs, 64, 75)
    with pytest.raises(AssertionError):
        same_logits(ours["first"], theirs, 64)


def sizes(network: Network, side: int) -> dict[str, int]:
    x = torch.zeros(1, network.spec.in_channels, side, side, device="meta")
    return {name: value.shape[2] for name, value in network.forward_endpoints(x).items() if value.ndim == 4}


def on_meta(name: str) -> Network:
    with torch.device("meta"):
        return find_spec(name).build().eval()


def test_maps_of_alexnet() -> None:
    assert sizes(on_meta("alexnet.mnist"), 28) == {"conv1": 14, "conv2": 7, "conv3": 4}
    expected = {"conv1": 27, "conv2": 13, "conv3": 13, "conv4": 13, "conv5": 6}
    assert sizes(on_meta("alexnet.caffe"), 227) == expected


def test_maps_of_the_hand_signs_network() -> None:
    """Valid pooling: 64 -> 32 -> 15, as ZeroPadding2D, Conv2D and MaxPooling2D of the source give it."""
    found = sizes(on_meta("resnet_v1_50.signs"), 64)
    assert [found[name] for name in ("stem", "stage1", "stage2", "stage3", "stage4")] == [15, 15, 8, 4, 2]


@pytest.mark.parametrize("side", [224, 225])
def test_slims_v2_puts_the_stride_in_a_stages_last_unit(side: int) -> None:
    found = sizes(on_meta("resnet_v2_50.slim"), side)
    expected = {224: [56, 28, 14, 7, 7], 225: [57, 29, 15, 8, 8]}[side]
    assert [found[name] for name in ("stem", "stage1", "stage2", "stage3", "stage4")] == expected
    for stage_number, units in enumerate((3, 4, 6, 3), 1):
        before, after = expected[stage_number - 1 : stage_number + 1]
        inside = [found[f"stage{stage_number}.unit{unit}"] for unit in range(1, units + 1)]
        assert inside == [before] * (units - 1) + [after]


def test_torchvisions_v1_puts_the_stride_in_a_stages_first_unit() -> None:
    found = sizes(on_meta("resnet_v1_18.torchvision"), 224)
    assert [found[name] for name in ("stem", "stage1", "stage2.unit1", "stage2.unit2", "stage4")] == [56, 56, 28, 28, 7]


def test_stems_pool_as_their_sources_do() -> None:
    """On even sides "same" and "symmetric" give equal shapes, shifted by a pixel: sizes cannot tell them apart."""
    expected = {"resnet_v1_50.signs": "valid", "resnet_v2_50.slim": "same", "resnet_v1_18.torchvision": "symmetric"}
    for name, padding in expected.items():
        pool = on_meta(name).get_submodule("stem.pool")
        assert (pool.kernel, pool.stride, pool.padding) == (3, 2, padding), name


def v2_unit(channels: int, row: Row) -> tuple[BottleneckV2, Tensor]:
    """A unit whose residual branch gives nothing, and an input: what comes out is the shortcut."""
    spec = ResNetV2Spec(name="test", blocks=(stage("stage1", "bottleneck", 4, 1, stride=1),))
    unit = BottleneckV2(channels, row, spec)
    with_random_statistics(unit)
    nn.init.zeros_(unit.conv3.weight)
    assert unit.conv3.bias is not None
    nn.init.zeros_(unit.conv3.bias)
    return unit, torch.randn(2, channels, 7, 7)


def test_v2s_identity_carries_the_raw_input() -> None:
    unit, x = v2_unit(8, (8, 4, 1))
    assert torch.equal(unit(x.clone()), x)
    unit, x = v2_unit(8, (8, 4, 2))
    assert torch.equal(unit(x.clone()), x[:, :, ::2, ::2])


def test_v2s_projection_starts_from_the_pre_activation_without_a_norm() -> None:
    unit, x = v2_unit(6, (8, 4, 2))
    assert isinstance(unit.shortcut, nn.Conv2d)
    assert unit.shortcut.bias is not None
    active = unit.preact(x).relu()
    torch.testing.assert_close(unit(x), unit.shortcut(active))


def test_v2_has_biases_where_no_normalizer_follows() -> None:
    network = on_meta("resnet_v2_50.slim")
    biased = {name for name, one in network.named_modules() if isinstance(one, nn.Conv2d) and one.bias is not None}
    kinds = {name.split(".")[-1] for name in biased}
    assert kinds == {"conv", "conv3", "shortcut"}  # the stem, each unit's last, the projections
    assert "stem.conv" in biased
    assert sum(name.endswith("conv3") for name in biased) == 16
    assert sum(name.endswith("shortcut") for name in biased) == 4


@pytest.mark.parametrize("stride", [1, 2])
def test_v1s_sum_comes_before_the_last_relu(stride: int) -> None:
    spec = ResNetV1Spec(name="test", blocks=(stage("stage1", "bottleneck", 4, 1, stride=1),))
    unit = BottleneckV1(8, (8, 4, stride), spec)
    with_random_statistics(unit)
    nn.init.zeros_(unit.norm3.weight)
    nn.init.zeros_(unit.norm3.bias)
    x = torch.randn(2, 8, 7, 7)
    assert torch.equal(unit(x.clone()), x[:, :, ::stride, ::stride].relu())


def test_norms_have_their_sources_constants() -> None:
    expected = {
        "resnet_v1_50.signs": Norm(1e-3, 0.01),  # Keras: epsilon 0.001, momentum 0.99
        "resnet_v2_50.slim": Norm(1e-5, 0.003),  # Slim: decay 0.997
        "resnet_v1_18.torchvision": Norm(1e-5, 0.1),
    }
    for name, norm in expected.items():
        found = {(one.eps, one.momentum) for one in on_meta(name).modules() if isinstance(one, nn.BatchNorm2d)}
        assert found == {(norm.eps, norm.momentum)}, name


_TOWERS = {
    "caffe": "conv norm pool conv norm pool conv conv conv pool",
    "caffenet": "conv pool norm conv pool norm conv conv conv pool",
    "tflearn": "conv pool norm conv pool norm conv conv conv pool norm",
    "mnist": "conv pool norm dropout-0.2 " * 3,
    "owt": "conv pool conv pool conv conv conv pool",
}
_HEADS = {
    "caffe": "fc relu dropout-0.5 fc relu dropout-0.5 fc",
    "caffenet": "fc relu dropout-0.5 fc relu dropout-0.5 fc",
    "tflearn": "fc tanh dropout-0.5 fc tanh dropout-0.5 fc",
    "mnist": "fc relu fc relu fc",
    "owt": "dropout-0.5 fc relu dropout-0.5 fc relu fc",
}
_KINDS = {
    nn.Conv2d: "conv",
    MaxPool2d: "pool",
    LocalResponseNorm: "norm",
    nn.Linear: "fc",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
}


@pytest.mark.parametrize("name", _TOWERS)
def test_dropout_stands_where_the_sources_have_it(name: str) -> None:
    """In the order in which the layers are called; the ReLUs of the convolutions are no modules."""
    network = on_meta(f"alexnet.{name}")
    called: list[str] = []
    for module in network.modules():
        kind = next((word for one, word in _KINDS.items() if isinstance(module, one)), "")
        if isinstance(module, nn.Dropout) and module.p:
            kind = f"dropout-{module.p}"
        if kind:
            module.register_forward_hook(lambda *_, kind=kind: called.append(kind))
    side = network.spec.input_size
    network(torch.zeros(1, network.spec.in_channels, side, side, device="meta"))
    assert called == [*_TOWERS[name].split(), *_HEADS[name].split()]


def test_caffes_alexnet_norms_before_it_pools_and_splits_its_groups() -> None:
    network = on_meta("alexnet.caffe")
    order = {f"conv{n}": [key for key, _ in getattr(network, f"conv{n}").after.named_children()] for n in range(1, 6)}
    assert order == {"conv1": ["norm", "pool"], "conv2": ["norm", "pool"], "conv3": [], "conv4": [], "conv5": ["pool"]}
    assert [getattr(network, f"conv{n}").conv.groups for n in range(1, 6)] == [1, 2, 1, 2, 2]


def test_the_fully_connected_part_flattens_channels_first() -> None:
    """Caffe and torch flatten (C, H, W): feature c * H * W + h * W + w."""
    network = create_model("alexnet.mnist", hidden=(4,)).eval()
    seen: list[Tensor] = []
    network.get_submodule("fc4").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(1, 1, 28, 28)
    with torch.no_grad():
        for form in (torch.contiguous_format, torch.channels_last):
            network.to(memory_format=form)  # type: ignore[call-overload]
            last = network.forward_endpoints(x.contiguous(memory_format=form))["conv3"]
            assert last.shape[2:] == (4, 4)
            assert torch.equal(seen[-1], last.contiguous().reshape(1, -1))
