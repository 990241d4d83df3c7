"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipway.errors import ReadError, SkipwayError, StorageError, is_out_of_memory, memory_message
from skipway.files import read_bounded, write_text, write_whole


def _half(error: BaseException) -> object:
    def write(file: Path) -> None:
        file.write_bytes(b"half")
        raise error

    return write


def test_a_file_appears_with_the_folders_above_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "grün\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "grün\n".encode()
    assert [one.name for one in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    write_text(file, "a long text that was there before")
    write_text(file, "new")
    assert file.read_text() == "new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "c.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "c.txt").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageError),
        (OSError(errno.EIO, "Input/output error"), StorageError),
        (
            RuntimeError("[enforce fail at inline_container.cc:659] PytorchStreamWriter failed writing file"),
            StorageError,
        ),
        (RuntimeError("basic_ios::clear: iostream error"), StorageError),  # torch's writer of checkpoints
        (ValueError("a defect"), ValueError),
        (RuntimeError("another defect"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"old")
    with pytest.raises(raised):
        write_whole(file, _half(error))  # type: ignore[arg-type]
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"model.bin": b"old"}


def test_a_full_disk_is_named_with_its_fix(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"c\.txt could not be written: the disk is full; free some space"):
        write_whole(tmp_path / "c.txt", _half(OSError(errno.ENOSPC, "No space left on device")))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for file in (tmp_path / "file" / "c.txt", tmp_path / "file" / "below" / "c.txt"):
        with pytest.raises(
            StorageError, match=r"c\.txt could not be written \(.*\); a file stands where a folder should be"
        ):
            write_text(file, "text")


def test_a_folder_in_the_place_of_the_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c.txt").mkdir()
    with pytest.raises(StorageError):
        write_text(tmp_path / "c.txt", "text")
    assert [one.name for one in tmp_path.iterdir()] == ["c.txt"]


def test_odd_bytes_of_a_name_are_spelt_out(tmp_path: Path) -> None:
    write_text(tmp_path / "c.txt", os.fsdecode(b"caf\xe9.png"))
    assert (tmp_path / "c.txt").read_text() == r"caf\udce9.png"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="file size limits are Unix's")
def test_a_disk_that_fills_up_keeps_every_old_file(tmp_path: Path) -> None:
    """Real writers against a real limit: text, a model file, a checkpoint."""
    code = f"""
import resource
from dataclasses import replace
from pathlib import Path
from skipway.errors import StorageError
from skipway.models.catalog import find_spec
from skipway.training.choice import preprocessing_for
from skipway.training.state import Progress, save_checkpoint
from skipway.weights.bundle import Bundle, save_bundle
from skipway.files import write_text

folder = Path({str(tmp_path)!r})
spec = find_spec("resnet_v1_20.cifar")
tensors = spec.build().state_dict()
bundle = Bundle(spec, preprocessing_for(spec), tuple("0123456789"), tensors)
writers = (
    lambda: write_text(folder / "report.html", "x" * 1_000_000),
    lambda: save_bundle(folder / "model.safetensors", bundle),
    lambda: save_checkpoint(folder, Progress(step=3), {{"network": tensors}}, 1),
)
for write in writers:
    write()
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
for write in writers:
    try:
        write()
    except StorageError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("could not be written: the disk is full; free some space") == 3, done.stdout
    left = {str(one.relative_to(tmp_path)): one.stat().st_size for one in tmp_path.rglob("*") if one.is_file()}
    assert left.keys() == {"report.html", "model.safetensors", "checkpoints/step-00000003.pt"}
    assert all(size > 300_000 for size in left.values())


def test_storage_errors_are_skipways() -> None:
    assert issubclass(StorageError, SkipwayError)


def test_a_bounded_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_bounded(tmp_path / "a", 5) == read_bounded(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ReadError, match="has more than 4 bytes; give a smaller file"):
        read_bounded(tmp_path / "a", 4)
    assert read_bounded(Path("/proc/self/status"))  # whose size is said to be 0


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing", "loop", "long name"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "long name":
        path = tmp_path / ("x" * 300)
    told = {"pipe": "pipe or a device", "device": "pipe or a device", "folder": "is a folder", "nothing": "not exist",
            "loop": "leads back to itself", "long name": "too long"}[kind]  # fmt: skip
    with pytest.raises(ReadError, match=rf"{told}.*; "):
        read_bounded(path)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "permission denied.*; change its permissions"),
        (errno.EIO, "the disk reports an error.*; check the disk"),
        (errno.ENOMEM, "the memory is too small.*; free some memory"),
        (errno.EMFILE, "too many open files.*; raise"),
        (errno.ENXIO, "No such device.*; check the path"),
    ],
)
def test_the_systems_own_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    (tmp_path / "a").write_bytes(b"x")

    def fails(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(ReadError, match=told):
        read_bounded(tmp_path / "a")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to "
                     "allocate 3221225472 bytes. Error code 12 (Cannot allocate memory)"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=str,
)  # fmt: skip
def test_every_library_says_in_its_way_that_memory_ran_out(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert "the memory is too small" in memory_message(error)
    assert "; give a smaller --batch-size" in memory_message(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), StorageError("out of memory cards; buy some")])
def test_other_errors_are_not_about_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)
