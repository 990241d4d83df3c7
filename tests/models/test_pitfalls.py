"""Where conversions go wrong without a word: each mistake is planted, and seen in the output or in the keys.

Weights and pictures are the same on both sides, so whatever differs comes from the mistake alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skipway.models import AlexNetSpec, Norm, Pool, ResponseNorm
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Network, Spec
from tests.contracts.tiny import filled, pictures, relative, tiny

Change = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Mistake:
    """`fields` gives what is wrong from the right spec; `plant` changes the right network instead."""

    what: str
    row: str
    fields: Change = lambda spec: {}
    plant: Callable[[Network], None] = lambda network: None
    side: int = 0
    scale: float = 1.0


def convs(**changes: object) -> Change:
    def change(spec: AlexNetSpec) -> dict[str, Any]:
        return {"convs": [dataclasses.replace(row, **changes) for row in spec.convs]}

    return change


def pool_before_norm(spec: AlexNetSpec) -> dict[str, Any]:
    return {"convs": [dataclasses.replace(row, after=tuple(reversed(row.after))) for row in spec.convs]}


def first_conv_padding(padding: int) -> Change:
    def change(spec: AlexNetSpec) -> dict[str, Any]:
        return {"convs": [dataclasses.replace(spec.convs[0], padding=padding), *spec.convs[1:]]}

    return change


def stem(**changes: object) -> Change:
    return lambda spec: {"stem": dataclasses.replace(spec.stem, **changes)}


def strides_at_the_other_end(spec: StackSpec) -> dict[str, Any]:
    """Each stage's stride in its first unit instead of its last, or the other way round; the maps stay as large."""
    blocks = []
    for block in spec.blocks:
        strides = [stride for _, _, stride in reversed(block.rows)]
        rows = tuple((row[0], row[1], stride) for row, stride in zip(block.rows, strides, strict=True))
        blocks.append(dataclasses.replace(block, rows=rows))
    return {"blocks": blocks}


def flatten_hwc(network: Network) -> None:
    """The first dense layer as TensorFlow orders it, not permuted."""
    linear = network.get_submodule("fc6.fc")
    assert isinstance(linear, nn.Linear)
    spec = network.spec
    side = spec.flattened(spec.input_size)
    by_channel = linear.weight.data.reshape(linear.out_features, -1, side, side)
    linear.weight.data = by_channel.permute(0, 2, 3, 1).flatten(1).contiguous()


def shortcuts(*, identity: bool) -> Callable[[Network], None]:
    """The identity from the pre-activation, or the projection from the raw input."""

    def plant(network: Network) -> None:
        units = [one for one in network.modules() if hasattr(one, "shared")]
        chosen = [one for one in units if isinstance(one.shortcut, nn.Conv2d) != identity]
        assert 0 < len(chosen) < len(units)
        for unit in chosen:
            assert unit.shared != identity
            unit.shared = identity  # type: ignore[assignment]

    return plant


MISTAKES = [
    Mistake("alpha not divided by the window", "alexnet.caffe", lambda s: {"norm": ResponseNorm(alpha=5e-4)}, scale=99),
    Mistake("radius 5 read as a window of 5", "alexnet.tflearn", lambda s: {"norm": ResponseNorm(5, 11e-4)}, scale=99),
    Mistake("TF's alpha read as Caffe's", "alexnet.tflearn", lambda s: {"norm": ResponseNorm(11, 1e-4)}, scale=99),
    Mistake("lsize 4 read as half a radius", "alexnet.mnist", lambda s: {"norm": ResponseNorm(5, 0.001)}, scale=99),
    Mistake("the paper's k = 2", "alexnet.caffe", lambda s: {"norm": ResponseNorm(k=2.0)}),
    Mistake("groups left out", "alexnet.caffe", convs(groups=1)),
    Mistake("pool before norm", "alexnet.caffe", pool_before_norm, scale=99),
    Mistake("norm before pool", "alexnet.caffenet", pool_before_norm, scale=99),
    Mistake("floor where Caffe has ceil", "alexnet.caffe", lambda s: {"pool": Pool(3, 2, "valid")}, side=71),
    Mistake("floor where Caffe has ceil", "resnet_v1_50.original", stem(pool="valid"), side=64),
    Mistake("padding where Caffe has ceil", "resnet_v1_50.original", stem(pool="symmetric"), side=64),
    Mistake("dense layer in (H, W, C) order", "alexnet.caffe", plant=flatten_hwc, side=71),
    Mistake("symmetric padding for SAME", "alexnet.tflearn", first_conv_padding(4), side=64),
    Mistake("pool1 padded on every side", "resnet_v2_50.slim", stem(pool="symmetric"), side=64),
    Mistake("pool1 padded as SAME", "resnet_v1_50.torchvision", stem(pool="same"), side=64),
    Mistake("conv1 padded as SAME", "resnet_v2_50.slim", stem(padding="same"), side=64),
    Mistake("conv1 padded as SAME", "resnet_v1_50.slim", stem(padding="same"), side=64),
    Mistake("conv1 padded as SAME", "resnet_v1_50.original", stem(padding="same"), side=64),
    Mistake("padded pool in the hand signs", "resnet_v1_50.signs", stem(pool="symmetric"), side=65),
    Mistake("stride in the 3x3", "resnet_v1_50.original", lambda s: {"stride_in": "middle"}),
    Mistake("stride in the 3x3", "resnet_v1_50.keras", lambda s: {"stride_in": "middle"}),
    Mistake("stride in the first 1x1", "resnet_v1_50.torchvision", lambda s: {"stride_in": "first"}),
    Mistake("stride in the first 1x1", "resnet_v2_50.timm", lambda s: {"stride_in": "first"}),
    Mistake("stride in the first unit", "resnet_v1_50.slim", strides_at_the_other_end),
    Mistake("stride in the first unit", "resnet_v2_50.slim", strides_at_the_other_end),
    Mistake("stride in the first unit", "resnet_v2_50.keras", strides_at_the_other_end),
    Mistake("stride in the last unit", "resnet_v2_50.timm", strides_at_the_other_end),
    Mistake("identity of the pre-activation", "resnet_v2_50.slim", plant=shortcuts(identity=True)),
    Mistake("projection of the raw input", "resnet_v2_50.slim", plant=shortcuts(identity=False)),
    Mistake("first pre-activation not shared", "resnet_v2_20.cifar", lambda s: {"first_shortcut": "raw"}),
    Mistake("no biases where no norm follows", "resnet_v2_50.slim", lambda s: {"open_bias": False}),
    Mistake("biases as in Slim", "resnet_v2_50.timm", lambda s: {"open_bias": True}),
    Mistake("no biases before the norms", "resnet_v1_50.keras", lambda s: {"conv_bias": False}),
    Mistake("-inf pad for a pad of zeros", "resnet_v2_50.keras", stem(pool="symmetric"), side=64),
    Mistake("eps of the applications", "resnet_v1_50.signs", lambda s: {"norm": Norm(1.001e-5, 0.01)}),
    Mistake("Keras's default eps", "resnet_v1_50.keras", lambda s: {"norm": Norm(1e-3, 0.01)}),
    Mistake("Keras's default eps", "resnet_v2_50.slim", lambda s: {"norm": Norm(1e-3, 0.003)}),
    Mistake("projection for padding", "resnet_v1_20.cifar", lambda s: {"shortcut": "projection"}),
    Mistake("ReLU for tanh", "alexnet.tflearn", lambda s: {"activation": "relu"}),
]


def shapes(network: Network) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def spec_of(mistake: Mistake) -> Spec:
    return tiny(mistake.row, **({"input_size": mistake.side} if mistake.side else {}))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: f"{one.row}: {one.what}")
def test_a_planted_mistake_is_caught(mistake: Mistake) -> None:
    spec = spec_of(mistake)
    right, twin = filled(spec), filled(spec)
    wrong = filled(spec.replaced(mistake.fields(spec)))
    mistake.plant(wrong)
    x = mistake.scale * pictures(spec, 2)
    with torch.no_grad():
        expected = right(x)
        assert torch.equal(twin(x), expected)
        if shapes(wrong) == shapes(right):
            assert relative(wrong(x), expected) > 1e-3


def test_keys_tell_some_mistakes() -> None:
    """Those of the table that never reach a number: their weights do not fit."""
    told = set()
    for mistake in MISTAKES:
        spec = spec_of(mistake)
        with torch.device("meta"):
            right, wrong = spec.build(), spec.replaced(mistake.fields(spec)).build()
        if shapes(wrong) != shapes(right):
            told.add(mistake.what)
    assert told == {
        "groups left out", "no biases where no norm follows", "biases as in Slim", "no biases before the norms",
        "projection for padding", "floor where Caffe has ceil",
    }  # fmt: skip


def test_after_a_relu_a_pad_of_zeros_is_no_mistake() -> None:
    """Keras pads v1's stem with zeros as well, but behind the ReLU, where none can win."""
    spec = tiny("resnet_v1_50.keras", input_size=64)
    x = pictures(spec, 2)
    with torch.no_grad():
        expected = filled(spec)(x)
        assert torch.equal(filled(spec.replaced(stem(pool="zeros")(spec)))(x), expected)


def trained_once(spec: Spec, x: Tensor) -> dict[str, Tensor]:
    network = filled(spec)
    before = {key: value.clone() for key, value in network.named_buffers() if "running_" in key}
    with torch.no_grad():
        network.train()(x)
    return {key: value - before[key] for key, value in network.named_buffers() if "running_" in key}


def test_a_decay_taken_for_a_momentum_is_caught() -> None:
    """torch's momentum is one minus the decay: TF-Slim's 0.997 moves the statistics by 0.3 % of the way."""
    spec = tiny("resnet_v2_50.slim")
    x = pictures(spec, 2)
    whole = trained_once(spec.replaced({"norm": Norm(momentum=1.0)}), x)
    right, wrong = trained_once(spec, x), trained_once(spec.replaced({"norm": Norm(momentum=0.997)}), x)
    for key, step in whole.items():
        assert relative(right[key], 0.003 * step) <= 1e-3, key
        assert relative(wrong[key], 0.003 * step) > 1, key


@pytest.mark.parametrize("name", ["alexnet.tflearn", "highway_19.cifar", "resnet_v2_50.slim"])
def test_softmax_comes_once_and_at_the_end(name: str) -> None:
    network = filled(tiny(name))
    x = pictures(network.spec, 2)
    with torch.no_grad():
        endpoints = network.forward_endpoints(x)
        logits, predictions = network(x), endpoints["predictions"]
    assert torch.equal(logits, endpoints["logits"])
    assert relative(logits, predictions) > 1e-3
    assert torch.allclose(predictions.sum(1), torch.ones(2))
    assert relative(torch.softmax(predictions, 1), predictions) > 1e-3  # a second softmax shows


def test_keep_probabilities_became_rates_that_drop() -> None:
    """tflearn's dropout(0.5) and the MNIST code's 0.8 keep; ours drop."""
    mnist, tflearn = find_spec("alexnet.mnist"), find_spec("alexnet.tflearn")
    assert isinstance(mnist, AlexNetSpec)
    assert isinstance(tflearn, AlexNetSpec)
    assert mnist.dropout == pytest.approx(1 - 0.8)
    assert tflearn.dropout == pytest.approx(1 - 0.5)


@pytest.mark.parametrize("depth", [50, 101, 152, 200])
def test_slims_classes(depth: int) -> None:
    assert find_spec(f"resnet_v1_{depth}.slim").num_classes == 1000
    assert find_spec(f"resnet_v2_{depth}.slim").num_classes == 1001  # class 0 is the background
