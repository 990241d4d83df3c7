"""Which cases of a test run in `make test`, and which only in `make test-all`."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], quick: Container[Any]) -> list[Any]:
    """The cases as parameters, all of them slow but those in `quick`."""
    return [case if case in quick else _slow(case) for case in cases]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
