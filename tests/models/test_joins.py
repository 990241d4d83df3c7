"""The shortcuts that the papers tried and left: option C, and scaled, gated and dropped identities in ResNet v1."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipway.errors import ModelFileError, SkipwayError
from skipway.models import BasicV1, BottleneckV1, UnitsV1, convolutional_block, create_model, find_spec, identity_block
from skipway.models.blocks import Row
from skipway.models.catalog import spec_from_dict
from skipway.models.joins import Carry, Gating
from skipway.models.shortcuts import Projection
from skipway.training.start import zero_residuals
from tests.contracts.tiny import relative
from tests.parity.compare import fill

CIFAR = "resnet_v1_20.cifar"
CARRIES: tuple[Carry, ...] = get_args(Carry)
GATED: tuple[Carry, ...] = ("exclusive_gate", "shortcut_gate")
UNITS = {"basic": BasicV1, "bottleneck": BottleneckV1}

# What comes in and the row: the same shape, more channels at half the side, half the side alone.
PLACES: tuple[tuple[int, Row], ...] = ((8, (8, 4, 1)), (4, (8, 4, 2)), (8, (8, 4, 2)))

# The paper's table 1: what comes of the shortcut, the branch and the gate in evaluation.
FORMULAS: dict[Carry, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda x, f, _: x + f,
    "scale": lambda x, f, _: 0.5 * x + 0.5 * f,
    "scale_shortcut": lambda x, f, _: 0.5 * x + f,
    "exclusive_gate": lambda x, f, g: (1 - g) * x + g * f,
    "shortcut_gate": lambda x, f, g: (1 - g) * x + f,
    "dropout": lambda x, f, _: x + f,
}


def made(kind: str, place: tuple[int, Row], **fields: Any) -> Any:
    """A unit whose weights and statistics are all some number of their own."""
    unit = UNITS[kind](*place, UnitsV1(shortcut="pad", **fields)).eval()
    fill(unit)
    return unit


def branch_of(unit: Any, x: Tensor, stride: int) -> Tensor:
    """F, from the weights alone."""
    numbers = [number for number in "123" if hasattr(unit, f"conv{number}")]
    for number in numbers:
        weight, norm = getattr(unit, f"conv{number}").weight, getattr(unit, f"norm{number}")
        x = F.conv2d(x, weight, stride=stride if number == "1" else 1, padding=weight.shape[2] // 2)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)
        x = x if number == numbers[-1] else F.relu(x)
    return x


def kept_of(x: Tensor, row: Row) -> Tensor:
    """Option A by hand: every `stride`-th pixel between channels of zeros."""
    depth, _, stride = row
    kept = torch.zeros(x.shape[0], depth, *x[:, :, ::stride, ::stride].shape[2:])
    start = (depth - x.shape[1]) // 2
    kept[:, start : start + x.shape[1]] = x[:, :, ::stride, ::stride]
    return kept


@pytest.mark.parametrize("carry", CARRIES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", UNITS)
def test_a_unit_is_the_papers_formula(kind: str, place: tuple[int, Row], carry: Carry) -> None:
    channels, row = place
    unit, x = made(kind, place, carry=carry), torch.rand(2, channels, 7, 6)
    with torch.no_grad():
        kept, branch = kept_of(x, row), branch_of(unit, x, row[2])
        g = torch.zeros(1)
        if carry in GATED:
            g = torch.sigmoid(F.conv2d(x, unit.join.gate.weight, unit.join.gate.bias, stride=row[2]))
            assert g.std() > 0.05  # it says something else for each value
        found = unit(x.clone())
        assert relative(found, F.relu(FORMULAS[carry](kept, branch, g))) <= 1e-5
        if carry not in {"identity", "dropout"}:
            assert relative(found, F.relu(kept + branch)) > 1e-2


def test_dropout_takes_half_of_the_shortcut_and_nothing_of_the_branch() -> None:
    unit, x = made("basic", (64, (64, 4, 1)), carry="dropout").train(), torch.rand(2, 64, 9, 9) + 0.1
    unit.norm2.weight.data.zero_()
    unit.norm2.bias.data.fill_(1.0)  # the branch is 1 everywhere
    with torch.no_grad():
        rest = unit(x.clone()) - 1
        dropped = rest == 0
        assert torch.allclose(rest[~dropped], 2 * x[~dropped])
        assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.03)
        assert not torch.equal(unit(x.clone()) - 1, rest)  # drawn afresh
        assert torch.allclose(unit.eval()(x.clone()), x + 1)


@pytest.mark.parametrize("bias", [-6.0, 0.0, -3])
@pytest.mark.parametrize("carry", GATED)
def test_gates_start_at_their_bias(carry: Carry, bias: float) -> None:
    network = create_model(CIFAR, carry=carry, gate_bias=bias)
    gates = [one for one in network.modules() if isinstance(one, Gating)]
    assert len(gates) == 9
    for one in gates:
        assert torch.equal(one.gate.bias, torch.full_like(one.gate.bias, bias))  # type: ignore[arg-type]
    drawn = torch.cat([one.gate.weight.flatten() * math.sqrt(one.gate.in_channels / 2) for one in gates])
    assert drawn.std().item() == pytest.approx(1, rel=0.05)  # He's deviation, as every convolution's
    assert isinstance(unit := identity_block(8, 4, carry=carry, gate_bias=bias).join, Gating)
    assert torch.equal(unit.gate.bias, torch.full_like(unit.gate.bias, bias))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        *(({"carry": carry}, 0) for carry in CARRIES if carry not in GATED),
        # A gate of 16, 32 or 64 channels for each unit; a stage's first sees half of them.
        *(({"carry": carry}, 3 * 272 + 544 + 2 * 1056 + 2112 + 2 * 4160) for carry in GATED),
        # Weights and a norm for each unit.
        ({"shortcut": "projection_all"}, 3 * 288 + 576 + 2 * 1088 + 2176 + 2 * 4224),
        ({"shortcut": "projection"}, 576 + 2176),
    ],
)
def test_what_is_learned_beside_the_branches(fields: dict[str, Any], more: int) -> None:
    network = create_model(CIFAR, **fields)
    assert sum(one.numel() for one in network.parameters()) == 269_722 + more


def test_option_c_projects_in_every_unit() -> None:
    network = create_model(CIFAR, shortcut="projection_all")
    shortcuts = [unit.shortcut for unit in network.modules() if isinstance(unit, BasicV1)]
    assert len(shortcuts) == 9
    assert all(isinstance(one, Projection) for one in shortcuts)
    bare = create_model(CIFAR, shortcut="projection_all", projection="bare")
    kinds = {type(unit.shortcut) for unit in bare.modules() if isinstance(unit, BasicV1)}
    assert kinds == {nn.Conv2d}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", UNITS)
def test_option_c_by_hand(kind: str, place: tuple[int, Row]) -> None:
    channels, row = place
    unit = UNITS[kind](*place, UnitsV1(shortcut="projection_all")).eval()
    fill(unit)
    x = torch.rand(2, channels, 7, 6)
    projection = unit.shortcut
    assert isinstance(projection, Projection)
    with torch.no_grad():
        norm = projection.norm
        kept = F.conv2d(x, projection.conv.weight, stride=row[2])
        kept = F.batch_norm(kept, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)
        assert relative(unit(x.clone()), F.relu(kept + branch_of(unit, x, row[2]))) <= 1e-5


@pytest.mark.parametrize("carry", CARRIES[1:])
def test_projections_are_added_as_they_are(carry: Carry) -> None:
    network = create_model(CIFAR, shortcut="projection", carry=carry)
    joins = {name: unit.join is not None for name, unit in network.named_modules() if isinstance(unit, BasicV1)}
    projecting = {"stage2.unit1", "stage3.unit1"}
    assert {name for name, joined in joins.items() if not joined} == projecting
    block = convolutional_block(8, 8, 4, stride=1, carry=carry)
    assert [key for key in block.state_dict() if key.startswith("join")] == []
    x = torch.rand(2, 8, 5, 5)
    plain = convolutional_block(8, 8, 4, stride=1).eval()
    plain.load_state_dict(block.state_dict())
    with torch.no_grad():
        assert torch.equal(block.eval()(x.clone()), plain(x.clone()))


@pytest.mark.parametrize("carry", [carry for carry in CARRIES if carry not in GATED])
def test_what_learns_nothing_draws_nothing(carry: Carry) -> None:
    """One seed gives all of them the same first weights, so that runs differ in the shortcut alone."""
    states = []
    for fields in ({}, {"carry": carry}):
        torch.manual_seed(3)
        states.append(create_model(CIFAR, **fields).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        *(
            (
                CIFAR,
                {"shortcut": "projection_all", "carry": carry},
                f"no shortcut to a carry of '{carry}'; give another",
            )
            for carry in CARRIES[1:]
        ),
        (
            CIFAR,
            {"carry": "gate"},
            "carry is 'gate'; it must be one of identity, scale, scale_shortcut, exclusive_gate",
        ),
        (CIFAR, {"gate_bias": float("nan")}, "gate_bias is nan; it must be a finite number"),
        (CIFAR, {"gate_bias": "-6"}, "gate_bias is '-6'; it must be a number"),
        ("resnet_v2_20.cifar", {"shortcut": "projection_all"}, "'projection_all'; it must be one of projection, pad$"),
        ("resnet_v2_20.cifar", {"carry": "scale"}, "unknown field of resnet_v2_20.cifar 'carry'"),
        ("plain_20.cifar", {"carry": "scale"}, "unknown field of plain_20.cifar 'carry'"),
    ],
)
def test_what_cannot_be_is_refused(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SkipwayError, match=message) as caught:
        create_model(name, **fields)
    assert name in str(caught.value)


def test_units_alone_are_checked_too() -> None:
    with pytest.raises(SkipwayError, match=r"^units: .* carry of 'scale'"):
        UnitsV1(shortcut="projection_all", carry="scale")
    with pytest.raises(SkipwayError, match="identity_block projects nothing; take convolutional_block"):
        identity_block(8, 4, shortcut="projection_all")


@pytest.mark.parametrize(
    "fields", [{"shortcut": "projection_all"}, *({"carry": carry, "gate_bias": -3.0} for carry in CARRIES)]
)
def test_a_spec_survives_json(fields: dict[str, Any]) -> None:
    spec = find_spec(CIFAR).replaced(fields)
    assert spec != find_spec(CIFAR)
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_from_before_there_was_a_choice() -> None:
    plain = find_spec(CIFAR).to_dict()
    for field in ("carry", "gate_bias"):
        del plain[field]
    assert spec_from_dict(plain) == find_spec(CIFAR)
    with pytest.raises(ModelFileError, match="no shortcut to a carry"):
        spec_from_dict(plain | {"shortcut": "projection_all", "carry": "dropout"})


@pytest.mark.parametrize(
    "fields", [{"shortcut": "projection_all"}, *({"shortcut": "pad", "carry": carry} for carry in CARRIES)]
)
@pytest.mark.parametrize("name", [CIFAR, "resnet_v1_50.torchvision"])
def test_zeroed_residuals_are_the_branches(name: str, fields: dict[str, Any]) -> None:
    """The last norm of each branch, and neither a projection's nor another."""
    network = create_model(name, num_classes=3, **fields)
    last = "norm2.weight" if name == CIFAR else "norm3.weight"
    zero_residuals(network)
    zeros = [key for key, value in network.named_parameters() if key.endswith("weight") and not value.any()]
    assert zeros == [key for key, _ in network.named_parameters() if key.endswith(last) and "shortcut" not in key]
    assert len(zeros) == (9 if name == CIFAR else 16)
