"""Rings of two and three processes, one of which is killed: the others end with one line, and a resume is bit-equal."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

from scripts.torture.runs import differences, progress, write_pictures
from tests.world.ring import run_rings

from skipway.training.recipe import Recipe, recipe_to_toml

_LIMIT_S = 60.0
_STEPS = 9
_LOST = re.compile(r"^error: rank \d of \d is lost: .*-m skipway resume .*", re.MULTILINE)


def ranks(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:
    """Kill a rank `count` times. Returns the kills, those after which all was as it should be, and the rest."""
    data = write_pictures(folder / "data")
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe_to_toml(Recipe(epochs=3, batch_size=9, checkpoint_steps=2, learning_rate=1e-3)))
    train = ["train", str(data), "--model", "resnet_v1_20.cifar", "--image-size", "16", "--recipe", str(recipe)]
    train += ["--device", "cpu", "--workers", "0"]
    whole = {size: folder / f"whole-{size}" for size in (2, 3)}
    begun = [{"size": size, "log": str(folder / "log"), "arguments": [*train, "--out", str(out)]}
             for size, out in whole.items()]  # fmt: skip
    if any(any(ring["statuses"]) for ring in run_rings(begun)):
        raise RuntimeError("a ring that nobody disturbed failed")
    good, failures = 0, []
    for number in range(count):
        size = draw.choice((2, 3))
        wrong = _killed(train, folder, size, draw.randrange(size), draw.randint(1, _STEPS), whole[size])
        good += not wrong
        failures += [f"{size} ranks: {wrong}"] if wrong else []
        progress(f"ranks: {number + 1} of {count}, {good} as they should")
    return count, good, failures


def _killed(train: list[str], folder: Path, size: int, rank: int, step: int, whole: Path) -> str:
    run, log = folder / "run", folder / "log"
    again = {"size": size, "log": str(folder / "again"), "arguments": ["resume", str(run)]}
    first = {"size": size, "log": str(log), "arguments": [*train, "--out", str(run)], "kill": [rank, step]}
    try:
        killed, resumed = run_rings([first, again])
        others = [other for other in range(size) if other != rank]
        codes = [killed["statuses"][other] for other in others]
        slowest = max(killed["seconds"])
        lines = [len(_LOST.findall(Path(f"{log}.{other}").read_text())) for other in others]
        if codes != [2] * len(others) or lines != [1] * len(others):
            return f"rank {rank} killed at step {step}: exit codes {codes}, lines {lines}"
        if slowest > _LIMIT_S:
            return f"rank {rank} killed at step {step}: the last one ended after {slowest:.0f} s"
        if any(resumed["statuses"]):
            return f"rank {rank} killed at step {step}: the resume ended with {resumed['statuses']}"
        return "; ".join(differences(whole, run)[:4])
    finally:
        shutil.rmtree(run, ignore_errors=True)
