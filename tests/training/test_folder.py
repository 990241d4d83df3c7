"""A run folder belongs to one process at a time, and an older run in it is never lost to one that does not begin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skipway.errors import DataError, DivergedError, RunError, StorageError
from skipway.training import folder as folder_module
from skipway.training import state
from skipway.training.console import Silent
from skipway.training.loop import Loop
from skipway.training.recipe import Recipe
from skipway.training.run import resume, train
from skipway.world import holding
from tests.training.conftest import write_classes

RECIPE = Recipe(name="short", epochs=2, batch_size=10, learning_rate=1e-3)
NETWORK: dict[str, Any] = {"model": "plain_mlp_2", "image_size": 16, "workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("folder") / "data", 11)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(data, recipe=RECIPE, out=folder, **NETWORK)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def holder(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder until it is killed."""
    # As `held` does it, but without the seconds that torch takes to load.
    code = """
import json, os, pathlib, socket, sys, time
from filelock import FileLock
run = pathlib.Path(sys.argv[1])
with FileLock(run / ".lock"):
    me = {"process": os.getpid(), "machine": socket.gethostname(), "since": "noon"}
    (run / ".holder.json").write_text(json.dumps(me))
    print("held", flush=True)
    time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_run_that_another_process_holds_is_left_alone(
    run: Path, data: Path, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    before = _contents(run)
    for attempt in (
        lambda: resume(run),
        lambda: train(data, recipe=RECIPE, out=run, overwrite=True, **NETWORK),
    ):
        with pytest.raises(RunError, match=rf"in use by process {holder.pid} on {socket.gethostname()}"):
            attempt()
    assert _contents(run) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (run / ".holder.json").exists(), "a killed process leaves its name"
    assert resume(run).epochs == 2, "and that is no obstacle"
    assert not (run / ".holder.json").exists()


def test_workers_of_a_dead_process_are_waited_for(run: Path, holder: subprocess.Popen[str]) -> None:
    """They hold its lock until they see that they are alone."""
    (run / ".holder.json").write_text(json.dumps({"process": 2**22 - 1, "machine": socket.gethostname(), "since": "x"}))
    began = time.monotonic()

    threading.Timer(0.5, holder.kill).start()
    assert resume(run).epochs == 2
    assert time.monotonic() - began >= 0.4


def test_a_holder_that_has_not_said_its_name_yet_is_waited_for(run: Path, holder: subprocess.Popen[str]) -> None:
    name = (run / ".holder.json").read_text()
    (run / ".holder.json").unlink()
    threading.Timer(0.5, lambda: (run / ".holder.json").write_text(name)).start()
    with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
        resume(run)


def test_whatever_stands_as_the_holder(
    run: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_NAMELESS_S", 0.1)
    for text in ("", "{", "[]", '{"process": "x"}', '{"process": 1e400, "machine": "m", "since": 1}'):
        (run / ".holder.json").write_text(text)
        with pytest.raises(RunError, match="in use by another process"):
            resume(run)


def test_two_trainings_into_one_folder_leave_one_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "both"
    code = """
import sys, torch
torch.set_num_threads(1)
from skipway.cli import main
main(["train", sys.argv[1], "--model", "plain_mlp_2", "--image-size", "16", "--workers", "0", "--device", "cpu",
      "--epochs", "2", "--seed", sys.argv[3], "--out", sys.argv[2]])
"""
    command = [sys.executable, "-c", code, str(data), str(out)]
    both = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE, text=True) for seed in (1, 2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], errors
    winner = codes.index(0)
    assert f"seed = {winner + 1}\n" in (out / "config.toml").read_text()
    refusal = errors[1 - winner].strip().splitlines()[-1]
    assert refusal.startswith("error: ")
    assert "in use by process" in refusal or "holds a run already" in refusal


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the first checkpoint finds the disk full": lambda patch: patch.setattr(state, "write_sealed", _full),
    "the list of pictures finds the disk full": lambda patch: patch.setattr("gzip.GzipFile.__init__", _full),
    "Ctrl-C": lambda patch: patch.setattr(state, "write_sealed", _stopped),
}


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def _stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", FAILURES)
def test_overwrite_puts_the_old_run_back_when_the_new_one_fails(
    run: Path, data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _contents(run)
    FAILURES[name](monkeypatch)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        train(data, recipe=RECIPE, seed=9, out=run, overwrite=True, **NETWORK)
    assert _contents(run) == before


def test_overwrite_replaces_once_the_new_run_has_begun(run: Path, data: Path) -> None:
    (run / "notes.txt").write_text("the user's own")
    train(data, recipe=RECIPE, seed=9, out=run, overwrite=True, **NETWORK)
    assert "seed = 9\n" in (run / "config.toml").read_text()
    assert not (run / ".replaced").exists()
    assert (run / "notes.txt").exists()


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_new_run_that_diverges_at_once_gives_the_old_one_back(run: Path, data: Path) -> None:
    before, heard = _contents(run), Heard()
    wild = RECIPE.replaced(optimizer="sgd", learning_rate=1e30)
    with pytest.raises(DivergedError, match="no checkpoint was written yet") as refused:
        train(data, recipe=wild, seed=9, out=run, overwrite=True, reporter=heard, **NETWORK)
    assert _contents(run) == before
    assert "step-" not in str(refused.value), "the new run's checkpoint is gone"
    assert f"{run}: the run that was to be replaced is back" in heard.lines[-1]
    assert not (run / ".replaced").exists()
    assert resume(run).epochs == 2


def test_a_new_run_that_diverges_after_a_checkpoint_is_the_run(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Loop._check_finite

    def late(self: Loop) -> None:
        if self.progress.step == 3:
            self._raise_diverged(3)
        check(self)

    monkeypatch.setattr(Loop, "_check_finite", late)
    with pytest.raises(DivergedError, match=r"step-00000002\.pt is the last good checkpoint"):
        train(data, recipe=RECIPE.replaced(checkpoint_steps=1), seed=9, out=run, overwrite=True, **NETWORK)
    assert not (run / ".replaced").exists()
    assert "seed = 9\n" in (run / "config.toml").read_text()


def test_a_second_ctrl_c_before_the_first_checkpoint_gives_the_old_run_back(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: Loop) -> None:
        raise KeyboardInterrupt("stopped at once; `skipway resume` continues from the last checkpoint")

    before = _contents(run)
    monkeypatch.setattr(Loop, "_after_step", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(data, recipe=RECIPE, seed=9, out=run, overwrite=True, **NETWORK)
    assert str(stop.value).startswith(f"stopped; {run}: the run that was to be replaced is back")
    assert _contents(run) == before


def test_ctrl_c_after_a_step_keeps_the_new_run(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after_step = Loop._after_step

    def asked(self: Loop) -> None:
        self._stop_asked = True
        after_step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="stopped at step 1"):
        patch.setattr(Loop, "_after_step", asked)
        train(data, recipe=RECIPE, seed=9, out=run, overwrite=True, **NETWORK)
    assert not (run / ".replaced").exists()
    assert resume(run).epochs == 2
    assert "seed = 9\n" in (run / "config.toml").read_text()


def test_a_run_without_trained_weights_gives_way_to_a_checkpoint_of_step_0(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost with it, and the new one can be resumed."""
    for file in folder_module.written_by_a_run(run):
        if file.name != "config.toml":
            file.unlink()
    monkeypatch.setattr(Loop, "_after_step", _stopped)
    with pytest.raises(KeyboardInterrupt, match="continues from the last checkpoint"):
        train(data, recipe=RECIPE, seed=9, out=run, overwrite=True, **NETWORK)
    monkeypatch.undo()
    assert resume(run).epochs == 2
    assert "seed = 9\n" in (run / "config.toml").read_text()


def test_a_kill_between_a_checkpoint_and_the_deletion_leaves_the_new_run(run: Path, tmp_path: Path) -> None:
    before = _contents(run)
    shutil.copytree(run, tmp_path / "old")
    (tmp_path / "old" / "moved").write_text("")
    (tmp_path / "old").rename(run / ".replaced")
    assert not folder_module.put_back(run)
    assert _contents(run) == before


_KILLED = """
import json, os, signal, sys
from pathlib import Path
from skipway.training import folder, run
from skipway.training.recipe import Recipe

job = json.loads(sys.argv[1])
rename, save, count = Path.rename, run.Loop.save, 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(self, target):
    global count
    if count == job["renames"]:
        die()
    count += 1
    return rename(self, target)

def attempt():
    global count
    count = 0
    folder.Path.rename = counted
    if job["renames"] == "at the first checkpoint":
        run.Loop.save = lambda self: die()
    if job["renames"] == "at the first step":
        run.Loop.run = lambda self: die()
    recipe = Recipe(epochs=2, batch_size=10)
    run.train(job["data"], recipe=recipe, seed=9, out=job["run"], overwrite=True, **job["network"])

for _ in range(job["times"]):  # in children, so that torch is loaded once
    if (child := os.fork()) == 0:
        attempt()
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.parametrize("renames", [0, 1, 3, 6, "at the first checkpoint", "at the first step"])
def test_kills_before_the_first_step_lose_nothing(run: Path, data: Path, renames: int | str) -> None:
    """Twice at the same place: before a file is moved, between two, and after all of them."""
    before = _contents(run)
    job = {"data": str(data), "run": str(run), "renames": renames, "times": 2, "network": NETWORK}
    command = [sys.executable, "-c", _KILLED, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * 2, done.stderr
    with pytest.raises(RunError, match="holds a run already"):
        train(data, recipe=RECIPE, out=run, **NETWORK)
    assert resume(run).epochs == 2
    after = _contents(run)
    for name in ("config.toml", "pictures.csv.gz", *(name for name in before if name.startswith("checkpoints/"))):
        assert after[name] == before[name], name
    assert not (run / ".replaced").exists()


def test_a_kill_while_the_old_run_is_deleted_leaves_the_new_one(run: Path) -> None:
    before = _contents(run)
    (run / ".discarded" / "checkpoints").mkdir(parents=True)
    (run / ".discarded" / "config.toml").write_text("old")
    assert not folder_module.put_back(run)
    assert _contents(run) == before


def test_a_link_in_place_of_the_kept_run_is_not_followed(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.toml").write_text("precious")
    (run / ".replaced").symlink_to(outside)
    assert not folder_module.put_back(run)
    assert (outside / "config.toml").read_text() == "precious"


def test_too_many_bad_pictures_touch_no_older_run(run: Path, tmp_path: Path) -> None:
    bad = write_classes(tmp_path / "bad", 6)
    for number in range(5):
        (bad / "red" / f"broken{number}.png").write_bytes(b"no picture")
    before = _contents(run)
    with pytest.raises(DataError, match=r"bad_files_new\.csv"):
        train(bad, recipe=RECIPE, out=run, overwrite=True, **NETWORK)
    after = _contents(run)
    assert after.pop("bad_files_new.csv").count(b"\n") == 6
    assert after == before


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "chflags"), reason="root may write into any folder")
def test_a_folder_that_may_not_be_written_says_so(run: Path) -> None:
    run.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"could not be written \(Permission denied\); make the folder writable"):
            resume(run)
    finally:
        run.chmod(0o700)


def test_a_read_only_disk_is_not_called_full(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", read_only)
    with pytest.raises((RunError, StorageError), match="Read-only file system") as refused:
        train(data, recipe=RECIPE, out=run, overwrite=True, **NETWORK)
    assert "free some space" not in str(refused.value)


def test_moved_pictures_are_the_same_pictures(finished: Path, data: Path, run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(data, tmp_path / "elsewhere"))
    assert resume(run, data=moved).epochs == 2
    assert resume(run).epochs == 2, "the new place is kept"
    assert f'data = "{moved}"' in (run / "config.toml").read_text()


def test_pictures_that_are_gone_are_asked_for(run: Path, data: Path, tmp_path: Path) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(data), str(tmp_path / "gone")))
    with pytest.raises(RunError, match=r"lay in .*gone, which is not there; .*--data DIR"):
        resume(run)


def test_pictures_replaced_under_their_names_are_named(data: Path, run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(data, tmp_path / "elsewhere"))
    for number in range(5):
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(moved / "green" / f"{number}.png")
    with pytest.raises(RunError, match=r"changed: green/0\.png, green/\d\.png, green/\d\.png and 2 more") as refused:
        resume(run, data=moved)
    assert "--data DIR" in str(refused.value)


def test_a_renamed_class_is_noticed(data: Path, run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(data, tmp_path / "elsewhere"))
    (moved / "green").rename(moved / "grass")
    with pytest.raises(RunError, match=r"new: grass/0\.png.*missing: green/0\.png"):
        resume(run, data=moved)
