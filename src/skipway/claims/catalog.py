"""The one table of claims."""

from __future__ import annotations

from importlib import import_module

from skipway.claims.claim import Claim
from skipway.errors import UnknownNameError

# In the order of the papers. Each module has a CLAIM of that name.
NAMES = (
    "relu-vs-tanh",
    "lrn",
    "overlapping-pooling",
    "dropout",
    "augmentation",
    "depth-matters",
    "highway",
    "degradation",
    "shortcuts",
    "identity-mappings",
    "skip-identity",
    "vanishing-gradients",
    "hand-signs",
    "v1-vs-v1.5",
)


def find_claim(name: str) -> Claim:
    """The claim of that name. Raises UnknownNameError."""
    if name not in NAMES:
        raise UnknownNameError("claim", name, NAMES, hint="`skipway reproduce --list` tells all")
    claim = import_module(f"skipway.claims.{module_name(name)}").CLAIM
    assert isinstance(claim, Claim)
    return claim


def module_name(name: str) -> str:
    """The module of a claim: `v1-vs-v1.5` lives in v1_vs_v1_5.py."""
    return name.replace("-", "_").replace(".", "_")


def all_claims() -> list[Claim]:
    """Every claim, in the order of the papers."""
    return [find_claim(name) for name in NAMES]
