"""`skipway reproduce` as a person meets it, its runs in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skipway.claims.catalog import NAMES
from skipway.cli import main
from tests.claims.conftest import pictures


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skipway", "reproduce", *arguments], capture_output=True, text=True, check=False
    )


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of the command in this process, where it starts no others."""
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_the_list_has_every_claim_and_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(answered(capsys, "--list", "--json")[1])
    assert [row["claim"] for row in rows] == list(NAMES)
    assert all(row["sentence"] and row["source"] for row in rows)
    text = answered(capsys, "--list")[1]
    assert all(name in text for name in NAMES)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no claim was named; give one of relu-vs-tanh"),
        (("relu",), "unknown claim 'relu'; the nearest: relu-vs-tanh"),
        (("lrn", "--budget", "huge"), "give quick or full"),
        (("lrn", "--seeds", "-1"), "give 0 or more"),
        (("lrn", "--data", "nowhere"), "put the files of CIFAR-10 there, or leave --data out, which fetches them"),
        (("hand-signs",), "give --data DIR"),
    ],
)
def test_bad_input_is_one_line_that_names_the_fix(
    tmp_path: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = answered(capsys, *arguments, "--out", str(tmp_path / "claims"))
    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.rglob("result.json"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As many made-up pictures as the quick budget of some claims takes."""
    (tmp_path / "cifar10").mkdir()
    for name, count, seed in (("train", 20_000, 1), ("test", 1_000, 2)):
        x, y = pictures(count, seed)
        np.savez(tmp_path / "cifar10" / f"{name}.npz", x=x, y=y)
    return tmp_path


@pytest.mark.slow
def test_a_budget_that_is_too_small_is_undecided_and_a_second_call_repeats_nothing(data: Path, tmp_path: Path) -> None:
    arguments = ("relu-vs-tanh", "--data", str(data), "--out", str(tmp_path / "out"), "--seeds", "1", "--json")
    done = command(*arguments, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["verdict"] == "undecided"
    assert facts["seeds"] == [0]
    assert "3 runs" in done.stderr
    assert "run 3 of 3" in done.stderr
    folder = tmp_path / "out" / "relu-vs-tanh"
    assert {"result.json", "figure.svg", "figure.png", "report.html"} <= {one.name for one in folder.iterdir()}
    again = command(*arguments, "--epochs", "1")
    assert "3 of them finished earlier" in again.stderr
    assert json.loads(again.stdout)["runs"] == facts["runs"]


@pytest.mark.slow
def test_a_stopped_claim_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("degradation", "--data", str(data), "--out", str(out), "--seeds", "1", "--epochs", "1", "--json")
    started = subprocess.Popen(
        [sys.executable, "-m", "skipway", "reproduce", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while started.poll() is None and not list(out.glob("*/runs/*/*/checkpoints/*")):
        time.sleep(0.05)
    second = command(*arguments)
    assert second.returncode == 2
    assert f"is in use by process {started.pid} on" in second.stderr
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does; the runs are in groups of their own
    printed, told = started.communicate(timeout=120)
    assert started.returncode == 130, told
    assert "the same command goes on from here" in told
    assert "Traceback" not in told
    assert printed == ""
    assert not list(out.rglob("result.json"))
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 4


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the children of a process")
def test_a_process_whose_parent_was_killed_while_it_started_ends() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = f"from skipway.claims.running import _end_with_parent; _end_with_parent({gone.pid})"
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == 1


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    started = subprocess.Popen(
        [sys.executable, "-m", "skipway", "reproduce", "degradation", "--data", str(data), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while started.poll() is None and not list(out.glob("*/runs/*/*/checkpoints/*")):
        time.sleep(0.05)
    workers = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    assert len(workers) >= 2
    started.kill()
    started.wait()
    limit = time.monotonic() + 30
    while any(Path(f"/proc/{one}").exists() for one in workers):
        assert time.monotonic() < limit, "orphans go on"
        time.sleep(0.2)
