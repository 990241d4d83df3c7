"""A torch network of someone else's, filled by formula and watched at the modules that are our endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.parity.case import Case
from tests.parity.formula import loss_weights, parameter, pictures

if TYPE_CHECKING:
    from torch import Tensor, nn


def observed(
    case: Case, network: nn.Module, modules: Mapping[str, str], our_key: Callable[[str], str]
) -> dict[str, np.ndarray]:
    """All arrays of a case. `modules` maps our endpoint to the path of the module that makes it; the logits are what
    the network returns. `our_key` maps a key of their state dict to ours."""
    import torch

    torch.set_num_threads(1)
    fill(network, our_key)
    network.train(case.training)
    arrays: dict[str, np.ndarray] = {}
    for endpoint, path in modules.items():
        network.get_submodule(path).register_forward_hook(_recorder(arrays, endpoint))
    with torch.set_grad_enabled(case.gradient):
        logits = network(torch.from_numpy(pictures(case.batch, 3, case.side, case.scale)))
    arrays["logits"] = logits.detach().numpy()
    arrays["predictions"] = torch.softmax(logits.detach(), 1).numpy()
    if case.training:
        arrays |= {f"stat:{our_key(key)}": value.numpy() for key, value in network.named_buffers() if "running" in key}
    if case.gradient:
        (logits * torch.from_numpy(loss_weights(tuple(logits.shape)))).sum().backward()
        for key, value in network.named_parameters():
            assert value.grad is not None, key
            arrays[f"grad:{our_key(key)}"] = _ours(our_key(key), value.grad)
    return arrays


def fill(network: nn.Module, our_key: Callable[[str], str]) -> None:
    """Put the formula's values into every parameter and running statistic."""
    import torch

    state = {
        key: torch.from_numpy(parameter(our_key(key), tuple(value.shape)))
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing), missing


def _recorder(arrays: dict[str, np.ndarray], endpoint: str) -> Callable[[Any, Any, Tensor], None]:
    def record(module: Any, inputs: Any, output: Tensor) -> None:
        # A copy, because the next layer may work in place.
        value = output.detach().clone().numpy()
        arrays[endpoint] = value.reshape(value.shape[:2]) if endpoint == "pre_logits" else value

    return record


def _ours(key: str, gradient: Tensor) -> np.ndarray:
    """timm's classifier is a 1x1 convolution."""
    return (gradient.flatten(1) if key == "logits.weight" else gradient).numpy()
