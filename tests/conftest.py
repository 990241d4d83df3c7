"""What all tests share: no network but the machine's own, and the real data where they are at hand."""

from __future__ import annotations

import os
import socket
from pathlib import Path

# Tests are small: threads would only wait for each other, above all beside other work. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

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
