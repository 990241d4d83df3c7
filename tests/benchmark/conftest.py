"""Measurements that take no time."""

from __future__ import annotations

import gc

import pytest

from skipway.benchmark import peak


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SIZES", {"cpu": (128, 256)})
    monkeypatch.setattr(peak, "REPEATS", 1)
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # what a whole session of tests left behind takes a while
