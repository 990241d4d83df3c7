"""`skipway benchmark` as a person meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from skipway import cli
from skipway.benchmark import run
from skipway.benchmark.work import Workload
from skipway.inference.engines import ENGINES

TINY = ("alexnet.mnist", "--batch-size", "2", "--steps", "2", "--warmup", "1", "--engine", "eager", "--device", "cpu")
LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?: %s across %d steps, \d+\.\d{3} \+/- \d+\.\d{3} sec / batch"


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["benchmark", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


@pytest.mark.parametrize(("mode", "word"), [("forward", "Forward"), ("train", "Training")])
def test_the_line_comes_first_then_the_table(capsys: pytest.CaptureFixture[str], mode: str, word: str) -> None:
    status, out, err = called(capsys, *TINY, "--mode", mode)
    assert status == 0, err
    line, network, header, row, note = out.splitlines()
    assert re.fullmatch(LINE % (word, 2), line)
    assert network.startswith("alexnet.mnist, ")
    assert "28 x 28" in network
    for title in ("mean", "sd", "median", "p95", "pictures/s", "GFLOP/s", "of peak", "memory"):
        assert title in header
    assert row.split()[:3] == ["eager", "fp32", "2"]
    assert "%" in row
    assert "peak" in note


def test_a_sweep_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = called(capsys, *TINY, "--sweep", "3,1,3", "--precision", "fp32, bf16", "--json")
    assert status == 0
    rows = json.loads(out)
    assert [(one["precision"], one["batch_size"]) for one in rows] == [
        ("fp32", 3),
        ("fp32", 1),
        ("bf16", 3),
        ("bf16", 1),
    ]
    status, out, _ = called(capsys, *TINY, "--json")
    assert json.loads(out)["batch_size"] == 2


def test_a_profile(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = called(capsys, *TINY, "--profile", str(tmp_path / "new" / "traces"))
    assert status == 0, err
    trace = tmp_path / "new" / "traces" / "forward-fp32-2.json"
    assert json.loads(trace.read_text())["traceEvents"]
    assert re.search(r"^  conv2\.\w+ +\d+\.\d{3} ms +\d+\.\d% +[\d,.]+ GFLOP/s$", out, re.MULTILINE)
    status, out, _ = called(capsys, *TINY, "--mode", "train", "--profile", str(tmp_path), "--json")
    assert status == 0
    assert "aten::convolution_backward" in {one["name"] for one in json.loads(out)["profile"]["costs"]}


def test_ctrl_c_prints_what_was_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(9))

    def step() -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "forward_work", lambda *args, **named: Workload("eager", step))
    status, out, err = called(capsys, "alexnet.mnist", "--warmup", "1", "--steps", "8", "--device", "cpu")
    assert status == 130
    assert re.fullmatch(LINE % ("Forward", 3), out.splitlines()[0])
    assert err.splitlines()[-1].startswith("error: stopped; ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sweep", "1,x"),
        ("--sweep", "1,,2"),
        ("--sweep", "0"),
        ("--engine", "fastest"),
        ("--engine", ""),
        ("--precision", "fp8"),
        ("--steps", "0"),
        ("--steps", "two"),
        ("--warmup", "-1"),
        ("--image-size", "-1"),
        ("--mode", "both"),
        ("--recipe", "none.toml", "--mode", "train"),
        ("--profile", __file__),
        ("--profile", __file__ + "/below"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    status, out, err = called(capsys, *TINY, *arguments)
    assert status == 2
    assert not out
    assert err.splitlines()[-1].startswith("error: ")
    assert "; " in err.splitlines()[-1]
    assert "Traceback" not in err


def test_the_help_names_every_engine(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = called(capsys, "--help")
    assert status == 0
    words: Any = " ".join(out.split())
    assert all(name in words for name in ("auto", *ENGINES))
