"""TensorFlow's fixtures and what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures" / "tensorflow"
FLOAT = 1


def expected(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "expected.npz") as kept:
        return {name.replace("|", "/"): kept[name] for name in kept.files}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
