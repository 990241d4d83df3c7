"""The one table of claims."""

from __future__ import annotations

from importlib import import_module

from skipway.claims.claim import Claim
from skipway.claims.names import NAMES, require_name


def find_claim(name: str) -> Claim:
    """The claim of that name. Raises UnknownNameError."""
    require_name(name)
    module = import_module(f"skipway.claims.experiments.{module_name(name)}")
    claim = module.CLAIM
    assert isinstance(claim, Claim)
    return claim


def module_name(name: str) -> str:
    """The module of a claim: `v1-vs-v1.5` is in v1_vs_v1_5.py."""
    return name.replace("-", "_").replace(".", "_")


def all_claims() -> list[Claim]:
    """Every claim, in the order of the papers."""
    return [find_claim(name) for name in NAMES]
