"""`python -m scripts.torture [--seed N] [--part NAME]... [--scale X]`: attacks at random, a line `n of n` for each.

Exit code 1 where anything went wrong. Needs the repository around it, and 20 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# One thread, so that sums have one order; before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

from scripts.torture.caches import cache_attacks, cache_flips
from scripts.torture.disk import disk
from scripts.torture.flips import flips
from scripts.torture.headers import headers
from scripts.torture.kills import kills
from scripts.torture.ranks import ranks
from scripts.torture.writers import writers

Part = Callable[[Path, random.Random, int], tuple[int, int, list[str]]]

# What each line says of its successes, and how many attacks there are at scale 1.
PARTS: dict[str, tuple[Part, str, int]] = {
    "kills": (kills, "kills in runs that ended bit-equal", 35),
    "flips": (flips, "flipped bytes noticed or harmless", 70),
    "writers": (writers, "races for a run folder with one winner", 8),
    "cache-flips": (cache_flips, "flipped bytes in the cache after which the answers are the same", 15),
    "cache-attacks": (cache_attacks, "attacks on the cache that failed", 1),
    "headers": (headers, "lying headers refused in one line, or answered", 500),
    "ranks": (ranks, "killed ranks named, and resumed bit-equal", 4),
    "disk": (disk, "full disks with one line and nothing lost", 8),
}


def main() -> int:
    """Run the parts that were asked for; 0 where all went well."""
    options = _options()
    failed = False
    for name in options.part or list(PARTS):
        part, what, count = PARTS[name]
        draw = random.Random(f"{options.seed} {name}")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"skipway-torture-{name}-") as folder:
            done, good, failures = part(Path(folder), draw, max(round(count * options.scale), 1))
        line = f"{name}: {good} of {done} {what} ({time.monotonic() - began:.0f} s)"
        print(line if done else f"{name}: skipped, this machine does not allow it", flush=True)
        for failure in failures:
            print(f"  {failure}", flush=True)
        failed = failed or good < done
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.torture")
    parser.add_argument("--seed", type=int, default=0, help="other attacks for another number")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="this many times as many attacks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
