"""Run every reference anew, at full depth too, and print how far each is from ours: `make parity`."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from tests.parity.compare import differences
from tests.parity.files import judge as files
from tests.parity.line import Line
from tests.parity.store import FIXTURES, SAMPLES, load, sampled
from tests.parity.test_parity import REFERENCES

ROOT = Path(__file__).resolve().parents[2]


def judge(module: ModuleType, folder: Path) -> Line:
    """Compare the freshly recorded arrays with ours and with the committed samples."""
    line = Line(module.OURS, module.THEIRS)
    for case in module.CASES:
        file = folder / f"{case.name}.npz"
        found = differences(case, file)
        line.cases += 1
        line.arrays += len(found)
        worst = max(found, key=lambda one: one.relative)
        line.saw(worst.relative, f"{case.name}: {worst.name}")
        if worst.relative > case.limit:
            line.failed += (f"{case.name}: {worst.name} differs by {worst.relative:.1e}, over {case.limit:.0e}",)
        if not case.full and not same_as_committed(file):
            line.failed += (f"{case.name}: the committed fixture is not what the reference gives now",)
        file.unlink()
    return line


def same_as_committed(file: Path) -> bool:
    """Whether the fixture in the repository holds the samples of these arrays, up to another machine's rounding."""
    fresh, committed = load(file), load(FIXTURES / file.name)
    return fresh.keys() == committed.keys() and all(
        np.abs(sampled(fresh[name].values, SAMPLES) - committed[name].values).max() <= 1e-4 * one.scale
        for name, one in fresh.items()
    )


def table(lines: list[Line]) -> str:
    """The lines as text."""
    rows = [("ours", "the reference", "cases", "arrays", "largest difference", "")]
    for line in lines:
        verdict = "FAILED" if line.failed else "equal"
        rows.append((line.ours, line.theirs, str(line.cases), str(line.arrays), f"{line.worst:.1e}", verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    text = ["  ".join([cell.ljust(width) for cell, width in zip(row, [*widths, 6], strict=True)]) for row in rows]
    text += [f"  worst: {line.where} {line.worst:.1e}" for line in lines]
    return "\n".join([*text, *(f"FAILED {one}" for line in lines for one in line.failed)])


def networks(pythons: Mapping[str, str], only: str) -> Iterator[Line]:
    """Every endpoint of networks with weights by formula."""
    for name in REFERENCES:
        if only not in name:
            continue
        module = importlib.import_module(f"tests.parity.references.{name}")
        print(f"{name}: {module.THEIRS}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [pythons[module.ENVIRONMENT], "-W", "ignore", "-m", "tests.parity.record", name, "--full"]
            subprocess.run([*command, "--to", folder], cwd=ROOT, check=True, stdout=sys.stderr)
            yield judge(module, Path(folder))


def weight_files(pythons: Mapping[str, str], only: str) -> Iterator[Line]:
    """The frameworks' own weight files, imported, on real photos."""
    photos = files.photo_files()
    if not photos:
        print("no photos, so no weight files are compared; set SKIPWAY_TEST_DATA", file=sys.stderr)
        return
    for pair in files.PAIRS:
        if only in f"files/{pair.script}/{pair.name}":
            print(f"files/{pair.script}/{pair.name}: {pair.theirs}", file=sys.stderr, flush=True)
            yield files.run(pair, pythons, photos)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensorflow", required=True, help="Python with TensorFlow 2.15, tf_slim and OpenCV")
    parser.add_argument("--keras", required=True, help="Python with Keras 3")
    parser.add_argument("--timm", required=True, help="Python with timm")
    parser.add_argument("--only", default="", help="references, and files/SCRIPT/PAIR, whose name contains this")
    options = parser.parse_args()
    pythons = {
        "tensorflow": options.tensorflow,
        "keras": options.keras,
        "timm": options.timm,
        "own": sys.executable,
    }
    lines = [*networks(pythons, options.only), *weight_files(pythons, options.only)]
    print(table(lines))
    return 1 if any(line.failed for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
