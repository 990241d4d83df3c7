"""Safetensors of others: what the library reads we read, and what it refuses we refuse."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tests.interchange.formats.hostile import read_all, refused, refuses_what_is_no_file, truncations

from skipway.errors import ModelFileError
from skipway.interchange.torch import safetensors as safetensors_file
from skipway.interchange.torch.safetensors import MAX_HEADER

TYPES = (
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64,
)  # fmt: skip


def test_every_type_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in TYPES}
    tensors |= {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3)}
    save_file(tensors, path, {"format": "pt"})
    read = read_all(safetensors_file.read, path)
    theirs = load_file(path)
    assert set(read) == set(theirs)
    for name, tensor in theirs.items():
        assert read[name].dtype == tensor.numpy().dtype
        assert read[name].shape == tuple(tensor.shape)
        assert read[name].tobytes() == tensor.numpy().tobytes()
    assert safetensors_file.read(path).notes["metadata"] == {"format": "pt"}
    assert safetensors_file.looks_like(path.read_bytes()[:512], path)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    values = torch.tensor([1.5, -3e38, float("inf"), 1e-40]).bfloat16()
    save_file({"a": values}, tmp_path / "a.safetensors")
    assert (
        read_all(safetensors_file.read, tmp_path / "a.safetensors")["a"].tobytes() == values.float().numpy().tobytes()
    )


def test_what_is_written_is_read_again_bit_for_bit_and_by_the_library(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays = {
        "a": np.array([np.nan, -0.0, 1e-42], np.float32),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "scalar": np.array(7),
        "none": np.zeros((0, 2), np.float16),
    }
    safetensors_file.write(path, arrays, {"note": "grün"})
    read, theirs = read_all(safetensors_file.read, path), load_file(path)
    for name, array in arrays.items():
        wanted = array.astype(array.dtype.newbyteorder("="))
        assert read[name].tobytes() == wanted.tobytes() == theirs[name].numpy().tobytes()
        assert read[name].shape == array.shape == tuple(theirs[name].shape)
    assert safetensors_file.read(path).notes["metadata"] == {"note": "grün"}
    content = path.read_bytes()
    with pytest.raises(ModelFileError, match="convert"):
        safetensors_file.write(path, {"a": np.array(["text"])})
    assert path.read_bytes() == content


def test_reading_the_structure_loads_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors_file.write(path, {str(index): np.ones(1 << 21, np.float32) for index in range(6)})
    tracemalloc.start()
    source = safetensors_file.read(path)
    for one in source.arrays.values():
        assert one.read().sum() == 1 << 21
    assert tracemalloc.get_traced_memory()[1] < 1.5 * (1 << 23)
    tracemalloc.stop()


def test_what_is_no_file(tmp_path: Path) -> None:
    refuses_what_is_no_file(safetensors_file.read, tmp_path, "a.safetensors")


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors_file.write(path, {"a": np.ones((5, 7), np.float32), "b": np.ones(3, np.float32)})
    for content in truncations(path.read_bytes()):
        path.write_bytes(content)
        refused(safetensors_file.read, path)


def file_of(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: Any = 0, stop: Any = 16, shape: Any = (4,), dtype: Any = "F32") -> Mapping[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, stop]}


HOSTILE = {
    "overlapping": file_of({"a": entry(0, 12, [3]), "b": entry(8, 16, [2])}),
    "the same bytes twice": file_of({"a": entry(), "b": entry()}),
    "a gap": file_of({"a": entry(0, 4, [1]), "b": entry(8, 16, [2])}),
    "bytes that nobody owns": file_of({"a": entry(0, 12, [3])}),
    "behind the end": file_of({"a": entry(0, 20, [5])}),
    "before the beginning": file_of({"a": entry(-16, 0, [4])}),
    "backwards": file_of({"a": entry(16, 0, [4])}),
    "huge": file_of({"a": entry(0, 1 << 62, [1 << 60])}),
    "beyond 64 bits": file_of({"a": entry(0, 1 << 80, [1 << 78])}),
    "a shape of another size": file_of({"a": entry(shape=[5])}),
    "a negative shape": file_of({"a": entry(shape=[-4])}),
    "two negative sizes": file_of({"a": entry(shape=[-2, -2])}),
    "a shape of floats": file_of({"a": entry(shape=[4.0])}),
    "a shape of flags": file_of({"a": entry(0, 16, [True, 4])}),
    "a shape of texts": file_of({"a": entry(shape="4")}),
    "offsets of floats": file_of({"a": entry(0.0, 16.0)}),
    "an unknown type": file_of({"a": entry(dtype="F31")}),
    "a type that is no text": file_of({"a": entry(dtype=["F32"])}),
    "no type": file_of({"a": {"shape": [4], "data_offsets": [0, 16]}}),
    "no entry": file_of({"a": 4}),
    "three offsets": file_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16, 16]}}),
    "a list": file_of([1]),
    "no tensors": file_of({}, b""),
    "metadata that are no texts": file_of({"__metadata__": {"a": 1}, "a": entry()}),
    "metadata that are a list": file_of({"__metadata__": ["a"], "a": entry()}),
    "a name twice": file_of(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":' + b"1}"),
    "no JSON": file_of(b"{" + b"a" * 50),
    "no text": file_of(b'{"\xff\xfe": 1}'),
    "half a letter": file_of(rb'{"\ud800":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "half a letter in metadata": file_of({"__metadata__": {"a": "\udfff"}, "a": entry()}),
    "brackets": file_of(b'{"a":' + b"[" * 200_000),
    "digits": file_of(b'{"a":' + b"9" * 100_000 + b"}"),
    "a header of 2**63 bytes": file_of(b"{}", length=1 << 63),
    "a header longer than the file": file_of(b"{}", length=99_999_999),
    "a header over the limit": file_of(b'{"a":1' + b" " * MAX_HEADER + b"}"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    refused(safetensors_file.read, path)
    assert tracemalloc.get_traced_memory()[1] < 10 * len(HOSTILE[name]) + (16 << 20)
    tracemalloc.stop()


def test_what_the_library_refuses_we_refuse(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    path = tmp_path / "a.safetensors"
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4), "c": np.ones(3, np.uint8)}
    safetensors_file.write(path, tensors, {"x": "y"})
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    ours = 0
    for _ in range(1500):
        damaged = bytearray(content)
        for position in draw.integers(8, header, draw.integers(1, 3)):
            damaged[position] = draw.choice(list(b'0123456789[]{}",:abFIU-'))
        path.write_bytes(damaged)
        try:
            read = read_all(safetensors_file.read, path)
        except ModelFileError:
            continue
        ours += 1
        try:
            with safe_open(path, "np") as theirs:
                assert {name: theirs.get_tensor(name).tobytes() for name in theirs.keys()} == {  # noqa: SIM118
                    name: array.tobytes() for name, array in read.items()
                }
        except SafetensorError as error:
            raise AssertionError(bytes(damaged[:header])) from error
    assert 20 < ours < 1450
