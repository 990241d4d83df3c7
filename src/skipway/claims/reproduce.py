"""`reproduce`: a claim's runs, its verdict, its files."""

from __future__ import annotations

import time
from pathlib import Path

from skipway.claims.catalog import find_claim
from skipway.claims.claim import Settings
from skipway.claims.outcome import Reproduction, concluded
from skipway.claims.running import Where, run_claim
from skipway.training.console import Reporter, Silent
from skipway.world.holding import held


def reproduce(
    name: str, settings: Settings | None = None, where: Where | None = None, reporter: Reporter | None = None
) -> Reproduction:
    """Run a classic experiment and judge it. Finished runs of an earlier call are taken as they are.

    `settings` and `where` are by default the quick budget and a folder `claims`. `reporter` shows the progress.

    Raises UnknownNameError, DataError, StorageError, RunError where another process runs the claim into the same
    folder, and what training raises.
    """
    settings = settings or Settings()
    where = where or Where(Path("claims"))
    reporter = reporter or Silent()
    claim = find_claim(name)
    begun = time.perf_counter()
    with held(where.folder / claim.name):
        results = run_claim(claim, settings, where, reporter)
        seconds = time.perf_counter() - begun
        return concluded(claim, settings, where, results, seconds)
