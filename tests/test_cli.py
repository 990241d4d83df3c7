"""The command line as a person meets it: answers, exit codes, one line for each mistake, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import skipway
from skipway import cli
from skipway.cli.help import PANELS
from skipway.interchange.mapping.resnet_names import CIFAR_TORCH
from skipway.models.catalog import list_models
from skipway.training.recipes import RECIPES

COMMANDS = ("reproduce", "demo", "train", "resume", "evaluate", "predict", "export", "convert", "models", "summary",
            "recipes")  # fmt: skip
TINY = ("--model", "resnet_v1_20.cifar", "--image-size", "8", "--epochs", "1", "--batch-size", "8", "--workers", "0")


class Answer(NamedTuple):
    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON value on stdout."""
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1, "one value, one line"
        return json.loads(self.out, parse_constant=pytest.fail)  # NaN and Infinity are no JSON

    def refusal(self) -> str:
        """The one line on stderr that tells a mistake and, after a semicolon, the fix."""
        assert self.status == 2, self
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert lines == self.err.splitlines()[-1:]
        assert "Traceback" not in self.err
        assert "; " in lines[0]
        assert len(lines[0]) < 700
        return lines[0]


Skipway = Callable[..., Answer]


@pytest.fixture
def skipway_(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Skipway:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Answer(stop.value.code, out, err)

    return run


@pytest.fixture
def pictures(tmp_path: Path, colours: Path) -> Path:
    """Three classes of twelve pictures that a test may spoil."""
    return shutil.copytree(colours, tmp_path / "pictures")


@pytest.fixture(scope="module")
def model(trained: Path) -> Path:
    return trained / "model.safetensors"


def files_below(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def write_picture(file: Path, colour: tuple[int, int, int] = (250, 20, 20)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), colour).save(file)


# --------------------------------------------------------------------------------------------------- help


def test_help_names_every_command(skipway_: Skipway) -> None:
    for asked in (("--help",), ("-h",), (), ("--debug",)):
        answer = skipway_(*asked)
        assert (answer.status, answer.err) == (0, "")
        assert all(command in answer.out for command in COMMANDS)
        assert "--debug" in answer.out


def test_help_is_one_screen_with_every_command_in_a_group(skipway_: Skipway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = skipway_("--help").out.splitlines()
    assert len(lines) < 40
    assert max(len(line) for line in lines) <= 80
    groups: dict[str, list[str]] = {}
    group = ""
    for line in lines:
        if line.endswith(":"):
            group = line.removesuffix(":")
        elif line.startswith("  ") and group in PANELS:
            groups.setdefault(group, []).append(line.split()[0])
    assert tuple(groups) == PANELS
    assert groups["Networks"] == ["models", "summary", "draw"]
    assert groups["Weights of other frameworks"] == ["import", "export", "convert"]
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert sorted(name for names in groups.values() for name in names) == sorted(commands)


def test_import_and_convert_take_the_same_options(skipway_: Skipway) -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    names = {name: [one.name for one in commands[name].params] for name in ("import", "convert")}
    shared = names["import"][2:-2]
    assert shared[0] == "model"
    assert len(shared) == 14
    assert names["convert"] == ["file", "to", "form", "with_preprocessing", *shared, "overwrite", "json_"]
    for one, other in zip(commands["import"].params[2:], commands["convert"].params[4:], strict=True):
        assert (one.opts, one.default, one.help) == (other.opts, other.default, other.help)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(skipway_: Skipway, command: str) -> None:
    answer = skipway_(command, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert f"skipway {command}" in answer.out
    assert "  " in answer.out.partition("Usage")[2]


def test_version(skipway_: Skipway) -> None:
    assert skipway_("--version") == Answer(0, f"skipway {skipway.__version__}\n", "")


@pytest.mark.parametrize("asked", [["--version"], ["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_and_version_load_nothing_heavy(asked: list[str]) -> None:
    heavy = {"torch", "numpy", "torchvision", "matplotlib", "rich", "PIL", "safetensors"}
    code = (
        "import sys\nfrom skipway.cli import main\n"
        f"try: main({asked!r})\nexcept SystemExit as stop: status = stop.code\n"
        f"print(status, sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "0 []\n"


def test_the_module_runs_as_the_command_does() -> None:
    command = [sys.executable, "-m", "skipway", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"skipway {skipway.__version__}\n")


# --------------------------------------------------------------------------------------------- tables


def test_models_as_json(skipway_: Skipway) -> None:
    answer = skipway_("models", "--json")
    rows = answer.json()
    assert answer.err == ""
    assert [row["name"] for row in rows] == list_models()
    assert all(row.keys() >= {"name", "total", "flops", "year", "source"} for row in rows)
    assert {row["name"] for row in skipway_("models", "alexnet.*", "--json").json()} == set(list_models("alexnet.*"))
    assert "resnet_v1_50.signs" in skipway_("models").out


def test_models_that_match_nothing(skipway_: Skipway) -> None:
    for options in ((), ("--json",)):
        told = skipway_("models", "no such", *options).refusal()
        assert "unknown model 'no such'; the nearest: " in told
        assert "`skipway models` lists all" in told


def test_summary_as_json(skipway_: Skipway) -> None:
    found = skipway_("summary", "resnet_v1_50.signs", "--json").json()
    assert (found["total"], found["trainable"], found["statistics"]) == (23_600_006, 23_546_886, 53_120)
    assert found.keys() >= {"name", "trainable", "statistics", "total", "flops", "layers"}
    larger = skipway_("summary", "resnet_v1_18.torchvision", "--image-size", 96, "--batch-size", 8, "--json").json()
    assert (larger["input"], larger["batch_size"]) == ([3, 96, 96], 8)


def test_summary_as_text(skipway_: Skipway) -> None:
    lines = skipway_("summary", "resnet_v1_50.signs", "--num-classes", "7").out.splitlines()
    (logits,) = (line for line in lines if line.startswith("  logits "))
    assert logits.split()[1] == "7"
    assert "training on 1 picture at once keeps" in lines[-2]
    assert "the smallest is 37" in skipway_("summary", "resnet_v1_50.signs", "--image-size", "36").refusal()
    assert "--batch-size" in skipway_("summary", "resnet_v1_50.signs", "--batch-size", "0").refusal()


def test_recipes(skipway_: Skipway) -> None:
    assert [row["name"] for row in skipway_("recipes", "--json").json()] == list(RECIPES)
    assert all(name in skipway_("recipes").out for name in RECIPES)
    assert skipway_("recipes", "signs").out.startswith('name = "signs"\n')
    assert skipway_("recipes", "signs", "--json").json()["augmentation"]["mirror"] == 0


# ---------------------------------------------------------------------------------------------- train


def test_train_answers_one_json_value(skipway_: Skipway, pictures: Path, tmp_path: Path) -> None:
    answer = skipway_("train", pictures, *TINY, "--out", "run", "--json")
    found = answer.json()
    assert answer.status == 0
    assert found.keys() >= {"run", "model", "report", "split", "top1", "top5", "loss", "ece", "count", "epochs"}
    assert (found["split"], found["count"], found["epochs"]) == ("val", 3, 1)
    assert "36 pictures" not in answer.err
    assert "33 pictures to train, 3 held out, 3 classes" in answer.err
    left = {name.partition(".tfevents")[0] for name in files_below(tmp_path / "run")}
    wanted = {
        ".lock",
        "config.toml",
        "metrics.csv",
        "model.safetensors",
        "pictures.csv.gz",
        "report.html",
        "events.out",
    }
    assert left == wanted | {one for one in left if one.startswith("checkpoints/step-")}


def test_a_run_is_not_overwritten_unasked_and_files_of_others_survive(skipway_: Skipway, pictures: Path) -> None:
    run = Path("run")
    theirs = ("notes.txt", "checkpoints/best.pt", "checkpoints/step-1.pt", "sub/model.safetensors", "learning_rate.png")
    for name in theirs:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("mine")
    assert skipway_("train", pictures, *TINY, "--out", run).status == 0
    before = {name: (run / name).read_bytes() for name in files_below(run)}
    answer = skipway_("train", pictures, *TINY, "--seed", "5", "--out", run)
    assert "run holds a run already; `skipway resume run`, another --out, or --overwrite" in answer.refusal()
    assert {name: (run / name).read_bytes() for name in files_below(run)} == before
    assert skipway_("train", pictures, *TINY, "--seed", "5", "--out", run, "--overwrite").status == 0
    assert (run / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert all((run / name).read_text() == "mine" for name in theirs)
    assert len(list(run.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "report.html", "metrics.csv", "events.out.tfevents.7"])
def test_files_of_others_are_not_taken_for_a_run(skipway_: Skipway, pictures: Path, name: str) -> None:
    Path("mine").mkdir()
    (Path("mine") / name).write_text("mine")
    told = skipway_("train", pictures, *TINY, "--out", "mine").refusal()
    assert f"mine holds {name}, which a run would replace; give another --out, or --overwrite" in told
    assert files_below(Path("mine")) == {name}


def test_a_runs_config_is_a_recipe(skipway_: Skipway, trained: Path, pictures: Path) -> None:
    answer = skipway_("train", pictures, *TINY, "--recipe", trained / "config.toml", "--out", "run", "--json")
    assert answer.status == 0, answer.err
    config = Path("run/config.toml").read_text()
    assert 'name = "fast"' in config
    assert "learning_rate = 0.003" in config


def test_starting_from_a_model(skipway_: Skipway, model: Path, pictures: Path) -> None:
    arguments = ("--epochs", "1", "--batch-size", "8", "--workers", "0", "--out", "run", "--json")
    answer = skipway_("train", pictures, "--from", model, *arguments)
    assert answer.status == 0
    assert "0 reset" in answer.err
    assert answer.json()["top1"] > 0.5


def test_a_few_bad_pictures_are_left_out_and_listed(skipway_: Skipway, pictures: Path) -> None:
    for number in range(12, 50):
        write_picture(pictures / "red" / f"{number}.png")
    (pictures / "red" / "text.jpg").write_text("hello")
    (pictures / "blue" / "empty.png").touch()
    answer = skipway_("train", pictures, *TINY, "--out", "run", "--json")
    assert answer.status == 0
    assert "2 unreadable pictures are left out: run/bad_files.csv" in answer.err
    assert any("2 unreadable pictures were left out" in one for one in answer.json()["remarks"])
    header, *rows = Path("run/bad_files.csv").read_text().splitlines()
    assert header == "file,reason"
    assert len(rows) == 2
    assert all(str(pictures) in row for row in rows)


def test_many_bad_pictures_stop_a_run(skipway_: Skipway, pictures: Path) -> None:
    for number in range(3):
        (pictures / "red" / f"text{number}.jpg").write_text("hello")
    told = skipway_("train", pictures, *TINY, "--out", "run").refusal()
    assert "3 of 39 pictures cannot be read, more than 5%; run/bad_files.csv lists them; repair or remove" in told
    assert files_below(Path("run")) == {".lock", "bad_files.csv"}
    assert Path("run/bad_files.csv").read_text().count("text") == 3
    for number in range(3):
        (pictures / "red" / f"text{number}.jpg").unlink()
    assert skipway_("train", pictures, *TINY, "--out", "run").status == 0
    assert "bad_files.csv" not in files_below(Path("run"))


# ----------------------------------------------------------------------------------- mistakes in training


def _recipe(text: str) -> Callable[[Path], list[str]]:
    def prepare(place: Path) -> list[str]:
        (place / "mine.toml").write_text(text)
        return ["train", "pictures", "--recipe", "mine.toml", *TINY]

    return prepare


def _train(*options: str) -> Callable[[Path], list[str]]:
    return lambda _: ["train", "pictures", *TINY, *options]


def _data(data: str, *options: str) -> Callable[[Path], list[str]]:
    return lambda _: ["train", data, *TINY, *options]


def _folder(make: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def prepare(place: Path) -> list[str]:
        (place / "data").mkdir()
        make(place / "data")
        return ["train", "data", *TINY]

    return prepare


def _one_class(data: Path) -> None:
    for number in range(4):
        write_picture(data / "cat" / f"{number}.png")


def _one_picture(data: Path) -> None:
    _one_class(data)
    write_picture(data / "dog" / "0.png")


def _empty_class(data: Path) -> None:
    _one_class(data)
    (data / "dog").mkdir()


def _all_bad(data: Path) -> None:
    for name in ("cat", "dog"):
        (data / name).mkdir()
        for number in range(3):
            (data / name / f"{number}.png").write_text("hello")


MISTAKES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "missing folder": (_data("no/such/folder"), "no file or folder no/such/folder"),
    "missing name": (_data("picturs"), "unknown data 'picturs'"),
    "empty name": (_data(""), "the name of the data is empty"),
    "unknown data form": (_data("mnits:there"), "unknown data form 'mnits:there'; the nearest: mnist:DIR"),
    "no data set": (_data("notes.txt"), "notes.txt is no data set"),
    "damaged npz": (_data("bad.npz"), "bad.npz is no whole .npz"),
    "a name too long": (_data("x" * 300), "x: File name too long"),
    "empty folder": (_folder(lambda _: None), "data holds no pictures"),
    "one class": (_folder(_one_class), "pictures of one class only ('cat')"),
    "a class with one picture": (_folder(_one_picture), "class 'dog' has one picture"),
    "a class without pictures": (_folder(_empty_class), "dog holds no pictures"),
    "no class folders": (_folder(lambda data: write_picture(data / "0.png")), "holds pictures but no class folders"),
    "all pictures bad": (_folder(_all_bad), "pictures of fewer than two classes can be read"),
    "unknown model": (
        _train("--model", "resnet_v1_50.sigs"),
        "unknown model 'resnet_v1_50.sigs'; the nearest: resnet_v1_50.signs",
    ),
    "unknown recipe": (_train("--recipe", "quik"), "unknown recipe 'quik'; the nearest: quick"),
    "missing recipe file": (_train("--recipe", "none.toml"), "none.toml cannot be read"),
    "unknown recipe key": (_recipe("learning_rte = 1"), "'learning_rte'; the nearest: learning_rate"),
    "recipe value of another type": (_recipe('epochs = "3"'), "epochs is '3'; it must be a whole number"),
    "recipe out of range": (_recipe("momentum = 1.5"), "momentum is 1.5; give"),
    "recipe no TOML": (_recipe("epochs: 3"), "mine.toml is no TOML"),
    "unknown stage in freeze": (
        _recipe('freeze = ["stage9"]'),
        "unknown stage of resnet_v1_20.cifar 'stage9'; the nearest: stage",
    ),
    "everything frozen": (
        _recipe('freeze = ["stem", "stage1", "stage2", "stage3", "logits"]'),
        "every stage is frozen",
    ),
    "unknown initialization": (_recipe('initialization = "hee"'), "unknown initialization 'hee'; the nearest: he"),
    "picture too small": (
        _train("--model", "resnet_v1_50.signs", "--image-size", "8"),
        "8 pixels a side; the smallest is 37",
    ),
    "picture too large": (_train("--image-size", "20000"), "20000"),
    "negative picture": (_train("--image-size", "-1"), "--image-size is -1; give pixels up to 4,096"),
    "negative epochs": (_train("--epochs", "-1"), "--epochs is -1; give 1 or more"),
    "no epochs": (_train("--epochs", "0"), "--epochs is 0; give 1 or more"),
    "empty batch": (_train("--batch-size", "0"), "--batch-size is 0; give 1 or more"),
    "rate zero": (_train("--learning-rate", "0"), "--learning-rate is 0.0; give"),
    "rate not a number": (_train("--learning-rate", "nan"), "--learning-rate is nan; give"),
    "epochs not a number": (_train("--epochs", "many"), "'--epochs'"),
    "fraction above one": (_train("--val", "2"), "--val 2 is no fraction; give"),
    "fraction negative": (_train("--val", "-0.1"), "--val -0.1 is no fraction; give"),
    "validation folder missing": (_train("--val", "none"), "no folder none; --val takes"),
    "negative seed": (_train("--seed", "-1"), "--seed is -1; give"),
    "huge seed": (_train("--seed", "9223372036854775808"), "--seed is 9223372036854775808; give"),
    "model and from": (_train("--from", "bad.safetensors"), "--model and --from exclude each other; give one"),
    "damaged model": (lambda _: ["train", "pictures", "--from", "bad.safetensors"], "bad.safetensors is damaged"),
    "missing model": (lambda _: ["train", "pictures", "--from", "none"], "no model file none; "),
    "unknown device": (_train("--device", "tpu"), "unknown device 'tpu'; give auto, cpu or cuda"),
    "the run a file": (_train("--out", "notes.txt"), "notes.txt is a file; give another --out"),
    "the run below a file": (_train("--out", "notes.txt/run"), "could not be written"),
    "the run among the pictures": (_train("--out", "pictures/run"), "would lie among the pictures"),
    "the run in place of the pictures": (_train("--out", "pictures"), "would lie among the pictures"),
    "unknown option": (_train("--epoch", "3"), "No such option: --epoch"),
    "no data": (lambda _: ["train"], "Missing argument"),
    "unknown command": (lambda _: ["trian", "pictures"], "No such command 'trian'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    skipway_: Skipway, pictures: Path, tmp_path: Path, name: str
) -> None:
    prepare, told = MISTAKES[name]
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 and no more")
    (tmp_path / "bad.safetensors").write_bytes(b"hello" * 20)
    arguments = prepare(tmp_path)
    before = files_below(tmp_path)
    answer = skipway_(*arguments, "--json")
    assert told in answer.refusal()
    assert answer.out == ""
    assert files_below(tmp_path) == before, "nothing is written, not even a temporary file"


def test_a_mistake_in_the_learning_rate_finder(skipway_: Skipway, pictures: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    skipway_("train", pictures, *TINY, "--val", "2", "--find-learning-rate").refusal()
    assert files_below(tmp_path) == before


def test_no_run_among_the_pictures_of_the_current_folder(
    skipway_: Skipway, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    before = files_below(pictures)
    told = skipway_("train", ".", *TINY).refusal()
    assert f"runs would lie among the pictures of {pictures.resolve()}; give another --out" in told
    assert files_below(pictures) == before


def test_asking_for_a_gpu_that_is_not_there(
    skipway_: Skipway, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in (("train", pictures, *TINY), ("evaluate", model, pictures), ("predict", model, pictures)):
        assert (
            "no CUDA device that torch can use; give --device cpu" in skipway_(*command, "--device", "cuda").refusal()
        )
    assert not Path("runs").exists()


def test_validation_pictures_none_of_which_can_be_read(skipway_: Skipway, pictures: Path) -> None:
    for name in ("red", "green", "blue"):
        for number in range(12, 30):
            write_picture(pictures / name / f"{number}.png")
    Path("held/red").mkdir(parents=True)
    Path("held/red/0.png").write_text("hello")
    told = skipway_("train", pictures, *TINY, "--val", "held", "--out", "run").refusal()
    assert f"no validation picture can be read; the first: {Path('held/red/0.png').resolve()}" in told
    assert not Path("run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_no_text(skipway_: Skipway, pictures: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    shutil.copytree(pictures, odd)
    (pictures / odd).mkdir()
    shutil.copy(pictures / "red" / "0.png", pictures / odd / "0.png")
    for data in (odd, pictures):
        assert r"'caf\udce9' is no valid text; rename that file or folder" in skipway_("train", data, *TINY).refusal()
    shutil.rmtree(pictures / odd)
    (pictures / "red" / "0.png").rename(pictures / "red" / f"{odd}.png")
    answer = skipway_("train", pictures, *TINY, "--val", "0", "--out", "run")
    assert answer.status == 0, "a picture may have any name"
    assert Path("run/report.html").is_file()


# ----------------------------------------------------------------------------------------------- resume


def test_resuming_nothing(skipway_: Skipway, pictures: Path, tmp_path: Path) -> None:
    for folder in ("none", "pictures", "x" * 300):
        assert "`skipway train` makes one" in skipway_("resume", folder).refusal()
    Path("run").mkdir()
    Path("run/config.toml").write_text('[run]\ndata = "pictures"\n')
    assert (
        "it holds no checkpoint; restore its checkpoints, or give another --out"
        in skipway_("resume", "run", "--json").refusal()
    )
    Path("run/config.toml").write_text("[run]\ndata = 3\n")
    assert "data is 3; it must be a text" in skipway_("resume", "run").refusal()
    Path("run/config.toml").write_text("epochs = 3\n")
    assert "lacks data" in skipway_("resume", "run").refusal()


def test_resuming_a_finished_run_tells_it_again(skipway_: Skipway, pictures: Path) -> None:
    first = skipway_("train", pictures, *TINY, "--out", "run", "--json").json()
    again = skipway_("resume", "run", "--json").json()
    assert (again["top1"], again["loss"]) == (first["top1"], first["loss"])
    (pictures / "red" / "0.png").unlink()
    assert "the pictures of" in skipway_("resume", "run").refusal()


# --------------------------------------------------------------------------------------------- evaluate


def test_evaluate_as_json(skipway_: Skipway, model: Path, colours: Path) -> None:
    answer = skipway_("evaluate", model, colours, "--workers", "0", "--split", "all", "--json")
    found = answer.json()
    assert answer.err == ""
    wanted = {"top1", "top5", "loss", "ece", "count", "images_per_second", "per_class", "confusion"}
    assert found.keys() >= wanted
    assert (found["split"], found["count"], found["top5"]) == ("all", 36, 1.0)
    assert found["top1"] > 0.5
    assert found["bad"] == []
    assert found["labels"] == ["blue", "green", "red"]
    assert [row["label"] for row in found["per_class"]] == found["labels"]
    assert [sum(row) for row in found["confusion"]] == [12, 12, 12]
    assert found["top1"] == sum(found["confusion"][i][i] for i in range(3)) / 36


def test_labels_are_matched_by_name(skipway_: Skipway, model: Path, colours: Path, tmp_path: Path) -> None:
    """The same pictures in an archive whose classes are numbered the other way round."""
    h5py = pytest.importorskip("h5py")
    names = ("red", "green", "blue")
    files = [(number, file) for number, name in enumerate(names) for file in sorted((colours / name).iterdir())]
    with h5py.File(tmp_path / "turned.h5", "w") as archive:
        archive["test_set_x"] = np.stack([np.asarray(Image.open(file)) for _, file in files])
        archive["test_set_y"] = np.array([number for number, _ in files])
        archive["list_classes"] = np.array([name.encode() for name in names])
    turned = skipway_("evaluate", model, tmp_path / "turned.h5", "--json").json()
    straight = skipway_("evaluate", model, colours, "--workers", "0", "--split", "all", "--json").json()
    assert turned["split"] == "test"
    assert turned["labels"] == straight["labels"]
    assert turned["confusion"] == straight["confusion"]
    assert turned["loss"] == pytest.approx(straight["loss"])


def test_evaluate_as_text(skipway_: Skipway, model: Path, pictures: Path) -> None:
    (pictures / "red" / "text.jpg").write_text("hello")
    answer = skipway_("evaluate", model, pictures, "--workers", "0")
    assert answer.status == 0
    assert answer.out.startswith("3 held-out of 36 pictures; 33 were trained on\n3 pictures (all): top-1 ")
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("left out: ")
    assert "text.jpg: is no picture" in answer.err


def test_evaluate_mistakes(skipway_: Skipway, model: Path, colours: Path, pictures: Path) -> None:
    (pictures / "red").rename(pictures / "scarlet")
    told = skipway_("evaluate", model, pictures).refusal()
    assert "has classes that the model does not know: scarlet; it knows blue, green, red" in told
    told = skipway_("evaluate", model, colours, "--split", "tset").refusal()
    assert "unknown split of colours 'tset'; the nearest: all" in told
    assert "no model file none" in skipway_("evaluate", "none", colours).refusal()
    assert "no file or folder a/b" in skipway_("evaluate", model, "a/b").refusal()
    for size in ("0", "-1", "many"):
        assert "'--batch-size'" in skipway_("evaluate", model, colours, "--batch-size", size).refusal()


# ---------------------------------------------------------------------------------------------- predict


def test_predict_as_json(skipway_: Skipway, model: Path, colours: Path) -> None:
    answer = skipway_("predict", model, colours / "red" / "0.png", colours / "blue", "--top", "2", "--json")
    rows = answer.json()
    assert (answer.status, answer.err) == (0, "")
    assert [Path(row["file"]).name for row in rows] == ["0.png", *(f"{number}.png" for number in range(12))]
    assert all(row.keys() == {"file", "predictions"} for row in rows)
    assert all(len(row["predictions"]) == 2 for row in rows)
    assert all(one.keys() == {"label", "index", "probability"} for row in rows for one in row["predictions"])
    assert rows[0]["predictions"][0]["label"] == "red"


def test_predict_answers_what_it_can(skipway_: Skipway, model: Path, colours: Path) -> None:
    Path("text.jpg").write_text("hello")
    answer = skipway_("predict", model, "none.png", colours / "red" / "0.png", "text.jpg", "--json")
    rows = answer.json()
    assert [("error" in row, "predictions" in row) for row in rows] == [(True, False), (False, True), (True, False)]
    assert "2 of 3 pictures could not be read: none.png: cannot be read" in answer.refusal()
    answer = skipway_("predict", model, "none.png", colours / "red" / "0.png")
    assert answer.status == 2
    assert "not read: cannot be read" in answer.out
    assert "%  red" in answer.out


def test_predict_from_stdin(skipway_: Skipway, model: Path, colours: Path) -> None:
    file = colours / "green" / "0.png"
    (row,) = skipway_("predict", model, "-", "--json", stdin=file.read_bytes()).json()
    (listed,) = skipway_("predict", model, "-", "--json", stdin=f"{file}\n".encode()).json()
    assert (row["file"], listed["file"]) == ("-", str(file))
    assert row["predictions"] == listed["predictions"]
    assert "stdin holds neither" in skipway_("predict", model, "-", stdin=b"").refusal()


def test_predict_without_a_stdin(skipway_: Skipway, model: Path, colours: Path) -> None:
    command = [sys.executable, "-m", "skipway", "predict", model, "-", colours / "red" / "0.png"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )
    assert Answer(done.returncode, done.stdout, done.stderr).refusal().startswith("error: stdin holds neither")


def test_predict_mistakes(skipway_: Skipway, model: Path, colours: Path) -> None:
    Path("empty").mkdir()
    assert "empty holds no pictures" in skipway_("predict", model, "empty").refusal()
    assert "no file matches *.jpg" in skipway_("predict", model, "*.jpg").refusal()
    assert "no model file none" in skipway_("predict", "none", colours).refusal()
    assert "'--top'" in skipway_("predict", model, colours, "--top", "0").refusal()
    assert "Missing argument" in skipway_("predict", model).refusal()


def _reheaded(data: bytes, format_: int) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    plain = json.loads(header["__metadata__"]["skipway"]) | {"format": format_}
    header["__metadata__"]["skipway"] = json.dumps(plain)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def test_bad_model_files(skipway_: Skipway, model: Path, colours: Path) -> None:
    data = model.read_bytes()
    bad = {"cut": data[:-1], "text": b"hello", "newer": _reheaded(data, 99)}
    for name, content in bad.items():
        Path(name).write_bytes(content)
        for command in (("predict", name, colours), ("evaluate", name, colours), ("train", colours, "--from", name)):
            told = skipway_(*command).refusal()
            assert ("newer skipway (format 99); update" in told) == (name == "newer")
    assert files_below(Path()) == set(bad)


# ------------------------------------------------------------------------------------- the odd and the worst


def test_debug_shows_the_traceback(skipway_: Skipway, pictures: Path) -> None:
    for place in (("--debug", "train", "none/x"), ("train", "none/x", "--debug")):
        answer = skipway_(*place)
        assert answer.status == 2
        assert "Traceback" in answer.err
        assert answer.err.splitlines()[-1] == "error: no file or folder none/x; check the path"


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("skipway.drawing.table.model_rows", fail)


def test_a_defect_is_told_as_one(skipway_: Skipway, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, ZeroDivisionError("division by zero\nsecond line"))
    answer = skipway_("models", "--json")
    assert answer == Answer(
        1, "", "error: a defect of skipway (ZeroDivisionError: division by zero); --debug shows where\n"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "the memory is too small (MemoryError); give a smaller --batch-size"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "give a smaller --batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "give a smaller --batch-size"),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied; check the path"),
        (OSError(28, "No space left on device"), "No space left on device; check the path"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_failing_machine_is_no_defect(
    skipway_: Skipway, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    fails_with(monkeypatch, error)
    assert told in skipway_("models").refusal()


def test_ctrl_c_says_how_to_go_on(skipway_: Skipway, monkeypatch: pytest.MonkeyPatch) -> None:
    from skipway.training.loop import StoppedError

    fails_with(monkeypatch, StoppedError("stopped at step 3 of 9; `skipway resume run` continues"))
    answer = skipway_("models")
    assert answer == Answer(130, "", "error: stopped at step 3 of 9; `skipway resume run` continues\n")
    fails_with(monkeypatch, KeyboardInterrupt())
    assert skipway_("models") == Answer(130, "", "error: stopped\n")


def test_what_is_no_number_is_null(skipway_: Skipway, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"loss": float("nan"), "rows": (float("inf"), 1.5, {"x": float("-inf")})}]
    monkeypatch.setattr("skipway.drawing.table.model_rows", lambda _: rows)
    assert skipway_("models", "--json").json() == [{"loss": None, "rows": [None, 1.5, {"x": None}]}]


def test_labels_of_strangers_steer_no_terminal(skipway_: Skipway, pictures: Path, model: Path) -> None:
    shutil.copy(pictures / "red" / "0.png", "\x1b[31mred.png")
    answer = skipway_("predict", model, "\x1b[31mred.png", "\x1b]0;none\x07.png")
    assert "\x1b" not in answer.out + answer.err
    assert "\\x1b[31mred.png" in answer.out
    shutil.copy(pictures / "red" / "0.png", "\x1b猫.png")
    answer = skipway_("predict", model, "\x1b猫.png", "--json")
    assert answer.json()[0]["file"] == "\x1b猫.png"
    assert answer.out.isascii()


def test_output_for_a_terminal_that_lacks_the_letters(model: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "猫.png")
    command = [sys.executable, "-m", "skipway", "predict", str(model), "猫.png"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(rb"\u732b.png")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_has_enough() -> None:
    """`skipway recipes | head -1` is no error."""
    command = [
        sys.executable,
        "-c",
        "from skipway.cli import main; import sys; sys.argv[1:] = ['recipes', 'quick']; main()",
    ]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_demo_replaces_no_run_but_its_own(skipway_: Skipway, trained: Path) -> None:
    shutil.copytree(trained, "mine")
    before = files_below(Path("mine"))
    assert "mine holds a run already" in skipway_("demo", "--out", "mine").refusal()
    assert files_below(Path("mine")) == before


def test_digits_are_evaluated_and_predicted(skipway_: Skipway) -> None:
    """The demo's commands on the demo's data and network, one hundred pictures long."""
    from skipway.data.arrays import read_digits
    from skipway.training.recipe import Recipe
    from skipway.training.run import train

    digits = read_digits()
    held = digits.split("test")
    train_, few = digits.split("train"), np.arange(0, 1000, 25)
    np.savez("few.npz", x_train=train_.pictures.array[::40], y_train=train_.targets[::40],
             x_test=held.pictures.array[few], y_test=held.targets[few])  # type: ignore[attr-defined]  # fmt: skip
    recipe = Recipe(epochs=8, batch_size=20, learning_rate=1e-3, initialization="he")
    result = train("few.npz", model="alexnet.mnist", recipe=recipe, val="test", device="cpu", out="run")
    found = skipway_("evaluate", result.model, "digits", "--json").json()
    assert (found["split"], found["count"]) == ("test", 1000)
    assert [sum(row) for row in found["confusion"]] == [100] * 10
    assert found["top1"] > 0.3
    for digit in range(10):
        index = held.targets.tolist().index(digit)
        Image.fromarray(np.asarray(held.pictures[index])).save(f"{digit}.png")
    rows = skipway_("predict", result.model, *(f"{digit}.png" for digit in range(10)), "--json").json()
    assert all(len(row["predictions"]) == 5 for row in rows)
    right = sum(row["predictions"][0]["label"] == str(digit) for digit, row in enumerate(rows))
    assert right >= 3


def test_a_model_is_exported_and_converted(skipway_: Skipway, model: Path) -> None:
    told = skipway_("export", model, "--to", "w.th", "--json").json()
    assert (told["model"], told["form"], told["files"]) == ("resnet_v1_20.cifar", "cifar_torch", ["w.th"])
    assert told["arrays"] == len(torch.load("w.th", weights_only=True))
    assert "w.th exists already" in skipway_("export", model, "--to", "w.th").refusal()
    assert "cifar_torch (.pth, .pt, .th" in skipway_("export", model, "--to", "w.ckpt").refusal()
    answer = skipway_("convert", "w.th", "again.safetensors", "--form", "cifar_torch", "--json").json()
    assert (answer["files"], answer["left"], answer["used"]) == (["again.safetensors"], [], told["arrays"])
    again = ("convert", "w.th", "again.safetensors", "--form", "cifar_torch", "--overwrite")
    text = skipway_(*again, "--preprocessing", "cifar").out
    assert f"{told['arrays']} arrays by the names of cifar_torch in a torch file" in text
    assert "pictures  32 pixels a side, RGB" in text


# ------------------------------------------------------------------------------------------------ import


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A .pth as CIFAR scripts in torch write them."""
    network = skipway.create_model("resnet_v1_20.cifar", num_classes=3)
    places = CIFAR_TORCH.places(network.spec)
    state = {places[name].source: value for name, value in network.state_dict().items()}
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_weights_are_imported(skipway_: Skipway, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    answer = skipway_("import", weights, "--to", "m.safetensors", "--labels", "labels.txt", "--json")
    assert answer.status == 0
    told = answer.json()
    assert (told["model"], told["scheme"], told["format"]) == ("resnet_v1_20.cifar", "cifar_torch", "torch")
    assert (told["left"], told["missing"], told["to"]) == ([], [], "m.safetensors")
    assert any("--preprocessing cifar" in one for one in told["warnings"])
    assert skipway.load("m.safetensors").labels == ("cat", "dog", "owl")

    answer = skipway_("import", weights, "--to", "n.safetensors", "--preprocessing", "cifar")
    assert answer.status == 0
    assert "network   resnet_v1_20.cifar" in answer.out
    assert f"tensors   {told['used']} used, 0 left over, 0 missing" in answer.out
    assert "--preprocessing" not in answer.out.replace("is --preprocessing right", "")


def test_an_import_replaces_nothing_unasked(skipway_: Skipway, weights: Path) -> None:
    assert skipway_("import", weights, "--to", "m.safetensors").status == 0
    assert "exists already" in skipway_("import", weights, "--to", "m.safetensors").refusal()
    answer = skipway_("import", weights, "--to", "m.safetensors", "--overwrite", "--json")
    assert answer.json()["preprocessing"]["convention"] == "imagenet_statistics"
    before = weights.read_bytes()
    assert "call it weights.safetensors" in skipway_("import", weights, "--to", weights).refusal()
    assert "belongs to what is read" in skipway_("convert", weights, weights, "--overwrite").refusal()
    assert weights.read_bytes() == before
    assert "belongs to what is read" in skipway_(
        "export", "m.safetensors", "--to", "m.safetensors", "--form", "cifar_torch", "--overwrite"
    ).refusal()  # fmt: skip


def test_a_network_without_a_classifier_names_no_classes(skipway_: Skipway, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)["state_dict"]
    torch.save({name: value for name, value in state.items() if "linear" not in name}, "headless.pth")
    assert "warning   the file has no classifier" in skipway_("import", "headless.pth", "--to", "m.safetensors").out
    write_picture(Path("red.png"))
    answer = skipway_("predict", "m.safetensors", "red.png")
    assert "m.safetensors has no classifier" in answer.refusal()
    assert answer.out == ""
    assert "m.safetensors has no classifier" in skipway_("evaluate", "m.safetensors", "digits").refusal()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model", "resnet_v1_2O.cifar"), "resnet_v1_20.cifar"),
        (("--model", "resnet_v1_50.torchvision"), "not resnet_v1_50.torchvision by any names"),
        (("--preprocessing", "cifr"), "cifar"),
        (("--average", "mean"), "unknown average"),
        (("--average", "ema"), "no averaged weights"),
        (("--labels", "absent.txt"), "a label on each line"),
        (("--labels", "short.txt"), "1 label for 3 classes"),
    ],
)
def test_an_import_that_cannot_be_is_one_line(
    skipway_: Skipway, weights: Path, tmp_path: Path, options: tuple[str, str], told: str
) -> None:
    (tmp_path / "short.txt").write_text("cat\n")
    before = files_below(tmp_path)
    assert told in skipway_("import", weights, "--to", "m.safetensors", *options).refusal()
    assert files_below(tmp_path) == before, "nothing half-written"


def test_no_weights_are_one_line(skipway_: Skipway, tmp_path: Path) -> None:
    (tmp_path / "page.h5").write_text("<!DOCTYPE html><html></html>")
    assert "a web page" in skipway_("import", "page.h5", "--to", "m.safetensors").refusal()
    assert "does not exist" in skipway_("import", "absent.pth", "--to", "m.safetensors").refusal()
    assert "--to" in skipway_("import", "page.h5").refusal()
