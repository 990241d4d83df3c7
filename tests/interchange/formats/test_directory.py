"""Folders of the hub: timm's own, Hugging Face's, and weights in several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.interchange.formats.hostile import read_all, refused

from skipway.errors import ModelFileError
from skipway.interchange import directory

TIMM = Path(__file__).parent / "fixtures" / "torch_npy" / "timm_resnet"
# As transformers' ResNetConfig writes it, cut.
CONFIG = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet", "depths": [3, 4, 6, 3]}
STATE = {"resnet.embedder.embedder.convolution.weight": torch.rand(4, 3, 7, 7), "classifier.1.bias": torch.rand(5)}


def same(read: dict[str, np.ndarray], wanted: dict[str, torch.Tensor]) -> None:
    assert set(read) == set(wanted)
    for name, tensor in wanted.items():
        assert np.array_equal(read[name], tensor.numpy())


def test_a_folder_of_timm() -> None:
    source = directory.read(TIMM)
    same(read_all(directory.read, TIMM), load_file(TIMM / "model.safetensors"))
    assert source.notes["config"]["architecture"] == "resnet18"
    assert source.notes["config"]["pretrained_cfg"]["interpolation"] == "bicubic"
    assert (source.format, source.notes["weights_format"]) == ("directory", "safetensors")
    assert directory.looks_like(b"", TIMM)
    assert not directory.looks_like(b"", TIMM.parent)


def test_a_folder_of_hugging_face(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "preprocessor_config.json").write_text('{"crop_pct": 0.875}')
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    same(read_all(directory.read, tmp_path), STATE)
    notes = directory.read(tmp_path).notes
    assert notes["config"] == CONFIG
    assert notes["preprocessor_config"] == {"crop_pct": 0.875}
    assert notes["weights"] == "pytorch_model.bin"
    save_file(STATE, tmp_path / "model.safetensors")
    assert directory.read(tmp_path).notes["weights"] == "model.safetensors"


def shards(folder: Path, kind: str) -> Path:
    files = dict(zip(STATE, ("part-1-of-2", "part-2-of-2"), strict=True))
    ending = ".safetensors" if kind == "model.safetensors" else ".bin"
    for name, file in files.items():
        save = save_file if ending == ".safetensors" else torch.save
        save({name: STATE[name]}, folder / (file + ending))
    index = folder / f"{kind}.index.json"
    places = {name: file + ending for name, file in files.items()}
    index.write_text(json.dumps({"metadata": {"total_size": 2372}, "weight_map": places}))
    return index


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files(kind: str, tmp_path: Path) -> None:
    index = shards(tmp_path, kind)
    same(read_all(directory.read, index), STATE)
    same(read_all(directory.read, tmp_path), STATE)
    assert directory.looks_like(b"{", index)
    assert directory.read(index).notes["index_metadata"] == {"total_size": 2372}


def test_arrays_that_the_index_leaves_out_are_told(tmp_path: Path) -> None:
    index = shards(tmp_path, "model.safetensors")
    content = json.loads(index.read_text())
    (name, file), _ = content["weight_map"].items()
    save_file({name: STATE[name], "more": torch.ones(1)}, tmp_path / file)
    assert "1 array is in the files" in directory.read(index).warnings[0]
    same(read_all(directory.read, index), STATE)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"a": "../secret.safetensors"}, "outside"),
        ({"a": "/etc/passwd"}, "outside"),
        ({"a": "sub/part.safetensors"}, "outside"),
        ({"a": "..\\part.safetensors"}, "outside"),
        ({"a": ".."}, "folder"),
        ({"a": ""}, "outside"),
        ({"a": "gone.safetensors"}, "exist"),
        ({"a": "part-1-of-2.safetensors"}, "does not hold"),
        ({"a": "model.safetensors.index.json"}, "no safetensors file"),
        ({"a": 1}, "weight_map"),
        ({}, "weight_map"),
        ([], "weight_map"),
        (None, "weight_map"),
    ],
)
def test_hostile_indexes(places: Any, words: str, tmp_path: Path) -> None:
    index = shards(tmp_path, "model.safetensors")
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelFileError, match=words) as caught:
        directory.read(index)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff{}", b"<html>", b'{"a": ' + b"9" * 9999 + b"}"]
)
def test_configs_that_are_none(content: bytes, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes(content)
    assert "config.json" in refused(directory.read, tmp_path)


def test_folders_without_weights(tmp_path: Path) -> None:
    refused(directory.read, tmp_path, "give the weight file itself")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    refused(directory.read, tmp_path, "link")
    refused(directory.read, tmp_path / "absent", "exist")
