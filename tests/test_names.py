"""Names that strangers chose stay names: no class, file or folder begins a line of ours or turns its text around."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipway import cli
from skipway.data.checking import bad_files_csv
from skipway.errors import PictureError
from tests.marks import slow_but

FORGED = "cat\n  99.99%  dog"
TURNED = "\u202egod"
CLEARING = "bird\x1b[2J"
CLASSES = (FORGED, TURNED, CLEARING)
PICTURE = "p\x1b[31m\nerror: q\u2028.png"
# Controls but for the newline, line and paragraph separators, and what turns text around.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names") / "strange\n\u202eset"
    draw = np.random.default_rng(1)
    for channel, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(12):
            picture = draw.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            picture[..., channel] += 100
            Image.fromarray(picture).save(root / name / f"{number}{PICTURE}")
    return root


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skipway.training.recipe import Recipe
    from skipway.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = Recipe(name="fast", epochs=1, batch_size=12)
    train(data, model="resnet_v1_20.cifar", image_size=16, recipe=recipe, workers=0, device="cpu", out=folder)
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def skipway_(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return run


TINY = ("--model", "resnet_v1_20.cifar", "--image-size", "8", "--epochs", "1", "--batch-size", "12", "--workers", "0")


def train(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del model
    return run("train", data, *TINY, "--val", "0.3", "--out", "out\n\u202erun")


def evaluate(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    spoilt = shutil.copytree(data, Path("spoilt").resolve())
    next((spoilt / TURNED).iterdir()).write_bytes(b"none")
    return run("evaluate", model, spoilt, "--engine", "eager", "--workers", "0")


def predict(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    return run("predict", model, data / FORGED / f"0{PICTURE}", data / TURNED, "--top", "3", "--engine", "eager")


def predict_missing(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del data
    return run("predict", model, f"none{PICTURE}")  # the bracket makes it a pattern


def pack(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del model
    return run("pack", data, "to\n\u202eshards")


def export(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del data
    return run("export", model, "--to", "weights\u202e\n.pth")


def benchmark(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del data
    copy = shutil.copy(model, "m\u202e\x1b[2J.safetensors")
    return run("benchmark", copy, "--steps", "1", "--warmup", "0", "--batch-size", "1", "--engine", "eager")


def unknown_data(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del data
    return run("evaluate", model, f"none\nerror: all is well{TURNED}")


def unknown_option(run: Run, data: Path, model: Path) -> tuple[int, str, str]:
    del data, model
    return run("models", f"--no\nerror: such{TURNED}")


COMMANDS: dict[str, tuple[Callable[[Run, Path, Path], tuple[int, str, str]], int, int | None]] = {
    "train": (train, 0, 4),
    "evaluate": (evaluate, 0, 8),  # two of them remarks on the pictures
    "predict": (predict, 0, 13 * 4),
    "predict a missing file": (predict_missing, 2, 0),
    "pack": (pack, 0, 1),
    "export": (export, 0, None),
    "benchmark": (benchmark, 0, None),
    "unknown data": (unknown_data, 2, 0),
    "unknown option": (unknown_option, 2, 0),
}


@pytest.mark.parametrize("command", slow_but(COMMANDS, quick=set(COMMANDS) - {"benchmark"}))
def test_no_command_prints_a_raw_name(command: str, skipway_: Run, data: Path, run_folder: Path) -> None:
    call, status, lines = COMMANDS[command]
    found, out, err = call(skipway_, data, run_folder / "model.safetensors")
    assert found == status, err
    assert not RAW.search(out + err)
    for line in (out + err).splitlines():
        assert not line.startswith(("  99.99%", "error: q", "error: all is well", "error: such"))
    if lines is not None:
        assert out.count("\n") == lines, out
    if status:
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_json_keeps_the_names(skipway_: Run, data: Path, run_folder: Path) -> None:
    _, out, _ = skipway_("predict", run_folder / "model.safetensors", data / FORGED, "--json", "--top", "3")
    rows = json.loads(out)
    assert {one["label"] for one in rows[0]["predictions"]} == set(CLASSES)
    assert all(row["file"].endswith(PICTURE) for row in rows)


def test_the_report_spells_names_out(run_folder: Path) -> None:
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    assert not RAW.search(page)
    assert "cat\\n  99.99%  dog" in page
    assert FORGED not in page
    assert "\\u202egod" in page


def test_figures_spell_names_out() -> None:
    from skipway.evaluation.figures import heat_map

    drawing = heat_map(np.eye(24, dtype=np.int64), [f"{CLASSES[i % 3]} {i}" for i in range(24)])
    assert not RAW.search(str(drawing.svg))
    assert "\\u202egod" in str(drawing.svg)


def test_a_row_of_the_bad_files_is_a_line() -> None:
    text = bad_files_csv((PictureError(PICTURE, "is\nbad\u202e"),))
    assert text.count("\n") == 2
    assert not RAW.search(text.replace("\r\n", "\n"))


def test_a_console_line_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    from skipway.training.console import Console

    with Console() as console:
        console.say(f"from {FORGED}, {TURNED}")
    told = capsys.readouterr().err
    assert told == "from cat\\n  99.99%  dog, \\u202egod\n"
    assert sys.stderr is not None
