"""Worker processes: how many there may be, and what is said when one of them is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from skipway.data.dataset import Split
from skipway.data.loading import evaluation_batches
from skipway.data.preprocessing import preset
from skipway.data.sources import open_source
from skipway.data.workers import (
    MAX_WORKERS,
    batch_bytes,
    fitting_workers,
    require_workers,
    shared_bytes,
    starting_workers,
)
from skipway.errors import SkipwayError
from skipway.evaluation.judge import evaluate

MIB = 2**20


def _with_room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))


@pytest.mark.parametrize(
    ("free", "processes", "expected"),
    [
        (2**34, 1, 8),
        (shared_bytes(8, MIB), 1, 8),
        (shared_bytes(8, MIB) - 4096, 1, 7),
        (shared_bytes(1, MIB), 1, 1),
        (2 * shared_bytes(3, MIB), 2, 3),
        (65536, 1, 0),
        (0, 1, 0),
    ],
)
def test_workers_fit_the_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, processes: int, expected: int
) -> None:
    _with_room(monkeypatch, free)
    said: list[str] = []
    assert fitting_workers(8, MIB, said.append, processes=processes, folder=tmp_path) == expected
    assert len(said) == (expected < 8)
    if said:
        assert "8 worker processes need" in said[0]
        assert (f"{expected} of them" if expected else "the main process") in said[0]


def test_a_folder_that_is_absent_has_no_room(tmp_path: Path) -> None:
    said: list[str] = []
    assert fitting_workers(2, 1, said.append, folder=tmp_path / "shm") == (0 if sys.platform == "linux" else 2)
    assert fitting_workers(0, 1, said.append, folder=tmp_path / "shm") == 0
    assert len(said) == (sys.platform == "linux")


def test_bytes_of_a_batch_are_those_of_its_tensors() -> None:
    assert batch_bytes(preset("cifar", 64), 8) == 8 * 3 * 64 * 64 + 2 * 4096


@pytest.mark.parametrize("count", [-2, MAX_WORKERS + 1, 1_000_000])
def test_a_senseless_number_of_workers_is_refused(count: int) -> None:
    with pytest.raises(SkipwayError, match="give 0 to 256"):
        require_workers(count)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...", "shared memory"),
        (
            "Caught RuntimeError in DataLoader worker process 0.\nunable to allocate shared memory(shm) for file </x>",
            "shared memory",
        ),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "lack of memory"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "--workers 0"),
    ],
)
def test_a_lost_worker_is_one_line(text: str, line: str) -> None:
    with pytest.raises(SkipwayError, match=line) as caught, starting_workers():
        raise RuntimeError(text)
    assert "workers 0" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["Caught RuntimeError in DataLoader worker process 0.\nsize mismatch", "out of shared memory in a kernel"]
)
def test_other_errors_stay_what_they_are(text: str) -> None:
    with pytest.raises(RuntimeError, match="m"), starting_workers():
        raise RuntimeError(text)


class _Deadly:
    """A picture file whose reading ends its process as the kernel does when memory is short."""

    def __init__(self, split: Split) -> None:
        self._pictures = split.pictures

    def __getattr__(self, name: str) -> object:
        return getattr(self._pictures, name)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> object:
        if index == 5:
            os.kill(os.getpid(), 9)
        return self._pictures[index]


@starting_workers()
def _read_all(split: Split) -> int:
    batches = evaluation_batches(split, preset("cifar", 16), batch_size=4, workers=1, pin=False)
    return sum(len(batch.targets) for batch in batches)


def test_a_killed_worker_is_one_line(colours: Path) -> None:
    split = open_source(colours).split("all").subset(np.arange(8))
    deadly = Split(_Deadly(split), split.targets)  # type: ignore[arg-type]
    with pytest.raises(SkipwayError, match=r"killed.*--workers 0"):
        _read_all(deadly)


def test_nothing_begins_while_a_script_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process sees while it imports the main module."""
    import multiprocessing

    from skipway.training.console import Silent
    from skipway.training.finder import find_rate
    from skipway.training.run import resume, train

    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    data = str(tmp_path)
    for work in (
        lambda: train(data),
        lambda: resume(data),
        lambda: evaluate(data, data),
        lambda: find_rate(data, reporter=Silent()),
    ):
        with pytest.raises(SkipwayError, match=r"if __name__ == '__main__':"):
            work()
    assert not list(tmp_path.iterdir())


_GUARDLESS = """
import multiprocessing, pathlib, sys
multiprocessing.set_start_method("spawn", force=True)
import skipway
from skipway.training.recipe import Recipe
print("begun")
skipway.train(
    sys.argv[1], model="alexnet.mnist", recipe=Recipe(epochs=1, batch_size=12, keep="last"), image_size=16,
    workers=1, device="cpu", out=sys.argv[2],
)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_begins_once(colours: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_GUARDLESS)
    out = tmp_path / "run"
    command = [sys.executable, str(script), str(colours), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    refusals = [line for line in done.stderr.splitlines() if line.startswith("skipway.errors.SkipwayError: ")]
    assert len(refusals) == 2, done.stderr  # the worker's, and that of the script whose worker ended
    assert all("if __name__ == '__main__':" in line for line in refusals)
    assert len(list((out / "checkpoints").iterdir())) == 1  # that of the beginning, by one writer


def _may_mount() -> bool:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /dev/shm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("options", ["size=64k", pytest.param("ro", marks=pytest.mark.slow)])
def test_a_small_shared_memory_is_no_obstacle(trained: Path, colours: Path, options: str) -> None:
    if not _may_mount():
        pytest.skip("this user may not mount a file system in a namespace of its own")
    inner = [sys.executable, "-m", "skipway", "evaluate", str(trained / "model.safetensors"), str(colours)]
    mount = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", *inner, "--workers", "2", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith("/dev/shm ")
    assert "the main process decodes pictures itself" in done.stderr
    assert "36 pictures" in done.stdout
