"""One run of an arm: continued where it can be, begun again only where no checkpoint can be read."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from skipway.claims import trial
from skipway.claims.claim import Claim, Settings
from skipway.claims.data import place_for, require_data
from skipway.claims.trial import Task, perform
from skipway.errors import RunError
from skipway.training.state import checkpoints


@pytest.fixture
def stopped(small_claim: Claim, data: Path, tmp_path: Path) -> Task:
    """A run that Ctrl-C ended after its first epoch."""
    arm = small_claim.arms("quick")[1]
    place = place_for(arm, require_data(str(data), {arm.data}, tmp_path), tmp_path)
    task = Task(small_claim.name, arm.name, 0, Settings(), place, tmp_path / "run", "cpu")

    def stop(share: float) -> None:
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(task, stop)
    return task


@pytest.fixture
def begun_again(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of `train`."""
    calls: list[Any] = []
    train = trial.train

    def noted(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        return train(*arguments, **options)

    monkeypatch.setattr(trial, "train", noted)
    return calls


def _none_written(folder: Path) -> None:
    for file in checkpoints(folder):
        file.unlink()


def _all_damaged(folder: Path) -> None:
    for file in checkpoints(folder):
        file.write_bytes(b"half of it")


@pytest.mark.parametrize("lose", [_none_written, _all_damaged])
def test_a_run_without_a_checkpoint_begins_again(
    stopped: Task, begun_again: list[Any], lose: Callable[[Path], None]
) -> None:
    lose(stopped.folder)
    assert perform(stopped, lambda share: None).curve["step"] == [3.0, 6.0]
    assert len(begun_again) == 1


def _one_damaged(folder: Path) -> None:
    checkpoints(folder)[-1].write_bytes(b"half of it")


def test_an_older_checkpoint_is_enough_to_go_on(stopped: Task, begun_again: list[Any]) -> None:
    _one_damaged(stopped.folder)
    assert checkpoints(stopped.folder)[:-1], "there is an older one"
    perform(stopped, lambda share: None)
    assert begun_again == []


def _unreadable(folder: Path) -> None:
    """As a checkpoint without permission: whoever runs the tests may read any file."""
    newest = checkpoints(folder)[-1]
    newest.unlink()
    newest.mkdir()


def _of_other_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipway.training.resuming.world_size", lambda: 2)


def _edited(folder: Path) -> None:
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("epochs = 2", "epochs = 3"))


def test_whatever_else_keeps_a_run_from_going_on_is_told(
    stopped: Task, begun_again: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped.folder
    with monkeypatch.context() as patch:
        _of_other_processes(folder, patch)
        _refused(stopped, "was trained by 1 process, and now there are 2, which")
    config = (folder / "config.toml").read_text()
    _edited(folder)
    _refused(stopped, "was edited since the run began")
    (folder / "config.toml").write_text(config)
    me = {"process": os.getpid(), "machine": socket.gethostname(), "since": "noon"}
    with FileLock(folder / ".lock"):
        (folder / ".holder.json").write_text(json.dumps(me))
        _refused(stopped, f"is in use by process {os.getpid()}")
    _unreadable(folder)
    _refused(stopped, "cannot be read")
    assert begun_again == []


def _refused(task: Task, told: str) -> None:
    with pytest.raises(RunError) as refused:
        perform(task, lambda share: None)
    assert re.search(told, str(refused.value))
