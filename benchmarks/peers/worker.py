"""A contestant's side of a race: it sets up once, then measures when told to, and sleeps in between.

Standard library only, since each contestant has an interpreter and packages of its own. One JSON line on stdout answers
the set-up and every line `run N` on stdin; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[int], list[float]]


@dataclass(frozen=True)
class Ready:
    """A contestant that is set up. `run(n)` does n batches and gives the seconds of each.

    `facts` may hold `versions`, `parameters`, `answers` (a list of lists of numbers), `way` and `threads`.
    """

    run: Run
    facts: dict[str, Any] = field(default_factory=dict)


class LeaveError(Exception):
    """The contestant cannot take part; the message is one line that says why."""


def serve(set_up: Callable[[dict[str, Any]], Ready]) -> None:
    """Set up with the settings of the command line, warm up, then answer until stdin ends."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(row: dict[str, Any]) -> None:
        print(json.dumps(row), file=told, flush=True)

    try:
        settings = json.loads(sys.argv[1])
        ready = set_up(settings)
        warm = ready.run(int(settings.get("warmup", 2)))
        tell({"facts": ready.facts | {"python": platform.python_version(), "warm_seconds": warm[-1]}})
        for line in sys.stdin:
            gc.collect()
            gc.disable()
            tell({"seconds": ready.run(int(line.removeprefix("run ")))})
            gc.enable()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        tell({"error": f"{sys.executable} lacks {error.name}", "lacks": error.name})
        raise SystemExit(2) from None
    except LeaveError as error:
        tell({"error": str(error)})
        raise SystemExit(2) from None
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        tell({"error": f"{type(error).__name__}: {first[:300]}"})
        raise SystemExit(1) from None


def timed(step: Callable[[], object]) -> Run:
    """Runs `step` n times, each under the clock. The step must have ended when it returns."""

    def run(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            begun = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begun)
        return seconds

    return run


def fastest(ways: Mapping[str, Callable[[], Run]]) -> tuple[str, Run]:
    """The fastest of the documented ways to do the same, by the better of two batches after one that warms up.

    A way that fails is left out, with its error on stderr. Raises LeaveError when all fail.
    """
    best: tuple[float, str, Run] | None = None
    failed = ""
    for name, build in ways.items():
        try:
            run = build()
            run(1)
            seconds = min(run(2))
        except Exception as error:
            failed = f"{name}: {type(error).__name__}: {str(error).strip()[:200]}"
            traceback.print_exc()
            continue
        print(f"{name}: {seconds:.4f} s a batch", file=sys.stderr)
        if best is None or seconds < best[0]:
            best = (seconds, name, run)
        del run
    if best is None:
        raise LeaveError(failed.replace("\n", " "))
    return best[1], best[2]
