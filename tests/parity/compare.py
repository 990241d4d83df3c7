"""Our side of a comparison: the same weights by formula, the same pictures, every endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from skipway.models.catalog import find_spec, spec_from_dict
from skipway.models.network import Network
from tests.parity.case import Case
from tests.parity.formula import loss_weights, parameter, pictures
from tests.parity.store import load, sampled


@dataclass(frozen=True)
class Difference:
    """One array: largest difference, relative to the reference's largest value."""

    name: str
    relative: float


def built(case: Case) -> Network:
    """Our network of a case, with weights by formula."""
    network = spec_from_dict(find_spec(case.row).to_dict() | case.fields).build()
    fill(network)
    return network.train(case.training)


def fill(network: torch.nn.Module) -> None:
    """Put the formula's values into every parameter and running statistic."""
    state = {
        key: torch.from_numpy(parameter(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    network.load_state_dict(state, strict=False)


def arrays_of(case: Case) -> dict[str, np.ndarray]:
    """What our network holds, under the names that `references` use."""
    network = built(case)
    x = torch.from_numpy(pictures(case.batch, network.spec.in_channels, case.side, case.scale))
    with torch.set_grad_enabled(case.gradient):
        endpoints = network.forward_endpoints(x)
    arrays = {name: value.detach().numpy() for name, value in endpoints.items()}
    if case.training:
        arrays |= {f"stat:{key}": value.numpy() for key, value in network.named_buffers() if "running_" in key}
    if case.gradient:
        logits = endpoints["logits"]
        (logits * torch.from_numpy(loss_weights(tuple(logits.shape)))).sum().backward()
        for key, value in network.named_parameters():
            assert value.grad is not None, key
            arrays[f"grad:{key}"] = value.grad.numpy()
    return arrays


def differences(case: Case, file: Path) -> list[Difference]:
    """Every array of the reference's file against ours. The two must hold the same names and shapes."""
    ours, theirs = arrays_of(case), load(file)
    assert set(theirs) == set(ours), f"{case.name}: only one side has {sorted(set(theirs) ^ set(ours))}"
    found = []
    for name, mine in ours.items():
        other = theirs[name]
        assert other.shape == mine.shape, f"{case.name}: {name} is {mine.shape}, the reference's {other.shape}"
        assert other.scale > 0, f"{case.name}: {name} is zero in the reference"
        apart = np.abs(sampled(mine, other.values.size).astype(np.float64) - other.values).max()
        found.append(Difference(name, float(apart) / other.scale))
    return found
