"""Run one source's original code and write what its endpoints hold: `python -m tests.parity.record slim --to DIR`.

Runs in the source's own environment: NumPy and the source's framework, no torch unless the source is torch.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from tests.parity.store import FIXTURES, SAMPLES, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference", help="module in tests/parity/references")
    parser.add_argument("--to", type=Path, default=FIXTURES)
    parser.add_argument("--full", action="store_true", help="networks at full depth, too, and every value")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    reference = importlib.import_module(f"tests.parity.references.{options.reference}")
    for case in reference.CASES:
        if (case.full and not options.full) or options.only not in case.name:
            continue
        start = time.monotonic()
        arrays = reference.run(case)
        save(options.to / f"{case.name}.npz", arrays, limit=10**9 if options.full else SAMPLES)
        print(f"{case.name}: {len(arrays)} arrays, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
