"""`reproduce`: a claim's runs, its verdict, its files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skipway.claims.catalog import find_claim
from skipway.claims.claim import Settings
from skipway.claims.outcome import Reproduction, concluded
from skipway.claims.running import Where, run_claim
from skipway.errors import RunError, StorageError
from skipway.training.console import Reporter, Silent

try:
    import fcntl
except ImportError:  # Windows locks otherwise; there nothing keeps two commands apart
    fcntl: Any = None  # type: ignore[no-redef]


def reproduce(
    name: str, settings: Settings | None = None, where: Where | None = None, reporter: Reporter | None = None
) -> Reproduction:
    """Run a classic experiment and judge it. Finished runs of an earlier call are taken as they are.

    Raises UnknownNameError, DataError, StorageError and what training raises.
    """
    settings, where = settings or Settings(), where or Where(Path("claims"))
    claim = find_claim(name)
    begun = time.perf_counter()
    with _alone(where.folder / claim.name):
        results = run_claim(claim, settings, where, reporter or Silent())
        return concluded(claim, settings, where, results, time.perf_counter() - begun)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from running the same claim into the same folder; the system opens the lock when a process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror}); give another --out") from None
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    f"another process reproduces into {folder}; wait for it, or give another --out"
                ) from None
        yield
