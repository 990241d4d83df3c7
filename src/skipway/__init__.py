"""The classic deep image networks, faithful to their sources: built, trained, judged and run.

Names are imported on first use, so that `import skipway` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skipway.privacy import switch_off_telemetry
from skipway.version import __version__

if TYPE_CHECKING:
    from skipway.errors import SkipwayError as SkipwayError
    from skipway.evaluation.judge import evaluate as evaluate
    from skipway.inference.classifier import load as load
    from skipway.models.catalog import create_model as create_model
    from skipway.models.catalog import list_models as list_models
    from skipway.training.recipe import Recipe as Recipe
    from skipway.training.run import resume as resume
    from skipway.training.run import train as train

switch_off_telemetry()

_HOMES = {
    "Recipe": "skipway.training.recipe",
    "SkipwayError": "skipway.errors",
    "create_model": "skipway.models.catalog",
    "evaluate": "skipway.evaluation.judge",
    "list_models": "skipway.models.catalog",
    "load": "skipway.inference.classifier",
    "resume": "skipway.training.run",
    "train": "skipway.training.run",
}

__all__ = ["__version__", *_HOMES]


if not TYPE_CHECKING:  # or type checkers would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'skipway' has no attribute '{name}'")
        return getattr(import_module(_HOMES[name]), name)
