"""Every endpoint of small networks against what the original code computed (see `references/`)."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.parity.case import Case
from tests.parity.compare import differences
from tests.parity.store import FIXTURES

REFERENCES = sorted(
    file.stem for file in (Path(__file__).parent / "references").glob("*.py") if file.stem != "__init__"
)
CASES: list[Case] = [
    case
    for name in REFERENCES
    for case in importlib.import_module(f"tests.parity.references.{name}").CASES
    if not case.full
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_the_original(case: Case) -> None:
    for found in differences(case, FIXTURES / f"{case.name}.npz"):
        assert found.relative <= case.limit, f"{found.name}: {found.relative:.2e}"


def test_no_fixture_is_left_over() -> None:
    assert {file.stem for file in FIXTURES.glob("*.npz")} == {case.name for case in CASES}
