"""`py.typed` promises that type checkers can believe the annotations: programs of a user are checked against them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skipway

SOURCE = Path(skipway.__file__).parent

RIGHT = """
from pathlib import Path

import torch

import skipway
from skipway import Recipe, SkipwayError


def classify(model: Path, pictures: list[Path]) -> list[str]:
    classifier = skipway.load(model, "cpu")
    answers = classifier.predict(pictures, top=1)
    return [best[0].label for best in answers]


def logits(name: str) -> torch.Tensor:
    network = skipway.create_model(name, num_classes=6)
    answer: torch.Tensor = network(torch.zeros(1, 3, 64, 64))
    return answer


def train_and_judge(data: str) -> float:
    try:
        result = skipway.train(data, recipe="quick", epochs=1, out="runs/mine")
        found = skipway.evaluate(result.model, data, split="val")
    except SkipwayError as error:
        raise SystemExit(str(error)) from None
    share: float = found.evaluation.top1
    return share


recipe: Recipe = Recipe(epochs=3, batch_size=32)
names: list[str] = skipway.list_models("resnet*")
version: str = skipway.__version__
folder: Path = skipway.resume("runs/mine").folder
"""

# Each line is a mistake, and ends with the code of the complaint.
WRONG = """
import skipway
skipway.create_model(3)  # arg-type
skipway.list_models("resnet*").keys()  # attr-defined
skipway.load("model.safetensors").answer("one.jpg")  # attr-defined
skipway.train("data", epoch=3)  # call-arg
skipway.train("data", epochs="three")  # arg-type
skipway.evaluate("model.safetensors", "data").evaluation.top9  # attr-defined
skipway.resume(7)  # arg-type
skipway.Recipe(batch_size="many")  # arg-type
skipway.no_such_name  # attr-defined
"""


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


def test_names_are_hidden_from_no_type_checker_by_a_catch_all() -> None:
    """`__getattr__` of a module means that any name may be there: it is for the interpreter alone."""
    lines = (SOURCE / "__init__.py").read_text().splitlines()
    assert "def __getattr__(name: str) -> Any:" in "\n".join(lines)
    assert not any(line.startswith("def __getattr__") for line in lines)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = skipway.no_such_name  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_users_program_is_checked_against_the_annotations(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    path = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "MYPYPATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=600, check=False)
    complaints = re.findall(r"^(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    wanted = [
        ("wrong.py", str(number), line.rpartition("# ")[2])
        for number, line in enumerate(WRONG.splitlines(), 1)
        if "#" in line
    ]
    assert complaints == wanted, done.stdout + done.stderr
