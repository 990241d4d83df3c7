"""Files of others, and files that cannot be read, in place of a model file: what they are, and the way from there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skipway.errors import ModelFileError, ReadError
from skipway.models.catalog import find_spec
from skipway.training.choice import preprocessing_for
from skipway.weights.bundle import Bundle, load_bundle, save_bundle


def refusal(path: Path) -> str:
    with pytest.raises((ModelFileError, ReadError)) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert str(path) in message
    assert "; " in message
    assert "\n" not in message
    return message


def pth(path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)


def old_pth(path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, path, _use_new_zipfile_serialization=False)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["dense/kernel"] = np.zeros((2, 2), np.float32)


def npy(path: Path) -> None:
    np.save(path, np.zeros(3))


def npz(path: Path) -> None:
    np.savez(path, a=np.zeros(3))


def others(path: Path) -> None:
    save_file({"fc.weight": torch.zeros(2, 2)}, path)


KINDS = {
    "net.pth": (pth, "a PyTorch file"),
    "net.th": (old_pth, "a PyTorch file"),
    "net.h5": (hdf5, "an HDF5 file"),
    "net.npy": (npy, "a NumPy file"),
    "net.npz": (npz, "a NumPy file"),
    "net.safetensors": (others, "weights but no skipway header"),
}


@pytest.mark.parametrize("name", KINDS)
def test_weights_of_others_name_the_import(name: str, tmp_path: Path) -> None:
    write, kind = KINDS[name]
    write(tmp_path / name)
    message = refusal(tmp_path / name)
    assert kind in message
    assert f"`skipway import {tmp_path / name} --to net" in message
    assert "damaged" not in message


def test_a_graph_is_no_model_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    message = refusal(tmp_path / "net.onnx")
    assert "a graph (onnx), which skipway writes but does not read; give the model file" in message
    assert "damaged" not in message


def test_a_checkpoints_prefix_and_a_hubs_folder_name_the_import(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    others(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    assert f"`skipway import {folder} --to hub.safetensors`" in refusal(folder)


def test_a_run_folder_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert f"give {tmp_path / 'model.safetensors'}" in refusal(tmp_path)


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert "is a pipe or a device, not a file" in refusal(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = find_spec("plain_mlp_2").replaced({"input_size": 4, "width": 2})
    labels = tuple(map(str, range(spec.num_classes)))
    bundle = Bundle(spec, preprocessing_for(spec), labels, dict(spec.build().state_dict()))
    save_bundle(tmp_path / "m.safetensors", bundle)
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EACCES, "permission denied"), (errno.EIO, "the disk reports an error"), (errno.EMFILE, "too many open")],
)
@pytest.mark.parametrize("place", ["first bytes", "header and tensors"])
def test_the_systems_reason_is_not_called_damage(
    model: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str, place: str
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    if place == "first bytes":
        monkeypatch.setattr(Path, "open", fails)
    else:
        monkeypatch.setattr("skipway.weights.model_header.safe_open", fails)
    message = refusal(model)
    assert told in message
    assert "damaged" not in message
    assert "train it again" not in message


def test_too_little_memory_is_not_called_damage(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("skipway.weights.model_header.safe_open", fails)
    with pytest.raises(MemoryError):
        load_bundle(model)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("name", list(KINDS))
def test_the_readers_of_others_files_tell_the_systems_reason(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skipway.interchange.reading import read_any

    KINDS[name][0](tmp_path / name)

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(ModelFileError) as caught:
        read_any(tmp_path / name)
    assert "cannot be read" in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_weights_without_their_usual_ending_name_the_import_too(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\x0a\x05Small\xa2\x06\x04\x0a\x02ab")  # as a caffemodel begins
    assert "`skipway import` it" in refusal(tmp_path / "weights.bin")


def test_a_first_byte_of_a_pickle_is_not_yet_pytorchs(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\x80" * 64)
    assert "PyTorch" not in refusal(tmp_path / "noise")
