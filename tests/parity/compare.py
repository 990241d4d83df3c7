"""Our side of a comparison: the same weights by formula, the same pictures, every endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skipway.models.catalog import find_spec, spec_from_dict
from skipway.models.network import Network, Spec
from tests.parity.case import Case
from tests.parity.formula import loss_weights, parameter, pictures
from tests.parity.store import Stored, load, sampled


@dataclass(frozen=True)
class Difference:
    """One array: largest difference, relative to the reference's largest value."""

    name: str
    relative: float


def spec_of(case: Case) -> Spec:
    """The row's spec with the case's fields."""
    return spec_from_dict(find_spec(case.row).to_dict() | case.fields)


def built(case: Case, fields: Mapping[str, Any] | None = None) -> Network:
    """Our network of a case, with weights by formula; `fields` change its spec once more."""
    network = spec_of(case).replaced(fields or {}).build()
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


def arrays_of(case: Case, network: Network) -> dict[str, np.ndarray]:
    """What a network of ours holds after the case's pictures, under the names that `references` use."""
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
    ours, theirs = arrays_of(case, built(case)), load(file)
    assert set(theirs) == set(ours), f"{case.name}: only one side has {sorted(set(theirs) ^ set(ours))}"
    for name, mine in ours.items():
        other = theirs[name]
        assert other.shape == mine.shape, f"{case.name}: {name} is {mine.shape}, the reference's {other.shape}"
        assert other.scale > 0, f"{case.name}: {name} is zero in the reference"
    return apart(ours, theirs)


def apart(ours: dict[str, np.ndarray], theirs: dict[str, Stored]) -> list[Difference]:
    """How far each of our arrays is from theirs, which have the same names and shapes."""
    found = []
    for name, mine in ours.items():
        other = theirs[name]
        largest = np.abs(sampled(mine, other.values.size).astype(np.float64) - other.values).max()
        found.append(Difference(name, float(largest) / other.scale))
    return found
