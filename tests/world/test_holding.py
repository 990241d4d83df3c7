"""A folder that one process at a time has: who holds it is told, and the dead hold nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipway.claims import reproduce as module
from skipway.claims.reproduce import reproduce
from skipway.claims.running import Where
from skipway.errors import RunError, StorageError
from skipway.world.holding import held

_HOLDS = """
import sys, time
from pathlib import Path
from skipway.world.holding import held

with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the claim `lrn` is reproduced into."""
    return tmp_path / "lrn"


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


class _ReachedError(Exception):
    """The runs of the claim would begin."""


def test_a_claim_is_one_process_at_a_time(
    folder: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object) -> None:
        raise _ReachedError

    monkeypatch.setattr(module, "run_claim", reached)
    with pytest.raises(RunError, match=f"{folder} is in use by process {holder.pid} on {socket.gethostname()}, since"):
        reproduce("lrn", where=Where(folder.parent))
    holder.kill()
    holder.wait()
    assert (folder / ".holder.json").exists(), "a killed process leaves its name"
    with pytest.raises(_ReachedError):
        reproduce("lrn", where=Where(folder.parent))
    assert not (folder / ".holder.json").exists()


def test_a_folder_is_free_again_afterwards(folder: Path) -> None:
    for _ in range(2):
        with held(folder):
            assert (folder / ".holder.json").exists()
        assert not (folder / ".holder.json").exists()


def test_a_folder_that_cannot_be_made_names_the_fix(folder: Path) -> None:
    folder.parent.joinpath("file").write_text("")
    with (
        pytest.raises(
            StorageError, match=r"could not be written \(.*\); a file stands where a folder should be: choose"
        ),
        held(folder.parent / "file" / "lrn"),
    ):
        pass
