"""`reproduce`: a claim's runs, its verdict, its files."""

from __future__ import annotations

import time
from pathlib import Path

from skipway.claims.catalog import find_claim
from skipway.claims.claim import Settings
from skipway.claims.outcome import Reproduction, concluded
from skipway.claims.running import Where, run_claim
from skipway.errors import SkipwayError
from skipway.training.console import Reporter, Silent


def reproduce(
    name: str, settings: Settings | None = None, where: Where | None = None, reporter: Reporter | None = None
) -> Reproduction:
    """Run a classic experiment and judge it. Finished runs of an earlier call are taken as they are.

    Raises UnknownNameError, DataError, StorageError and what training raises.
    """
    settings, where = settings or Settings(), where or Where(Path("claims"))
    claim = find_claim(name)
    if min(settings.seeds, settings.seed, settings.epochs, where.processes) < 0:
        raise SkipwayError("--seeds, --seed, --epochs and --processes are counts; give 0 or more")
    begun = time.perf_counter()
    results = run_claim(claim, settings, where, reporter or Silent())
    return concluded(claim, settings, where, results, time.perf_counter() - begun)
