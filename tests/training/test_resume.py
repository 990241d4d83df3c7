"""A run killed at any step and resumed ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skipway.errors import RunError
from skipway.training.console import Silent
from skipway.training.recipe import Recipe, recipe_to_toml
from skipway.training.run import resume, train
from skipway.training.state import checkpoints
from skipway.weights.bundle import load_bundle
from tests.training.conftest import write_classes

# One process trains, dies and resumes in forked children: torch is imported once, and no thread pool exists yet when
# they fork.
_SCRIPT = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from skipway.training.console import Silent
from skipway.training.run import resume, train

job = json.loads(sys.argv[1])

class Killer(Silent):
    def __init__(self, at):
        self.at = at
    def step(self, epoch, done, total, figures):
        if done == self.at:
            os.kill(os.getpid(), job["signal"])

def child(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except KeyboardInterrupt:
            status = 130
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]

def run(out, at=None):
    train(job["data"], model=job["model"], recipe=job["recipe"], image_size=16, seed=3, workers=job["workers"],
          device="cpu", out=out, reporter=Silent() if at is None else Killer(at))

assert child(lambda: run(job["whole"])) == 0
for at, out in job["kills"]:
    status = child(lambda: run(out, at))
    expected = signal.SIGKILL if job["signal"] == signal.SIGKILL else 130 << 8
    assert status == expected, status
    assert child(lambda: resume(out)) == 0
"""

RECIPE = Recipe(
    name="killed",
    epochs=3,
    batch_size=8,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="one_cycle",
    ema=0.9,
    checkpoint_steps=3,
    label_smoothing=0.1,
    accumulation=2,
    clip_norm=5.0,
)


def _recipe(tmp_path: Path, **changes: object) -> Path:
    from dataclasses import replace

    from skipway.data.augmentation import Augmentation

    lively = Augmentation(crop="padded", mirror=0.5, rotate=10, brightness=0.2, randaugment=1, mixup=0.2, erasing=0.2)
    file = tmp_path / "killed.toml"
    file.write_text(recipe_to_toml(replace(RECIPE, augmentation=lively, **changes)))
    return file


def _assert_same(one: Path, other: Path) -> None:
    first, second = load_bundle(one / "model.safetensors"), load_bundle(other / "model.safetensors")
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    assert first.metrics == second.metrics
    last = [torch.load(checkpoints(run)[-1], weights_only=True) for run in (one, other)]
    assert last[0]["progress"]["step"] == last[1]["progress"]["step"]
    for row, again in zip(last[0]["progress"]["history"], last[1]["progress"]["history"], strict=True):
        for key in ("epoch", "step", "learning_rate", "train_loss", "train_top1", "val_loss", "val_top1"):
            assert row[key] == again[key], key
    states = [checkpoint["optimizer"]["state"] for checkpoint in last]
    for name, values in states[0].items():
        for key, value in values.items():
            assert torch.equal(value, states[1][name][key]), (name, key)


@pytest.mark.parametrize(
    ("model", "workers", "changes"),
    [
        ("resnet_v1_20.cifar", 0, {}),
        ("resnet_v1_20.cifar", 2, {}),
        ("alexnet.mnist", 0, {"optimizer": "sgd", "initialization": "he", "ema": 0.0, "keep": "last"}),
    ],
)
def test_killed_runs_end_with_the_same_weights(
    tmp_path: Path, model: str, workers: int, changes: dict[str, object]
) -> None:
    data = write_classes(tmp_path / "data", 11)
    # 30 pictures train, 4 steps an epoch, 12 in all: one kill in each epoch, in the middle of it or at its end.
    draw = random.Random(f"{model}{workers}")
    kills = [(draw.randint(4 * epoch + 1, 4 * epoch + 4), str(tmp_path / f"killed{epoch}")) for epoch in range(3)]
    job = {
        "data": str(data),
        "model": model,
        "workers": workers,
        "recipe": str(_recipe(tmp_path, **changes)),
        "whole": str(tmp_path / "whole"),
        "kills": kills,
        "signal": int(signal.SIGKILL),
    }
    done = subprocess.run([sys.executable, "-c", _SCRIPT, json.dumps(job)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for at, out in kills:
        print(f"killed at step {at}")
        _assert_same(tmp_path / "whole", Path(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_the_very_step(tmp_path: Path, number: signal.Signals) -> None:
    data = write_classes(tmp_path / "data", 11)
    recipe = _recipe(tmp_path, epochs=2)

    class Stopper(Silent):
        def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
            if done == 5:
                os.kill(os.getpid(), number)

    options = {"model": "resnet_v1_20.cifar", "recipe": str(recipe), "image_size": 16, "workers": 0}
    with pytest.raises(KeyboardInterrupt, match="skipway resume"):
        train(data, out=tmp_path / "stopped", reporter=Stopper(), **options)
    assert checkpoints(tmp_path / "stopped")[-1].name in {"step-00000005.pt", "step-00000006.pt"}
    resume(tmp_path / "stopped")
    train(data, out=tmp_path / "whole", **options)
    _assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run and its data, for tests that leave both alone or work on copies."""
    root = tmp_path_factory.mktemp("finished")
    data = write_classes(root / "data", 11)
    recipe = RECIPE.replaced(epochs=2, keep_checkpoints=3)
    train(data, model="resnet_v1_20.cifar", recipe=recipe, image_size=16, out=root / "run", workers=0)
    return root / "run", data


def test_a_finished_run_resumes_to_itself(finished: tuple[Path, Path]) -> None:
    run, _ = finished
    before = load_bundle(run / "model.safetensors").tensors
    again = resume(run)
    assert again.epochs == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_bundle(again.model).tensors.items())


def test_a_damaged_checkpoint_gives_way_to_an_older_one(finished: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    run, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = checkpoints(copy)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    resume(copy)
    _assert_same(run, copy)


def test_what_cannot_be_resumed_says_so(finished: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    run, data = finished
    with pytest.raises(RunError, match=r"config\.toml"):
        resume(tmp_path)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "config.toml", bare)
    with pytest.raises(RunError, match="no checkpoint"):
        resume(bare)
    added = data / "red" / "new.png"
    shutil.copy(data / "red" / "0.png", added)
    try:
        with pytest.raises(RunError, match="changed"):
            resume(run)
    finally:
        added.unlink()


def test_an_edited_config_is_refused(finished: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    run, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = copy / "config.toml"
    config.write_text(config.read_text().replace('optimizer = "adamw"', 'optimizer = "sgd"'))
    with pytest.raises(RunError, match=r"was edited since the run began \(optimizer\); undo that"):
        resume(copy)
    config.write_text(config.read_text().replace("erasing = 0.0", "erasing = 0.25").replace("seed = 0", "seed = 1"))
    with pytest.raises(RunError, match=r"was edited since the run began \(optimizer, augmentation\.erasing, seed\);"):
        resume(copy)


@pytest.mark.parametrize("name", ["quick", "strong", "signs"])
def test_runs_with_the_named_recipes_resume(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopper(Silent):
        def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
            if done == 2:
                os.kill(os.getpid(), signal.SIGINT)

    write_classes(tmp_path / "data", 11)
    monkeypatch.chdir(tmp_path)
    options = {"model": "resnet_v1_20.cifar", "epochs": 2, "image_size": 16, "workers": 0}
    with pytest.raises(KeyboardInterrupt):
        train("data", recipe=name, out="run", reporter=Stopper(), **options)
    monkeypatch.chdir(Path(__file__).parent)
    assert resume(tmp_path / "run").epochs == 2, "from another folder, too"


def test_leftovers_of_a_killed_writer_are_removed(finished: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    run, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    torn = copy / "checkpoints" / ".step-00000007.pt.abcd_123"
    torn.write_bytes(b"half")
    mine = copy / ".notes.abcdefgh"
    mine.write_text("the user's own")
    resume(copy)
    assert not torn.exists()
    assert mine.exists()


def test_a_newer_checkpoint_says_so(finished: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    run, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = checkpoints(copy)[-1]
    payload = torch.load(newest, weights_only=True)
    payload["format"], payload["progress"]["more"] = 99, 1
    torch.save(payload, newest)
    with pytest.raises(RunError, match="newer skipway"):
        resume(copy)
