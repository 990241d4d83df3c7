"""PyTorch files of all forms: as torch reads them where it does, and refused where they would run code."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.interchange.formats.hostile import read_all, refused, truncations
from torch import nn

from skipway.errors import ModelFileError
from skipway.interchange.torch import read as torch_file
from skipway.interchange.torch import write as torch_write

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


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_of_python_2_and_3_are_read_as_torch_reads_them(name: str) -> None:
    path = FIXTURES / name
    source = torch_file.read(path)
    # By itself torch.load reads no numbers of Python 2's NumPy.
    theirs = torch.load(path, map_location="cpu", weights_only=False, encoding="latin1")["state_dict"]
    same(read_all(torch_file.read, path), {key.removeprefix("module."): value for key, value in theirs.items()})
    assert source.format == "torch"
    assert source.notes["form"] == ("zip" if "zip" in name else "legacy")
    assert source.notes["prefixes_removed"] == ("module.",)
    assert source.notes["left_out"] == ["optimizer", "args"]
    assert source.notes["checkpoint"] == {"epoch": 3, "arch": "resnet20", "best": 0.5}
    assert torch_file.looks_like(path.read_bytes()[:512], path)
    assert source.arrays["1.num_batches_tracked"].read() == 7


def test_a_published_checkpoint(real_data: Path) -> None:
    path = real_data / "checkpoints" / "resnet20-12fca82f.th"
    theirs = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    same(read_all(torch_file.read, path), {key.removeprefix("module."): value for key, value in theirs.items()})
    assert torch_file.read(path).notes["checkpoint"] == {"best_prec1": 91.78000183105469}


TYPES = (
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool, torch.complex64,
)  # fmt: skip


@FORMS
def test_every_type_and_every_view(legacy: bool, tmp_path: Path) -> None:
    state = {str(dtype): torch.arange(6).to(dtype) for dtype in TYPES}
    if not legacy:
        state["uint16"] = torch.tensor([0, 65535], dtype=torch.uint16)
    whole = torch.arange(24.0).reshape(2, 3, 4)
    views = {
        "whole": whole, "transposed": whole.permute(2, 0, 1), "middle": whole[1, 1:], "steps": whole[:, ::2, 1::2],
        "scalar": torch.tensor(3.5), "none": torch.zeros(0, 3),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }  # fmt: skip
    path = save({**state, **views}, tmp_path / "a.pth", legacy=legacy)
    same(read_all(torch_file.read, path), {**state, **views})


@FORMS
def test_bfloat16_becomes_float32(legacy: bool, tmp_path: Path) -> None:
    values = torch.tensor([1.5, -3e38, float("inf"), 1e-40]).bfloat16()
    path = save({"a": values}, tmp_path / "a.pth", legacy=legacy)
    same(read_all(torch_file.read, path), {"a": values.float()})


@FORMS
def test_parameters_arrays_and_what_is_no_weight(legacy: bool, tmp_path: Path) -> None:
    state = nn.BatchNorm2d(3).state_dict()
    state["parameter"] = nn.Parameter(torch.ones(2))
    state["numpy"] = np.arange(3.0)
    state["large"] = np.arange(3000, dtype=np.float32)
    state["extra"] = {"a": 1}
    path = save(state, tmp_path / "a.pth", legacy=legacy)
    read = read_all(torch_file.read, path)
    assert np.array_equal(read.pop("numpy"), np.arange(3.0))
    assert np.array_equal(read.pop("large"), np.arange(3000, dtype=np.float32))
    same(read, {key: value.detach() for key, value in state.items() if isinstance(value, torch.Tensor)})
    assert torch_file.read(path).notes["left_out"] == ["extra"]


WEIGHTS = {"conv.weight": torch.arange(6.0)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 1},
        lambda state: {"model": state, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}},
        lambda state: {"model_state_dict": state},
        lambda state: {"net": state, "acc": 92.5, "epoch": 5},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model": "resnet50", "state_dict": state},
        lambda state: {"model": {"name": "resnet"}, "weights": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        lambda state: collections.OrderedDict(state),
        lambda state: {"state_dict": collections.OrderedDict(state), "args": argparse.Namespace(path=Path("/a"))},
    ],
)
@FORMS
def test_wrappers_are_taken_off(wrap: Any, legacy: bool, tmp_path: Path) -> None:
    same(read_all(torch_file.read, save(wrap(WEIGHTS), tmp_path / "a.pth", legacy=legacy)), WEIGHTS)


def test_a_part_of_a_network_named_as_a_wrapper_is_no_wrapper(tmp_path: Path) -> None:
    state = {"model.weight": torch.ones(2), "module": torch.zeros(3), "module.a": torch.ones(1)}
    same(read_all(torch_file.read, save(state, tmp_path / "a.pth")), state)


@pytest.mark.parametrize("key", ["ema", "model_ema", "state_dict_ema"])
def test_averaged_weights_are_taken_when_asked_for(key: str, tmp_path: Path) -> None:
    averaged = {"n_averaged": torch.tensor(5), "module.conv.weight": torch.full((6,), 2.0)}
    path = save({"model": WEIGHTS, key: averaged}, tmp_path / "a.pth")
    same(read_all(torch_file.read, path), WEIGHTS)
    assert torch_file.read(path).notes["averages"] == ("raw", "ema")
    assert torch_file.read(path).notes["average"] == "raw"
    ema = torch_file.read(path, average="ema")
    assert {name: array.read()[0] for name, array in ema.arrays.items()} == {"conv.weight": 2.0}
    assert ema.notes["average"] == "ema"
    assert ema.notes["left_out"] == ["n_averaged"]
    only = torch_file.read(save({key: averaged}, path))
    assert list(only.arrays) == ["conv.weight"]
    assert key in only.warnings[0]
    with pytest.raises(ModelFileError, match="no averaged weights"):
        torch_file.read(save({"model": WEIGHTS}, path), average="ema")


@FORMS
def test_what_is_written_is_read_again_bit_for_bit_and_by_torch(legacy: bool, tmp_path: Path) -> None:
    arrays = {
        "conv.weight": np.array([[np.nan, -0.0], [np.inf, 1e-42]], np.float32),
        "bn.num_batches_tracked": np.array(7),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "none": np.zeros((0, 2), np.float16),
    }
    arrays["conv.weight"].flags.writeable = False
    path = tmp_path / "a.pth"
    torch_write.write(path, arrays, legacy=legacy)
    theirs = torch.load(path, weights_only=True)
    same(read_all(torch_file.read, path), theirs)
    for name, array in arrays.items():
        assert theirs[name].numpy().tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    assert torch_file.read(path).notes["form"] == ("legacy" if legacy else "zip")
    content = path.read_bytes()
    torch_write.write(tmp_path / "b.pth", arrays, legacy=legacy)
    assert legacy or (tmp_path / "b.pth").read_bytes() == content
    with pytest.raises(ModelFileError, match="convert"):
        torch_write.write(path, {"a": np.array(["text"])})
    assert path.read_bytes() == content


@FORMS
def test_reading_the_structure_loads_no_tensor_and_reading_a_tensor_only_that(legacy: bool, tmp_path: Path) -> None:
    path = save({f"fc{index}": torch.ones(1 << 21) for index in range(6)}, tmp_path / "a.pth", legacy=legacy)
    tracemalloc.start()
    source = torch_file.read(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    for one in source.arrays.values():
        assert one.read().sum() == 1 << 21
    assert tracemalloc.get_traced_memory()[1] < 1.5 * (1 << 23)
    tracemalloc.stop()


def tar_of(path: Path, parts: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


class Reference:
    def __init__(self, key: int) -> None:
        self.key = key


def tar_parts() -> dict[str, bytes]:
    """What torch.save wrote in 2016: two tensors of one storage, one of another."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> Any:
            return str(obj.key) if isinstance(obj, Reference) else None

    first, second = np.arange(6, dtype="<f4"), np.arange(4, dtype="<i8")
    storages = pickle.dumps(2, 2)
    for key, kind, values in ((11, torch.FloatStorage, first), (12, torch.LongStorage, second)):
        storages += pickle.dumps((key, "cpu", kind), 2) + struct.pack("<q", len(values)) + values.tobytes()
    storages += pickle.dumps([(13, 11, 2, 3)], 2)
    tensors = pickle.dumps(3, 2)
    for key, storage, kind, shape, strides, offset in (
        (1, 11, torch.FloatTensor, (3, 2), (1, 3), 0),
        (2, 12, torch.LongTensor, (3,), (1,), 1),
        (3, 13, torch.FloatTensor, (2,), (1,), 1),
    ):
        tensors += pickle.dumps((key, storage, kind), 2) + struct.pack("<ii", len(shape), 0)
        tensors += struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, offset)
    root = io.BytesIO()
    Pickler(root, 2).dump(collections.OrderedDict(a=Reference(1), b=Reference(2), c=Reference(3)))
    system = pickle.dumps({"protocol_version": 1000, "little_endian": True, "type_sizes": {"int": 4}}, 2)
    return {"sys_info": system, "pickle": root.getvalue(), "tensors": tensors, "storages": storages}


def test_the_tar_of_the_first_releases(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.pth", tar_parts())
    read = read_all(torch_file.read, path)
    assert read["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert read["b"].tolist() == [1, 2, 3]
    assert read["c"].tolist() == [3, 4]
    same(read, dict(torch.load(path, weights_only=False)))
    assert torch_file.looks_like(path.read_bytes()[:512], path)
    content = path.read_bytes()[: -2 * 512]
    for cut in truncations(content.rstrip(b"\0")):
        path.write_bytes(cut)
        refused(torch_file.read, path)


def test_other_archives_are_no_weights(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.pth", {"readme.txt": b"text"})
    refused(torch_file.read, path, "no PyTorch file")
    assert not torch_file.looks_like(path.read_bytes()[:512], path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")
    refused(torch_file.read, path, "not one of torch.save")
    assert not torch_file.looks_like(path.read_bytes()[:512], path)
