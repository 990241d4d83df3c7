"""Small data sets that a network learns in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 16
CLASSES = ("blue", "green", "red")


def coloured(label: int, draw: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """A noisy picture whose strongest channel is its class."""
    picture = draw.integers(0, 120, (side, side, 3), dtype=np.uint8)
    picture[..., 2 - label] += 100
    return picture


def write_classes(root: Path, each: int, seed: int = 0) -> Path:
    """A folder of three class folders of PNG files."""
    draw = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(coloured(label, draw)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twelve pictures."""
    return write_classes(tmp_path_factory.mktemp("data") / "colours", 12)


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder with train.npz and test.npz, 60 and 30 pictures."""
    root = tmp_path_factory.mktemp("data") / "colour-arrays"
    root.mkdir()
    for name, each, seed in (("train", 20, 1), ("test", 10, 2)):
        draw = np.random.default_rng(seed)
        x = np.stack([coloured(label, draw) for _ in range(each) for label in range(3)])
        np.savez(root / f"{name}.npz", x=x, y=np.tile(np.arange(3), each))
    return root
