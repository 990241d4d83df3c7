"""Checkpoints of TensorFlow: its own, as fixtures; ours; and such as nobody should trust."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.interchange.formats.hostile import read_all, refused
from tests.interchange.formats.tensorflow_files import FIXTURES, assert_same, expected

from skipway.errors import ModelFileError, StorageError
from skipway.interchange.tensorflow import write_bundle as tf_bundle_writer
from skipway.interchange.tensorflow.checkpoint import looks_like, read, write

CHECKPOINTS = {
    "v2": "model.ckpt-7",
    "v2_sharded": "model.ckpt-7",
    "v1": "model.ckpt-7",
    "v1_sharded": "model.ckpt-7",
    "objects": "ckpt-1",
}


@pytest.mark.parametrize("folder", CHECKPOINTS)
def test_checkpoints_of_tensorflow(folder: str) -> None:
    prefix = FIXTURES / folder / CHECKPOINTS[folder]
    source = read(prefix)
    assert source.format == f"TensorFlow checkpoint {'V1' if 'v1' in folder else 'V2'}"
    assert source.path == prefix
    assert str(prefix) in source.notes["found"]
    assert source.notes["shards"] == (2 if "sharded" in folder else 1)
    wanted = expected(FIXTURES / folder)
    assert len(wanted) >= 7
    assert_same(read_all(read, prefix), wanted)


def test_types_that_are_not_given_as_they_are() -> None:
    assert read(FIXTURES / "v2").notes["widened"] == {"types/bfloat16": "bfloat16"}
    assert read(FIXTURES / "objects").notes["others"] == {"_CHECKPOINTABLE_OBJECT_GRAPH": "string"}


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("v2", ["", "checkpoint", "model.ckpt-7", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"]),
        ("v2_sharded", ["", "model.ckpt-7.data-00001-of-00002", "model.ckpt-7.meta"]),
        ("v1", ["", "checkpoint", "model.ckpt-7", "model.ckpt-7.meta"]),
        ("v1_sharded", ["", "checkpoint", "model.ckpt-7", "model.ckpt-7-00001-of-00002"]),
    ],
)
def test_any_path_that_means_it(tmp_path: Path, folder: str, names: list[str]) -> None:
    shutil.copytree(FIXTURES / folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.ckpt-7.meta").write_bytes(b"\n\x05a graph")
    for name in names:
        path = tmp_path / "copy" / name
        head = path.read_bytes()[:512] if path.is_file() else b""
        if not name.endswith(".meta"):
            assert looks_like(head, path), name
        assert read(path).path == tmp_path / "copy" / "model.ckpt-7"
        assert len(read(path).arrays) == len(expected(FIXTURES / folder))


def test_a_renamed_v1_file_is_known_by_its_end(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "v1" / "model.ckpt-7", tmp_path / "resnet.weights")
    assert looks_like(b"", tmp_path / "resnet.weights")
    assert_same(read_all(read, tmp_path / "resnet.weights"), expected(FIXTURES / "v1"))


def test_folders_without_a_state_file(tmp_path: Path) -> None:
    write(tmp_path / "one" / "variables" / "variables", {"a": np.ones(2, np.float32)})
    assert list(read(tmp_path / "one").arrays) == ["a"]
    write(tmp_path / "two" / "a.ckpt", {"a": np.ones(2, np.float32)})
    write(tmp_path / "two" / "b.ckpt", {"b": np.ones(2, np.float32)})
    refused(read, tmp_path / "two", "2 checkpoints (a.ckpt, b.ckpt)")
    (tmp_path / "empty").mkdir()
    refused(read, tmp_path / "empty", "folder")
    assert not looks_like(b"", tmp_path / "empty")


def test_a_state_file_from_another_machine_leads_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "model.ckpt", {"far": np.ones(2, np.float32)})
    write(tmp_path / "here" / "model.ckpt", {"near": np.ones(2, np.float32)})
    state = tmp_path / "here" / "checkpoint"
    for stated in (tmp_path / "elsewhere" / "model.ckpt", Path("../elsewhere/model.ckpt")):
        state.write_text(f'model_checkpoint_path: "{stated}"\n')
        assert list(read(tmp_path / "here").arrays) == ["near"]
    for stated in ("checkpoint", "gone", ".", "other"):
        (tmp_path / "here" / "other").write_text('model_checkpoint_path: "checkpoint"\n')
        state.write_text(f'model_checkpoint_path: "{stated}"\n')
        refused(read, state)


def arrays_of_every_type() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    floats = {f"net/{kind}": random.normal(size=(3, 2, 5)).astype(kind) for kind in ("f2", "f4", "f8")}
    whole = {
        f"net/{kind}": np.array([np.iinfo(kind).min, -1 % 7, np.iinfo(kind).max], kind)
        for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
    }
    special = np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)
    return floats | whole | {
        "bool": np.array([[True, False]]),
        "global_step": np.array(7, np.int64),
        "empty": np.zeros((0, 4), np.float32),
        "special": special,
        "é/\x01": np.ones(1, np.float32),
        "strided": np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3],
    }  # fmt: skip


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_what_is_written_is_read(tmp_path: Path, version: str) -> None:
    arrays = arrays_of_every_type()
    write(tmp_path / "model.ckpt", arrays, version)
    assert_same(read_all(read, tmp_path / "model.ckpt"), arrays)
    write(tmp_path / "model.ckpt", {"a": np.array([1.5], ">f4")}, version)
    assert_same(read_all(read, tmp_path / "model.ckpt"), {"a": np.array([1.5], np.float32)})
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_more_than_one_block(tmp_path: Path, version: str) -> None:
    random = np.random.default_rng(0)
    arrays = {f"net/unit_{number}/weights": random.normal(size=(60, number)).astype("f4") for number in range(1, 90)}
    write(tmp_path / "model.ckpt", arrays, version)
    assert_same(read_all(read, tmp_path / "model.ckpt"), arrays)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_what_cannot_be_written(tmp_path: Path, version: str) -> None:
    for arrays in ({"a": np.array(["text"])}, {"a": np.zeros(2, np.complex64)}, {"": np.zeros(2, np.float32)}):
        with pytest.raises(ModelFileError, match=r"model\.ckpt cannot be written .*; give"):
            write(tmp_path / "model.ckpt", arrays, version)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = {"a": np.ones(3, np.float32)}, {"a": np.zeros(3, np.float32)}
    write(tmp_path / "model.ckpt", old)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf_bundle_writer, "write_table", full)
    with pytest.raises(StorageError, match="disk is full"):
        write(tmp_path / "model.ckpt", new)
    assert_same(read_all(read, tmp_path / "model.ckpt"), old)


def test_reading_the_structure_leaves_the_values_alone(tmp_path: Path) -> None:
    """The shard may be changed, even be made unreadable nonsense: only what is loaded is looked at."""
    write(tmp_path / "model.ckpt", {"a": np.ones(1000, np.float32), "b": np.ones(1000, np.float32)})
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:4000] + bytes(4000))
    source = read(tmp_path / "model.ckpt")
    assert source.arrays["a"].read().sum() == 1000
    with pytest.raises(ModelFileError, match="checksum of b is wrong"):
        source.arrays["b"].read()
