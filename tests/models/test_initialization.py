"""First weights: deviation, range and biases of each initialization, for each kind of layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from skipway.models import Stem, create_model, find_spec, list_models, stage
from skipway.models.initialization import INITIALIZATIONS, initialize
from skipway.models.resnet_v1 import ResNetV1Spec

# A grouped convolution tells the fan-in of a filter from that of the layer; a hidden layer and a classifier differ.
CONV_IN, CONV_OUT = 20 * 25, 60 * 25 // 2
LINEAR_IN, LINEAR_OUT = 300, 400


class Layers(nn.Module):
    """Layers with enough weights that their moments are known to a percent; the names are AlexNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(40, 60, 5, groups=2)
        self.conv2 = nn.Conv2d(40, 60, 5, groups=2)
        self.fc6 = nn.Linear(LINEAR_IN, LINEAR_OUT)
        self.logits = nn.Linear(LINEAR_IN, LINEAR_OUT)
        self.norm = nn.BatchNorm2d(8)


@dataclass(frozen=True)
class Drawn:
    """Standard deviation, largest absolute value that can be drawn, and the bias (None: drawn, too)."""

    deviation: float
    bound: float = math.inf
    bias: float | None = 0.0


def uniform(bound: float) -> Drawn:
    return Drawn(bound / math.sqrt(3), bound)


def truncated(aimed: float) -> Drawn:
    """A normal distribution cut at two deviations keeps 0.8796 of its deviation."""
    return Drawn(0.8796 * aimed, 2 * aimed)


def own(fan_in: int) -> Drawn:
    """torch's default, for weights and biases alike: U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))."""
    bound = 1 / math.sqrt(fan_in)
    return Drawn(bound / math.sqrt(3), bound, None)


HE_CONV, HE_LINEAR = Drawn(math.sqrt(2 / CONV_IN)), Drawn(math.sqrt(2 / LINEAR_IN))
FAN_OUT = Drawn(math.sqrt(2 / (60 * 25)))  # torch counts all output channels, of every group
GLOROT_CONV = uniform(math.sqrt(6 / (CONV_IN + 60 * 25)))
GLOROT_LINEAR = uniform(math.sqrt(6 / (LINEAR_IN + LINEAR_OUT)))
SLIM_CONV, SLIM_LINEAR = truncated(math.sqrt(1.3 * 2 / CONV_IN)), truncated(math.sqrt(1.3 * 2 / LINEAR_IN))

# conv1, conv2, fc6, logits
EXPECTED: dict[str, tuple[Drawn, Drawn, Drawn, Drawn]] = {
    "he": (HE_CONV, HE_CONV, HE_LINEAR, HE_LINEAR),
    "normal_1": (Drawn(1.0, bias=None),) * 4,
    "torchvision": (FAN_OUT, FAN_OUT, own(LINEAR_IN), own(LINEAR_IN)),
    "slim": (SLIM_CONV, SLIM_CONV, SLIM_LINEAR, SLIM_LINEAR),
    "keras_signs": (GLOROT_CONV, GLOROT_CONV, GLOROT_LINEAR, GLOROT_LINEAR),
    "glorot_uniform": (GLOROT_CONV, GLOROT_CONV, GLOROT_LINEAR, GLOROT_LINEAR),
    "alexnet_paper": (Drawn(0.01), Drawn(0.01, bias=1.0), Drawn(0.01, bias=1.0), Drawn(0.01)),
    "caffe_alexnet": (Drawn(0.01), Drawn(0.01, bias=0.1), Drawn(0.005, bias=0.1), Drawn(0.01)),
    "cuda_convnet": (Drawn(1e-4), Drawn(0.01), Drawn(0.1), Drawn(0.1)),
    "caffenet": (Drawn(0.01), Drawn(0.01, bias=1.0), Drawn(0.005, bias=1.0), Drawn(0.01)),
    "tflearn": (uniform(math.sqrt(3 / CONV_IN)),) * 2 + (truncated(0.02),) * 2,
    "torch": (own(CONV_IN), own(CONV_IN), own(LINEAR_IN), own(LINEAR_IN)),
    "timm": (FAN_OUT, FAN_OUT, Drawn(0.01), Drawn(0.01)),
}


def test_every_initialization_is_known_here() -> None:
    assert set(EXPECTED) == set(INITIALIZATIONS)
    assert {find_spec(name).initialization for name in list_models()} <= set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_first_weights_have_their_sources_moments(name: str) -> None:
    layers = Layers()
    initialize(layers, name)
    for key, expected in zip(("conv1", "conv2", "fc6", "logits"), EXPECTED[name], strict=True):
        layer = layers.get_submodule(key)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        weight = layer.weight.detach()
        assert weight.std().item() == pytest.approx(expected.deviation, rel=0.02), key
        assert abs(weight.mean().item()) < 0.03 * expected.deviation, key
        largest = weight.abs().max().item()
        if math.isfinite(expected.bound):
            assert 0.98 * expected.bound < largest <= expected.bound * (1 + 1e-6), key
        else:
            assert largest > 3.5 * expected.deviation, key  # neither cut nor uniform
        assert layer.bias is not None
        if expected.bias is None:
            assert layer.bias.std().item() == pytest.approx(expected.deviation, rel=0.35), key
        else:
            assert torch.equal(layer.bias, torch.full_like(layer.bias, expected.bias)), key
    assert torch.equal(layers.norm.weight, torch.ones(8))
    assert not layers.norm.bias.any()


def test_the_papers_biases_of_1() -> None:
    """Krizhevsky et al. 2012, section 5: second, fourth and fifth convolution and the hidden layers."""
    biases = {"initialization": "alexnet_paper", "hidden": (32, 32), "num_classes": 7}
    network = create_model("alexnet.caffe", **biases)
    ones = [key for key, value in network.named_parameters() if key.endswith("bias") and (value == 1).all()]
    assert ones == ["conv2.conv.bias", "conv4.conv.bias", "conv5.conv.bias", "fc6.fc.bias", "fc7.fc.bias"]
    zeros = [key for key, value in network.named_parameters() if key.endswith("bias") and not value.any()]
    assert zeros == ["conv1.conv.bias", "conv3.conv.bias", "logits.bias"]
    small = create_model("alexnet.mnist", **biases)  # three convolutions: the hidden layers are fc4 and fc5
    ones = [key for key, value in small.named_parameters() if key.endswith("bias") and (value == 1).all()]
    assert ones == ["conv2.conv.bias", "fc4.fc.bias", "fc5.fc.bias"]


def test_the_hand_signs_identity_blocks_draw_from_a_narrow_range() -> None:
    spec = ResNetV1Spec(
        name="test", initialization="keras_signs", conv_bias=True, stem=Stem(width=8, bias=True), num_classes=3,
        blocks=(stage("stage1", "bottleneck", 8, 2, stride=1),),
    )  # fmt: skip
    units = dict(spec.build().get_submodule("stage1").named_children())
    limits = {name: unit.get_submodule("conv1").weight.abs().max().item() for name, unit in units.items()}
    assert limits["unit1"] > 0.2  # Glorot of 8 and 8: up to 0.61
    assert 0.04 < limits["unit2"] <= 0.05
