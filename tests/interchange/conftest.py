"""What tests of weights share: the files that frameworks wrote, and where to put a model."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures" / "importing"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case, with the framework's files and `logits.npz`."""
    folder = tmp_path_factory.mktemp("written")
    for archive in FIXTURES.glob("*.tar.xz"):
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
    return folder


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"
