"""The names of the claims, apart from what it takes to run them: a wrong name is an error before torch is loaded."""

from __future__ import annotations

from skipway.errors import UnknownNameError

# In the order of the papers. For each there is a module of `experiments` with a CLAIM of that name.
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


def require_name(name: str) -> None:
    """Raises UnknownNameError unless there is a claim of that name."""
    if name not in NAMES:
        raise UnknownNameError("claim", name, NAMES, hint="`skipway reproduce --list` lists all")
