"""Write a pair's files and what its framework answers: `python -m tests.parity.files.write torches resnet50 ...`.

Runs in the framework's own environment: NumPy and the framework, no torch unless the framework is torch.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

import numpy as np

LOGITS = "logits.npy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", help="module in tests/parity/files")
    parser.add_argument("name", help="name of one of its pairs")
    parser.add_argument("--photos", type=Path, required=True, help="folder of RGB .png files")
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    script = importlib.import_module(f"tests.parity.files.{options.script}")
    pair = next(one for one in script.PAIRS if one.name == options.name)
    start = time.monotonic()
    logits = np.asarray(script.write(pair, sorted(options.photos.glob("*.png")), options.to))
    assert np.isfinite(logits).all(), f"{pair.name}: logits are not finite"
    np.save(options.to / LOGITS, logits)
    print(f"{pair.name}: {', '.join(pair.files)}, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
