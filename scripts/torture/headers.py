"""Model files whose headers lie, in one process and by the command line in fresh ones."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

_FRESH_SHARE = 25  # of so many mutations one has a process of its own
_COUNTS = re.compile(r"processe?s?: (\d+) of (\d+)")


def headers(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:  # noqa: ARG001
    """Try `count` mutated headers in one process and a 25th of that in fresh ones.

    Returns the files, those that were treated as promised, and what went wrong.
    """
    fresh = max(count // _FRESH_SHARE, 1)
    seed = str(draw.randrange(10**6))
    command = [sys.executable, "-m", "tests.hostile_headers", "--seed", seed, "--count", str(count)]
    done = subprocess.run([*command, "--fresh", str(fresh)], capture_output=True, text=True, check=False)
    counts = [(int(good), int(whole)) for good, whole in _COUNTS.findall(done.stdout)]
    if len(counts) != 2:
        return count + fresh, 0, [done.stdout[-300:] + done.stderr[-300:]]
    good, whole = (sum(numbers) for numbers in zip(*counts, strict=True))
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("hostile headers", "  slowest"))]
    return whole, good, [f"seed {seed}: {line}" for line in lines] if good < whole else []
