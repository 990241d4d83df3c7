"""A checkpoint is what was written, or it is not used; and what it holds is checked before it counts."""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from skipway.errors import RunError, SkipwayError
from skipway.training.console import Silent
from skipway.training.job import gather
from skipway.training.progress import Progress
from skipway.training.recipe import Recipe
from skipway.training.resuming import read_config
from skipway.training.run import resume, train
from skipway.training.state import DamagedError, checkpoints, newest_checkpoint, read_checkpoint, write_sealed
from skipway.weights.bundle import load_bundle
from tests.training.conftest import write_classes

RECIPE = Recipe(name="short", epochs=2, batch_size=10, learning_rate=1e-3, keep_checkpoints=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two checkpoints; its pictures lie beside it."""
    root = tmp_path_factory.mktemp("checkpoints")
    data = write_classes(root / "data", 11)
    train(data, model="plain_mlp_2", recipe=RECIPE, image_size=16, out=root / "run", workers=0, device="cpu")
    return root / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_bundle(folder / "model.safetensors").tensors


def _payload(file: Path) -> dict[str, Any]:
    return dict(torch.load(file, weights_only=True))


def test_every_flipped_byte_is_noticed(run: Path) -> None:
    newest = checkpoints(run)[-1]
    whole = newest.read_bytes()
    draw = random.Random(5)
    places = [*range(len(whole) - 60, len(whole)), *(draw.randrange(len(whole)) for _ in range(60))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        newest.write_bytes(damaged)
        with pytest.raises(DamagedError, match="damaged"):
            read_checkpoint(newest)


def test_a_damaged_checkpoint_is_told_and_the_older_one_ends_the_same(finished: Path, run: Path) -> None:
    newest = checkpoints(run)[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes(data)
    lines: list[str] = []
    newest_checkpoint(run, lines.append)
    assert len(lines) == 1
    assert newest.name in lines[0]
    assert "continuing from step-" in lines[0]
    resume(run)
    before = _weights(finished)
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(run).items())


def test_no_whole_checkpoint_names_a_way_that_destroys_nothing(run: Path) -> None:
    for file in checkpoints(run):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"none of its checkpoints is whole.*--from") as refused:
        resume(run)
    assert "--overwrite" not in str(refused.value)


def test_a_checkpoint_that_cannot_be_opened_is_not_called_damaged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refused(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.suffix == ".pt":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(RunError, match="Permission denied") as error:
        resume(run)
    assert "--overwrite" not in str(error.value)
    assert "damaged" not in str(error.value)


def test_a_checkpoint_beyond_the_memory_is_not_called_damaged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(RunError, match="memory"):
        resume(run)


def test_a_checkpoint_without_its_seal_is_refused(run: Path) -> None:
    newest = checkpoints(run)[-1]
    torch.save(_payload(newest), newest)
    with pytest.raises(DamagedError, match="checksum is gone"):
        read_checkpoint(newest)


def test_runs_of_before_the_seal_resume(finished: Path, run: Path) -> None:
    """Format 1 had no seal, and a fingerprint of full names instead of contents."""
    request, recipe = read_config(run)
    material = gather(request, recipe, Silent())
    for file in checkpoints(run):
        payload = _payload(file)
        payload |= {"format": 1, "fingerprint": material.name_fingerprint}
        torch.save(payload, file)
    checkpoints(run)[-1].unlink()
    resume(run)
    before = _weights(finished)
    assert all(torch.equal(tensor, before[name]) for name, tensor in _weights(run).items())


def test_a_packed_checkpoint_is_not_unpacked(run: Path) -> None:
    newest = checkpoints(run)[-1]
    with zipfile.ZipFile(newest) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(newest, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in parts.items():
            packed.writestr(name, data)
    with pytest.raises(DamagedError):
        read_checkpoint(newest)


def _set(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload["progress"].update(fields)


def _put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload.update({key: value})


HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    "step beyond the run": _set(step=10**6),
    "step beyond all names": _set(step=10**9),
    "negative step": _set(step=-1),
    "step of a float": _set(step=1.0),
    "step true": _set(step=True),
    "seen of a text": _set(seen="many"),
    "more seen than there are": _set(seen=10**12, right=0),
    "history of no epochs": lambda payload: payload["progress"].update(history=[], best_epoch=0),
    "sum not finite": _set(loss_sum=float("nan")),
    "seconds beyond all time": _set(total_seconds=1e300),
    "best loss no number": _set(best_loss=float("nan")),
    "no request": _put("request", None),
    "no processes": _put("world", 0),
    "more right than seen": _set(right=10, seen=1),
    "history of a number": _set(history=7),
    "history of texts": _set(history=["epoch 1"]),
    "history of other columns": _set(history=[{"top1": 0.5}]),
    "best beyond the history": _set(best_epoch=3),
    "best of 197 percent": _set(best_top1=1.9785, best_epoch=1),
    "seconds not finite": _set(total_seconds=float("nan")),
    "a field more": _set(more=1),
    "progress of a list": _put("progress", [1, 2]),
    "no progress": lambda payload: payload.pop("progress"),
    "network of a list": _put("network", []),
    "network of another": _put("network", {"stem.weight": torch.zeros(3)}),
    "no optimizer": _put("optimizer", {}),
    "optimizer of other settings": lambda payload: payload["optimizer"]["param_groups"][0].update(betas=(2.0, 3.0)),
    "optimizer of other shapes": lambda payload: payload["optimizer"]["state"][0].update(exp_avg=torch.zeros(7, 7)),
    "spec of a text": _put("spec", "resnet"),
    "spec of nothing": _put("spec", {}),
    "recipe of a number": _put("recipe", 3),
    "recipe of no TOML": _put("recipe", "epochs = = 3"),
    "preprocessing of nothing": _put("preprocessing", None),
    "scaler of a text": _put("scaler", "none"),
    "format of a text": _put("format", "two"),
    "fingerprint of a list": _put("fingerprint", [1]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoints_are_refused_in_one_line(name: str, run: Path) -> None:
    for file in checkpoints(run):
        payload = _payload(file)
        HOSTILE[name](payload)
        write_sealed(file, payload)
    with pytest.raises(SkipwayError) as refused:
        resume(run)
    assert "\n" not in str(refused.value)
    assert ";" in str(refused.value), "what is wrong; the fix"


def test_a_row_of_the_history_is_checked(run: Path) -> None:
    payload = _payload(checkpoints(run)[-1])
    for column, value in (("val_top1", 1.9785), ("train_top1", -0.1), ("seconds", float("inf")), ("epoch", "one")):
        rows = [{**row, column: value} for row in payload["progress"]["history"]]
        with pytest.raises(RunError, match=column):
            Progress.from_plain({**payload["progress"], "history": rows})


def test_progress_survives_its_own_file(tmp_path: Path) -> None:
    progress = Progress(step=3, loss_sum=1.5, right=2, seen=4)
    write_sealed(tmp_path / "x.pt", {"progress": asdict(progress)})
    assert Progress.from_plain(_payload(tmp_path / "x.pt")["progress"]) == progress


@pytest.mark.parametrize(
    "line",
    [
        "workers = 1000000", "workers = -7", "seed = -1", "image_size = -3", "image_size = 99999999", 'workers = "two"',
        "seed = 1.5", "more = 1", "data = 3",
    ],
)  # fmt: skip
def test_hostile_configs_are_refused_in_one_line(line: str, run: Path) -> None:
    config = run / "config.toml"
    key = line.partition(" ")[0]
    kept = [old for old in config.read_text().splitlines() if old.partition(" ")[0] != key or key == "learning_rate"]
    config.write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(SkipwayError) as refused:
        resume(run)
    assert "\n" not in str(refused.value)
    assert checkpoints(run), "nothing was lost"


@pytest.mark.parametrize("line", ["seed = 5", "image_size = 32", 'val = "0.2"'])
def test_an_edited_request_is_refused(line: str, run: Path) -> None:
    config = run / "config.toml"
    key = line.partition(" ")[0]
    head, mark, table = config.read_text().partition("[run]\n")
    kept = [old for old in table.splitlines() if old.partition(" ")[0] != key]
    config.write_text(head + mark + "\n".join([*kept, line]) + "\n")
    with pytest.raises(RunError, match=rf"was edited since the run began \({key}\)"):
        resume(run)
