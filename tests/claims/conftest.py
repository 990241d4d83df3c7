"""Small data and a small claim: two networks that train in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skipway.claims import catalog
from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import RULE, draw_errors, judge_gain, small_recipe
from skipway.claims.networks import four_layers


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes of flat colours under noise, which a network learns at once."""
    draw = np.random.default_rng(seed)
    targets = np.arange(count) % 10
    base = np.random.default_rng(7).integers(40, 216, (10, 1, 1, 3))
    noisy = base[targets] + draw.integers(-30, 31, (count, 32, 32, 3))
    return noisy.clip(0, 255).astype(np.uint8), targets.astype(np.int64)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as --data takes it, with a small cifar10/."""
    folder = tmp_path_factory.mktemp("claimdata")
    (folder / "cifar10").mkdir()
    for name, count, seed in (("train", 80, 1), ("test", 40, 2)):
        x, y = pictures(count, seed)
        np.savez(folder / "cifar10" / f"{name}.npz", x=x, y=y)
    return folder


def small_arms(budget: Budget) -> tuple[Arm, ...]:
    spec = four_layers().replaced({"convs": four_layers().convs[:1]})
    epochs = 2 if budget == "quick" else 3
    return tuple(
        Arm(name, name, spec, small_recipe(epochs=epochs, batch_size=20, learning_rate=rate), pictures=60)
        for name, rate in (("slow", 1e-9), ("fast", 1e-6))
    )


SMALL = Claim(
    name="small",
    sentence="A rate above 0 helps.",
    source="this test",
    reported="nothing",
    rule=RULE.format(without="with a slow rate", with_="with a fast one"),
    said={"quick": "little", "full": "a little more"},
    seeds={"quick": 2, "full": 2},
    arms=small_arms,
    judge=judge_gain("slow", "fast"),
    draw=draw_errors,
    look=lambda finished: {"train_error": finished.error("train"), "times": {"looked": 1.0}},
)


@pytest.fixture
def small_claim(monkeypatch: pytest.MonkeyPatch) -> Claim:
    """The small claim, which `find_claim` finds. Only within this process: its runs cannot be sent to others."""
    real = catalog.find_claim
    monkeypatch.setattr(catalog, "find_claim", lambda name: SMALL if name == "small" else real(name))
    return SMALL
