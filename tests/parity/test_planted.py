"""The mistakes of `test_pitfalls`, planted into the parity cases: the references catch each of them.

What tells a mistake is either a name or a shape that the reference does not have, or a number ten times further off
than the case allows, where rounding never comes.
"""

from __future__ import annotations

import dataclasses

import pytest

from skipway.models.blocks import StackSpec
from skipway.models.network import Network
from tests.models.test_pitfalls import MISTAKES, Mistake, stem
from tests.parity.case import Case
from tests.parity.compare import apart, arrays_of, built, spec_of
from tests.parity.store import FIXTURES, load
from tests.parity.test_parity import CASES


def caught(case: Case, network: Network) -> bool:
    """Whether the reference's arrays tell this network from the right one."""
    ours, theirs = arrays_of(case, network), load(FIXTURES / f"{case.name}.npz")
    if {name: value.shape for name, value in ours.items()} != {name: one.shape for name, one in theirs.items()}:
        return True
    return max(one.relative for one in apart(ours, theirs)) > 10 * case.limit


def catches(mistake: Mistake, case: Case) -> bool:
    network = built(case, mistake.fields(spec_of(case)))
    mistake.plant(network)
    return caught(case, network)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: f"{one.row}: {one.what}")
def test_a_reference_catches_the_mistake(mistake: Mistake) -> None:
    cases = [case for case in CASES if case.row == mistake.row and case.fields.get("include_root_block", True)]
    assert any(catches(mistake, case) for case in sorted(cases, key=lambda case: case.side))


@pytest.mark.parametrize("case", [case for case in CASES if case.training], ids=lambda case: case.name)
def test_the_statistics_catch_a_decay_taken_for_a_momentum(case: Case) -> None:
    spec = spec_of(case)
    assert isinstance(spec, StackSpec)
    wrong = dataclasses.replace(spec.norm, momentum=1 - spec.norm.momentum)
    ours = arrays_of(case, built(case, {"norm": wrong}))
    found = apart(ours, load(FIXTURES / f"{case.name}.npz"))
    assert min(one.relative for one in found if one.name.startswith("stat:")) > 1e-3
    assert max(one.relative for one in found if not one.name.startswith("stat:")) <= case.limit


@pytest.mark.parametrize("side", [64, 65, 224, 225])
def test_even_sides_tell_how_the_stem_pads(side: int) -> None:
    """On odd ones TensorFlow's SAME for 7x7 at stride 2 is three pixels on every side, too."""
    case = next(case for case in CASES if case.name == f"tf_nn_resnet_{side}")
    assert not caught(case, built(case))
    assert caught(case, built(case, stem(padding="symmetric")(spec_of(case)))) == (side % 2 == 0)


@pytest.mark.parametrize("name", ["keras_signs_frozen_64", "keras_signs_live_64"])
def test_normalization_frozen_for_live_is_caught(name: str) -> None:
    """And live for frozen: the hand signs in the other mode differ at every endpoint."""
    case = next(case for case in CASES if case.name == name)
    ours = arrays_of(case, built(case).train(not case.training))
    found = apart(ours, load(FIXTURES / f"{name}.npz"))
    assert min(one.relative for one in found if not one.name.startswith("stat:")) > 1e-3
