"""First weights, each as its source draws them. Registered by name; a spec's `initialization` picks one."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import init

from skipway.errors import UnknownNameError

Layer = nn.Conv2d | nn.Linear


def initialize(network: nn.Module, name: str) -> None:
    """Draw every convolution's and linear layer's weights in place from torch's global generator.

    Norm layers keep torch's ones and zeros, which all sources share. Raises UnknownNameError for an unknown `name`.
    """
    require_initialization(name)
    for parameter in network.parameters():
        if parameter.is_meta:  # a network that is only looked at has no numbers
            return
    draw = INITIALIZATIONS[name]
    draw(network)


def require_initialization(name: str) -> None:
    """Raises UnknownNameError unless there is an initialization of that name."""
    if name not in INITIALIZATIONS:
        raise UnknownNameError("initialization", name, sorted(INITIALIZATIONS))


def _layers(network: nn.Module) -> list[tuple[str, Layer]]:
    """Name and module of each convolution and linear layer, in the order of registration."""
    layers: list[tuple[str, Layer]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            layers.append((name, module))
    return layers


def _fan_in(layer: Layer) -> int:
    """How many values of its input each output of the layer sums over."""
    fan_in, _ = init._calculate_fan_in_and_fan_out(layer.weight)
    return fan_in


def fill(bias: Tensor | None, value: float) -> None:
    """Set a bias, where there is one."""
    if bias is not None:
        init.constant_(bias, value)


def _zero_bias(layer: Layer) -> None:
    """Set a layer's bias to 0, where there is one."""
    fill(layer.bias, 0.0)


def _he(network: nn.Module) -> None:
    """N(0, 2 / fan_in), biases 0 (He et al. 2015, "Delving deep into rectifiers", section 2.2)."""
    for _, layer in _layers(network):
        init.kaiming_normal_(layer.weight, nonlinearity="relu")
        _zero_bias(layer)


def _normal_1(network: nn.Module) -> None:
    """N(0, 1) for weights and biases alike: `tf.random_normal` with its defaults, as the MNIST AlexNet has it."""
    for _, layer in _layers(network):
        init.normal_(layer.weight)
        if layer.bias is not None:
            init.normal_(layer.bias)


def _torchvision(network: nn.Module) -> None:
    """N(0, 2 / fan_out) for convolutions, torch's own default for linear layers (torchvision/models/resnet.py)."""
    for _, layer in _layers(network):
        if isinstance(layer, nn.Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            _zero_bias(layer)
        else:
            layer.reset_parameters()


def _slim(network: nn.Module) -> None:
    """Normal truncated at two deviations, variance 2 / fan_in after truncation (TF-Slim's
    `variance_scaling_initializer`, whose factor 1.3 makes up for the cut tails).
    """
    for _, layer in _layers(network):
        deviation = math.sqrt(1.3 * 2.0 / _fan_in(layer))
        init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        _zero_bias(layer)


def _keras_signs(network: nn.Module) -> None:
    """Glorot uniform, but U(-0.05, 0.05) in the identity blocks (the hand-signs code's `glorot_uniform` and
    `random_uniform`, both in their Keras defaults); biases 0.
    """
    prefixes: list[str] = []
    for name, module in network.named_modules():
        if isinstance(getattr(module, "shortcut", None), nn.Identity):
            prefixes.append(f"{name}.")
    in_identity_block = tuple(prefixes)
    for name, layer in _layers(network):
        if name.startswith(in_identity_block):
            init.uniform_(layer.weight, -0.05, 0.05)
        else:
            init.xavier_uniform_(layer.weight)
        _zero_bias(layer)


def _alexnet(hidden_deviation: float, bias: float) -> Callable[[nn.Module], None]:
    """N(0, 0.01), and N(0, `hidden_deviation`) in the hidden layers.

    Biases are `bias` in the hidden layers, in conv2, conv4 and conv5, and 0 in all others.
    """

    def draw(network: nn.Module) -> None:
        for name, layer in _layers(network):
            stage = name.split(".")[0]
            deviation, value = 0.01, 0.0
            if stage.startswith("fc"):
                deviation, value = hidden_deviation, bias
            elif stage in {"conv2", "conv4", "conv5"}:
                value = bias
            init.normal_(layer.weight, std=deviation)
            fill(layer.bias, value)

    return draw


def _cuda_convnet(network: nn.Module) -> None:
    """N(0, 1e-4) in the first convolution, which sees counts, N(0, 0.01) in the others, N(0, 0.1) in linear layers,
    biases 0 (cuda-convnet, example-layers/layers-18pct.cfg).
    """
    for name, layer in _layers(network):
        deviation = 0.1
        if name.split(".")[0] == "conv1":
            deviation = 1e-4
        elif isinstance(layer, nn.Conv2d):
            deviation = 0.01
        init.normal_(layer.weight, std=deviation)
        _zero_bias(layer)


def _tflearn(network: nn.Module) -> None:
    """Convolutions U(-a, a) with a = sqrt(3 / fan_in), linear layers a normal of deviation 0.02 truncated at two
    (tflearn's `uniform_scaling` and `truncated_normal`, the defaults of its `conv_2d` and `fully_connected`).
    """
    for _, layer in _layers(network):
        if isinstance(layer, nn.Conv2d):
            bound = math.sqrt(3 / _fan_in(layer))
            init.uniform_(layer.weight, -bound, bound)
        else:
            init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
        _zero_bias(layer)


def _glorot_uniform(network: nn.Module) -> None:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)), biases 0: Keras's default."""
    for _, layer in _layers(network):
        init.xavier_uniform_(layer.weight)
        _zero_bias(layer)


def _torch(network: nn.Module) -> None:
    """torch's own default for each layer, as torchvision's AlexNet has it."""
    for _, layer in _layers(network):
        layer.reset_parameters()


def _timm(network: nn.Module) -> None:
    """N(0, 2 / fan_out) for convolutions, N(0, 0.01) for the classifier, biases 0 (timm/models/resnetv2.py)."""
    for _, layer in _layers(network):
        if isinstance(layer, nn.Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        else:
            init.normal_(layer.weight, std=0.01)
        _zero_bias(layer)


INITIALIZATIONS: dict[str, Callable[[nn.Module], None]] = {
    "he": _he,
    "normal_1": _normal_1,
    "torchvision": _torchvision,
    "slim": _slim,
    "keras_signs": _keras_signs,
    "glorot_uniform": _glorot_uniform,
    "alexnet_paper": _alexnet(0.01, 1.0),  # Krizhevsky et al. 2012, section 5
    "caffe_alexnet": _alexnet(0.005, 0.1),  # BVLC models/bvlc_alexnet/train_val.prototxt
    "caffenet": _alexnet(0.005, 1.0),  # BVLC models/bvlc_reference_caffenet/train_val.prototxt
    "cuda_convnet": _cuda_convnet,
    "tflearn": _tflearn,
    "torch": _torch,
    "timm": _timm,
}
