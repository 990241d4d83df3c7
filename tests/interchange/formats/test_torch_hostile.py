"""PyTorch files that are damaged, hold no weights or are made to do harm: one clear line, and no code run."""

from __future__ import annotations

import os
import pickle
import stat
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.interchange.formats.hostile import read_all, refused, refuses_what_is_no_file, truncations
from torch import nn

from skipway.interchange.torch import read as torch_file

FIXTURES = Path(__file__).parent / "fixtures" / "torch_npy"
CHECKPOINTS = ("checkpoint_python2.pth", "checkpoint_python3.pth", "checkpoint_zip.pth")
FORMS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def save(content: Any, path: Path, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def same(read: dict[str, np.ndarray], wanted: dict[str, torch.Tensor]) -> None:
    assert list(read) == list(wanted)
    for name, tensor in wanted.items():
        assert read[name].dtype == tensor.numpy().dtype
        assert read[name].shape == tuple(tensor.shape)
        assert read[name].tobytes() == tensor.numpy().tobytes(), name


WEIGHTS = {"conv.weight": torch.arange(6.0)}


def test_what_is_no_file(tmp_path: Path) -> None:
    refuses_what_is_no_file(torch_file.read, tmp_path, "weights.pth")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_truncated(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in truncations((FIXTURES / name).read_bytes()):
        path.write_bytes(content)
        refused(torch_file.read, path)


def test_a_flipped_bit_of_a_zip_is_noticed(tmp_path: Path) -> None:
    path = save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    content = path.read_bytes()
    at = content.index(np.float32(500).tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    refused(torch_file.read, path, "data/0")


def test_a_zip_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(WEIGHTS, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    same(read_all(torch_file.read, path), WEIGHTS)


class Command:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@FORMS
def test_nothing_in_a_file_is_run(legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = save({"state_dict": WEIGHTS, "epoch": Command(marker)}, tmp_path / "a.pth", legacy=legacy)
    refused(torch_file.read, path, "system")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


class Net(nn.Sequential):
    pass


@FORMS
@pytest.mark.filterwarnings("ignore::torch.serialization.SourceChangeWarning", "ignore:Couldn't retrieve source code")
def test_whole_networks_are_refused_with_the_way_out(legacy: bool, tmp_path: Path) -> None:
    for network in (nn.Sequential(nn.Linear(2, 2)), Net(nn.Linear(2, 2))):
        path = save(network, tmp_path / "a.pth", legacy=legacy)
        message = refused(torch_file.read, path, "whole network")
        assert "torch.save(network.state_dict()" in message
        assert type(network).__name__ in message


def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py"):
            archive.writestr(name, pickle.dumps({}))
    refused(torch_file.read, path, "TorchScript")


@FORMS
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(2), "no dictionary"),
        ([WEIGHTS], "no dictionary"),
        ({"epoch": 3}, "no weights"),
        ({}, "no weights"),
        ({"a": torch.ones(1).expand(1 << 14, 1 << 14)}, "asks for more"),
        ({"a": torch.ones(2).to_sparse()}, "sparse"),
        ({"module.a._orig_mod.b": torch.ones(1), "module.a.b": torch.ones(1)}, "two tensors of one name"),
    ],
)
def test_files_without_weights(content: Any, words: str, legacy: bool, tmp_path: Path) -> None:
    refused(torch_file.read, save(content, tmp_path / "a.pth", legacy=legacy), words)


def edited(content: bytes, before: bytes, after: bytes) -> bytes:
    assert content.count(before) == 1
    return content.replace(before, after)


def edited_zip(path: Path, before: bytes, after: bytes) -> None:
    """The archive with its pickle changed and all checksums right."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, edited(content, before, after) if name.endswith("/data.pkl") else content)


LIES = {
    # The storage's number of items, the shape, the strides, the offset of a tensor of (2, 3).
    "a storage of 2**31 items": (b"q\x06K\x06", b"q\x06J\xff\xff\xff\x7f"),
    "a storage of 2**200 items": (b"q\x06K\x06", b"q\x06\x8a\x1a" + b"\xff" * 25 + b"\x00"),
    "a storage of -1 items": (b"q\x06K\x06", b"q\x06J\xff\xff\xff\xff"),
    "a shape of 2**62 items": (b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
    "a negative shape": (b"K\x02K\x03\x86", b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86"),
    "a shape of floats": (b"K\x02K\x03\x86", b"G\x40\x00\x00\x00\x00\x00\x00\x00K\x03\x86"),
    "large strides": (b"K\x03K\x01\x86", b"J\xff\xff\xff\x7fK\x01\x86"),
    "negative strides": (b"K\x03K\x01\x86", b"J\xfd\xff\xff\xffK\x01\x86"),
    "strides of another shape": (b"K\x03K\x01\x86", b"K\x03\x85"),
    "an offset behind the end": (b"QK\x00", b"QM\xff\xff"),
    "a negative offset": (b"QK\x00", b"QJ\xff\xff\xff\xff"),
    "a storage of another kind": (b"torch\nFloatStorage", b"torch\nDoubleStorage"),
    "a class that stores nothing": (b"torch\nFloatStorage", b"torch\nSize"),
    "a reference to something else": (b"X\x07\x00\x00\x00storage", b"X\x07\x00\x00\x00stodage"),
}


def test_a_storage_that_is_part_of_another(tmp_path: Path) -> None:
    path = save({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "a.pth", legacy=True)
    for before, after in (
        (b"q\x06K\x06N", b"q\x06K\x06X\x04\x00\x00\x00partK\x02K\x04\x87"),
        (b"K\x02K\x03\x86", b"K\x02K\x02\x86"),
        (b"K\x03K\x01\x86", b"K\x02K\x01\x86"),
    ):
        path.write_bytes(edited(path.read_bytes(), before, after))
    assert read_all(torch_file.read, path)["a"].tolist() == [[2, 3], [4, 5]]
    same(read_all(torch_file.read, path), torch.load(path, weights_only=True))
    path.write_bytes(edited(path.read_bytes(), b"partK\x02K\x04", b"partK\x03K\x04"))
    refused(torch_file.read, path, "asks for more")


@FORMS
@pytest.mark.parametrize("lie", LIES)
def test_sizes_that_lie_ask_for_no_memory(lie: str, legacy: bool, tmp_path: Path) -> None:
    path = save({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "a.pth", legacy=legacy)
    assert len(read_all(torch_file.read, path)) == 1
    before, after = LIES[lie]
    if legacy:
        path.write_bytes(edited(path.read_bytes(), before, after))
    else:
        edited_zip(path, before, after)
    tracemalloc.start()
    refused(torch_file.read, path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_many_tensors_of_one_storage_are_a_bomb(tmp_path: Path) -> None:
    large = torch.ones(1 << 18)
    path = save({str(index): large for index in range(1000)}, tmp_path / "a.pth")
    refused(torch_file.read, path, "far more than it holds")


def test_a_checkpoint_within_itself_ends(tmp_path: Path) -> None:
    state: dict[str, Any] = {"epoch": 1}
    state["model"] = state["net"] = state["state_dict"] = state
    refused(torch_file.read, save(state, tmp_path / "a.pth"), "no weights")


def rewritten(path: Path, change: Any) -> None:
    """The archive with each member's entry and name passed through `change`."""
    with zipfile.ZipFile(path) as archive:
        parts = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in parts:
            entry = zipfile.ZipInfo(info.filename)
            archive.writestr(change(entry) or entry, content)


def test_hostile_archives(tmp_path: Path) -> None:
    path = save(WEIGHTS, tmp_path / "a.pth")

    def renamed(entry: zipfile.ZipInfo) -> Any:
        return entry.filename.replace("a/data/0", "a/data/../../0")

    def linked(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16 if entry.filename == "a/data/0" else 0

    def dropped(entry: zipfile.ZipInfo) -> Any:
        return entry.filename.replace("a/data/0", "a/data/7")

    for change, words in ((renamed, "points out"), (linked, "symbolic link"), (dropped, "absent or too short")):
        rewritten(save(WEIGHTS, path), change)
        refused(torch_file.read, path, words)
    with zipfile.ZipFile(save(WEIGHTS, path), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/1", bytes(200 << 20))
    refused(torch_file.read, path, "unpack to")


def test_an_archive_packed_again_with_compression_is_read(tmp_path: Path) -> None:
    path = save({"a": torch.arange(5000.0)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    same(read_all(torch_file.read, path), {"a": torch.arange(5000.0)})
