"""What all tests share: no network but the machine's own, and the real data where they are at hand."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

# Tests are small: threads would only wait for each other, above all beside other work. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# matplotlib's list of fonts takes a second to make: once for all tests, and not in the home folder.
os.environ.setdefault("MPLCONFIGDIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "fonts"))

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
_LOCAL = {"127.0.0.1", "::1", "localhost"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would ask another machine fails at once instead of hanging or depending on it."""
    connect, find = socket.socket.connect, socket.getaddrinfo

    def local_connect(self: socket.socket, address: object) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in _LOCAL:  # type: ignore[index]
            raise OSError(f"tests may not connect to {address}")
        connect(self, address)  # type: ignore[arg-type]

    def local_find(host: object, *arguments: object, **named: object) -> object:
        if host not in {None, "", "0.0.0.0", *_LOCAL}:
            raise socket.gaierror(f"tests may not look up {host}")
        return find(host, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_find)


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def user_cache(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each test's cache would be; nobody's own is read or written."""
    folder = next(_caches)
    monkeypatch.setenv("SKIPWAY_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20121210)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real pictures and models, from SKIPWAY_TEST_DATA or beside the project."""
    folder = Path(os.environ.get("SKIPWAY_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set SKIPWAY_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three class folders, each of twelve noisy pictures of its colour, 16 pixels a side."""
    root = tmp_path_factory.mktemp("data") / "colours"
    draw = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            picture = draw.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            picture[..., channel] += 100
            Image.fromarray(picture).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: a small network that tells the colours apart."""
    from skipway.training.recipe import Recipe
    from skipway.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "colours"
    recipe = Recipe(name="fast", epochs=6, batch_size=12, learning_rate=3e-3, norm_momentum=0.3)
    train(colours, model="resnet_v1_20.cifar", image_size=16, recipe=recipe, workers=0, device="cpu", out=folder)
    return folder
