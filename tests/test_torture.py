"""A small part of `make torture`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("part", "scale"),
    [
        ("flips", 0.12),
        pytest.param("kills", 0.15, marks=pytest.mark.slow),
        pytest.param("writers", 0.25, marks=pytest.mark.slow),
        pytest.param("disk", 0.25, marks=pytest.mark.slow),
        pytest.param("ranks", 0.25, marks=pytest.mark.slow),
        pytest.param("cache-flips", 0.2, marks=pytest.mark.slow),
    ],
)
def test_a_part_of_it_holds(part: str, scale: float) -> None:
    command = [sys.executable, "-m", "scripts.torture", "--seed", "7", "--part", part, "--scale", str(scale)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{part}: ")
