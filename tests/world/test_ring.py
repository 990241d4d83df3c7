"""Rings of two and three ranks: what they train and judge is one thing, and a lost one is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from skipway.training.recipe import Recipe, recipe_to_toml
from skipway.training.state import checkpoints
from skipway.weights.bundle import load_bundle
from tests.training.conftest import write_classes
from tests.world.ring import run_rings

RECIPE = Recipe(
    name="ring",
    epochs=1,
    batch_size=8,
    optimizer="adamw",
    learning_rate=1e-3,
    ema=0.9,
    checkpoint_steps=2,
    keep="last",
    keep_checkpoints=3,
)
STEP = 2  # of the checkpoint that a run killed at step 3 resumes from, in the midst of its epoch of 4


class Rings:
    """Jobs to run in one process, and what became of them, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.jobs: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.data = write_classes(root / "data", 11)
        self.recipe = root / "ring.toml"
        self.recipe.write_text(recipe_to_toml(RECIPE))

    def add(self, name: str, size: int, arguments: list[str], kill: tuple[int, int] | None = None) -> None:
        self.jobs[name] = {"size": size, "log": str(self.root / name), "arguments": arguments, "kill": kill}

    def train(self, name: str, size: int, out: str, kill: tuple[int, int] | None = None) -> None:
        options = {"--model": "resnet_v1_20.cifar", "--recipe": str(self.recipe), "--image-size": "16", "--seed": "3"}
        options |= {"--device": "cpu", "--workers": "0", "--out": str(self.root / out)}
        self.add(name, size, ["train", str(self.data), *(part for pair in options.items() for part in pair)], kill)

    def run(self) -> None:
        self.answers = dict(zip(self.jobs, run_rings(list(self.jobs.values())), strict=True))

    def statuses(self, name: str) -> list[int]:
        return self.answers[name]["statuses"]

    def printed(self, name: str, rank: int) -> str:
        return (self.root / f"{name}.{rank}").read_text()


def add_killed(rings: Rings, size: int, lost: int) -> None:
    """A whole run, the same with a rank killed, and its resume."""
    rings.train("whole", size, "whole")
    rings.train("killed", size, "killed", kill=(lost, 3))
    rings.add("resumed", size, ["resume", str(rings.root / "killed")])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Rings:
    """Two ranks."""
    rings = Rings(tmp_path_factory.mktemp("pair"))
    add_killed(rings, 2, lost=1)
    rings.add("alone", 1, ["resume", str(rings.root / "killed")])
    rings.add("predict", 2, ["predict", "m.safetensors", "x.png"])
    # 37 pictures: neither 2 nor 3 divide them, nor does a batch of 8.
    judged = write_classes(rings.root / "judged", 12, seed=5)
    shutil.copy(judged / "red" / "0.png", judged / "red" / "x.png")
    few = write_classes(rings.root / "few", 1, seed=6)
    shutil.rmtree(few / "red")
    model = str(rings.root / "whole" / "model.safetensors")
    for folder, sizes in ((judged, (1, 2, 3)), (few, (1, 3))):
        for size in sizes:
            options = ["--json", "--device", "cpu", "--batch-size", "8", "--workers", "0", "--engine", "eager"]
            rings.add(f"{folder.name}{size}", size, ["evaluate", model, str(folder), *options])
    rings.run()
    return rings


def assert_lost_and_resumed(rings: Rings, size: int, lost: int) -> None:
    others = [rank for rank in range(size) if rank != lost]
    assert rings.statuses("whole") == [0] * size, rings.printed("whole", 0)
    assert rings.statuses("killed") == [-9 if rank == lost else 2 for rank in range(size)]
    killed_after = rings.answers["killed"]["seconds"][lost]
    for rank in others:
        lines = rings.printed("killed", rank).splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1
        assert lines[-1] == errors[0]
        assert f"rank {lost} of {size} is lost" in errors[0]
        assert f"`torchrun --nproc-per-node {size} -m skipway resume {rings.root / 'killed'}`" in errors[0]
        assert rings.answers["killed"]["seconds"][rank] - killed_after < 60
        assert "Traceback" not in "".join(lines)
    assert rings.statuses("resumed") == [0] * size, rings.printed("resumed", 0)
    assert f"continuing after step {STEP} of 4" in rings.printed("resumed", 0)
    whole, resumed = (load_bundle(rings.root / run / "model.safetensors") for run in ("whole", "killed"))
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
    histories = [_progress(rings.root / run)["history"] for run in ("whole", "killed")]
    for row, again in zip(*histories, strict=True):
        assert again["train_loss"] == pytest.approx(row["train_loss"], rel=0, abs=1e-12)
        for key in ("step", "train_top1", "val_loss", "val_top1"):
            assert again[key] == row[key], key


def _progress(run: Path, place: int = -1) -> dict[str, Any]:
    return torch.load(checkpoints(run)[place], weights_only=True)["progress"]


def test_a_lost_rank_is_named_and_its_run_resumes_exactly(pair: Rings) -> None:
    assert_lost_and_resumed(pair, 2, lost=1)


def test_only_the_main_rank_speaks(pair: Rings) -> None:
    assert pair.printed("whole", 1) == ""
    assert "epoch 1/1" in pair.printed("whole", 0)
    assert pair.printed("judged2", 1) == ""


def test_a_checkpoint_has_the_sums_of_all_ranks(pair: Rings) -> None:
    whole = pair.root / "whole" / "checkpoints"
    held = torch.load(whole / "step-00000002.pt", weights_only=True)
    assert held["world"] == 2
    assert held["progress"]["seen"] == 2 * RECIPE.batch_size


def test_another_number_of_ranks_is_refused(pair: Rings) -> None:
    assert pair.statuses("alone") == [2]
    line = pair.printed("alone", 0).strip()
    assert "trained by 2 processes, and now there is 1," in line
    assert f"torchrun --nproc-per-node 2 -m skipway resume {pair.root / 'killed'}" in line
    assert line.count("\n") == 0


def test_what_runs_in_one_process_says_so(pair: Rings) -> None:
    assert pair.statuses("predict") == [2, 2]
    assert "leave torchrun out" in pair.printed("predict", 0)


@pytest.mark.parametrize(("data", "size"), [("judged", 2), ("judged", 3), ("few", 3)])
def test_ranks_judge_as_one_process_does(pair: Rings, data: str, size: int) -> None:
    assert pair.statuses(f"{data}{size}") == [0] * size, pair.printed(f"{data}{size}", 0)
    alone, shared = (json.loads(pair.printed(f"{data}{count}", 0)) for count in (1, size))
    assert shared["count"] == {"judged": 37, "few": 2}[data]
    for key in ("count", "top1", "top5", "confusion", "per_class", "labels", "bad"):
        assert shared[key] == alone[key], key
    # fp32 sums in another order.
    assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    assert shared["ece"] == pytest.approx(alone["ece"], rel=1e-6)
    for rank in range(1, size):
        assert pair.printed(f"{data}{size}", rank) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "lost"), [(3, 2), (2, 0), (3, 1)])
def test_rings_with_another_lost_rank(tmp_path: Path, size: int, lost: int) -> None:
    rings = Rings(tmp_path)
    add_killed(rings, size, lost)
    rings.run()
    assert_lost_and_resumed(rings, size, lost)
