"""A claim from its data to its verdict and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skipway.claims import catalog, running, trial
from skipway.claims.claim import Claim, Settings
from skipway.claims.outcome import command_of, concluded
from skipway.claims.running import Where, run_claim
from skipway.claims.trial import Task
from skipway.training.console import Silent


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Runs go on in this process, where the small claim is known; yields those that were performed."""
    performed: list[Task] = []

    def perform(due: list[Task], processes: int, reporter: Any) -> list[Any]:
        performed.extend(due)
        return [trial.perform(task, lambda share: None) for task in due]

    monkeypatch.setattr(running, "_performed", perform)
    return performed


def files_of(claim: Claim, where: Where, settings: Settings | None = None) -> dict[str, Any]:
    settings = settings or Settings()
    made = concluded(claim, settings, where, run_claim(claim, settings, where, Heard()), 1.0)
    facts: dict[str, Any] = json.loads((made.folder / "result.json").read_text())
    return facts


def test_a_claim_leaves_its_files_and_its_verdict(
    small_claim: Claim, here: list[Task], data: Path, tmp_path: Path
) -> None:
    facts = files_of(small_claim, Where(tmp_path, str(data), "cpu"))
    folder = tmp_path / "small"
    assert facts["verdict"] in {"held", "failed", "undecided"}
    assert facts["seeds"] == [0, 1]
    assert len(facts["runs"]) == len(here) == 4
    assert {row["arm"] for row in facts["runs"]} == {"slow", "fast"}
    assert all(len(row["curve"]["step"]) == 2 for row in facts["runs"])
    assert (folder / "figure.svg").read_text().startswith("<?xml")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert facts["reason"] in page
    assert "data:image/svg+xml;base64," in page
    slow, fast = ([row["curve"]["train_loss"][-1] for row in facts["runs"] if row["arm"] == arm]
                  for arm in ("slow", "fast"))  # fmt: skip
    assert max(fast) < min(slow)


@pytest.mark.slow
def test_finished_runs_are_not_repeated(small_claim: Claim, here: list[Task], data: Path, tmp_path: Path) -> None:
    where = Where(tmp_path, str(data), "cpu")
    first = files_of(small_claim, where)
    here.clear()
    assert files_of(small_claim, where)["runs"] == first["runs"]
    assert here == []
    # Another seed is another run, a damaged result is none.
    next(tmp_path.glob("small/runs/quick/fast-0-*/trial.json")).write_text("{")
    files_of(small_claim, where, Settings(seeds=3))
    assert sorted((task.arm, task.seed) for task in here) == [("fast", 0), ("fast", 2), ("slow", 2)]
    # Another length is another run beside the old ones, which are still there when it is given up.
    here.clear()
    files_of(small_claim, where, Settings(epochs=1))
    assert len(here) == 4
    here.clear()
    assert files_of(small_claim, where)["runs"] == first["runs"]
    assert here == []


@pytest.mark.slow
def test_the_same_seeds_give_the_same_result(small_claim: Claim, here: list[Task], data: Path, tmp_path: Path) -> None:
    one, other = (files_of(small_claim, Where(tmp_path / name, str(data), "cpu")) for name in ("a", "b"))
    for facts in (one, other):
        assert facts.pop("times")["runs"][0]["seconds"] > 0
        assert facts.pop("made")["torch"]
    assert json.dumps(one) == json.dumps(other)
    figures = [(tmp_path / name / "small" / "figure.svg").read_bytes() for name in ("a", "b")]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was(
    small_claim: Claim, here: list[Task], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files_of(small_claim, Where(tmp_path / "whole", str(data), "cpu"))
    where, moved = (Where(tmp_path / name, str(data), "cpu") for name in ("cut", "moved"))

    def cut(task: Task, progress: Any) -> Any:
        def stop(share: float) -> None:
            if share > 0.7:
                raise KeyboardInterrupt

        return perform(task, stop)

    perform = trial.perform
    monkeypatch.setattr(trial, "perform", cut)
    with pytest.raises(KeyboardInterrupt):
        files_of(small_claim, where)
    monkeypatch.setattr(trial, "perform", perform)
    resumed = []
    real = trial.resume
    monkeypatch.setattr(trial, "resume", lambda *a, **k: (resumed.append(a), real(*a, **k)))
    where.folder.rename(moved.folder)
    again = files_of(small_claim, moved)
    assert len(resumed) == 1
    assert again["runs"] == whole["runs"]


def test_a_single_seed_decides_nothing(small_claim: Claim, here: list[Task], data: Path, tmp_path: Path) -> None:
    facts = files_of(small_claim, Where(tmp_path, str(data), "cpu"), Settings(seeds=1))
    assert facts["verdict"] == "undecided"
    assert "--seeds" in facts["reason"]


def test_a_run_that_diverges_is_a_result(
    small_claim: Claim, here: list[Task], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arms(budget: Any) -> Any:
        slow, fast = small_claim.arms(budget)
        return slow, replace(fast, recipe=fast.recipe.replaced(learning_rate=1e30))

    diverging = replace(small_claim, arms=arms, look=None)
    monkeypatch.setattr(catalog, "find_claim", lambda _: diverging)
    facts = files_of(diverging, Where(tmp_path, str(data), "cpu"))
    assert facts["verdict"] == "undecided"
    assert "2 of 2 runs have no value" in facts["reason"]
    slow, fast = (next(row["curve"] for row in facts["runs"] if row["arm"] == arm) for arm in ("slow", "fast"))
    assert fast["step"] == slow["step"]
    assert fast["test_error"][-1] is None


@pytest.mark.slow
def test_the_page_tells_how_to_get_this_very_result(
    small_claim: Claim, here: list[Task], data: Path, tmp_path: Path
) -> None:
    settings = Settings(seeds=2, seed=3, epochs=1)
    told = command_of(small_claim, settings, Where(tmp_path, str(data), "cpu"))
    assert told == (
        "skipway reproduce small --budget quick --seeds 2 --seed 3 --epochs 1 "
        f"--data {data} --out {tmp_path} --device cpu"
    )
    facts = files_of(small_claim, Where(tmp_path, str(data), "cpu"), settings)
    assert "--epochs 1" in facts["said"]
    assert told in (tmp_path / "small" / "report.html").read_text()
