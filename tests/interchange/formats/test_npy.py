"""NumPy files: those that Python 2 and 3 wrote, those that we write, and those made to do harm."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.interchange.formats.hostile import read_all
from tests.interchange.formats.python2 import LAYERS, array, python2_array, python2_layers

from skipway.errors import ModelFileError
from skipway.interchange.numpy import read as npy
from skipway.interchange.numpy.write import write_npy, write_npz

FIXTURES = Path(__file__).parent / "fixtures" / "torch_npy"


def same(read: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(read) == set(wanted)
    for name, values in wanted.items():
        assert read[name].dtype == values.dtype.newbyteorder("=")
        assert read[name].shape == values.shape
        assert read[name].tobytes() == np.asarray(values, read[name].dtype).tobytes(), name


@pytest.mark.parametrize("python", ["python2", "python3"])
@pytest.mark.parametrize("form", ["alexnet", "alexnet_dict"])
def test_dictionaries_of_layers_are_read_as_numpy_wrote_them(python: str, form: str) -> None:
    path = FIXTURES / f"{form}_{python}.npy"
    source = npy.read(path)
    same(read_all(npy.read, path), LAYERS)
    assert {layer.name: set(layer.arrays) for layer in source.layers} == {
        name: {f"{name}/weights", f"{name}/biases"} for name in ("conv1", "conv2", "fc6")
    }
    assert source.format == "npy"
    assert npy.looks_like(path.read_bytes()[:512], path)


@pytest.mark.parametrize("python", ["python2", "python3"])
def test_archives_are_read_as_numpy_wrote_them(python: str) -> None:
    path = FIXTURES / f"alexnet_{python}.npz"
    renamed = {name.replace("weights", "0").replace("biases", "1"): values for name, values in LAYERS.items()}
    same(read_all(npy.read, path), renamed)
    assert npy.looks_like(path.read_bytes()[:512], path)


@pytest.mark.parametrize("order", [b"<", b">"])
@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("long", [False, True])
def test_every_spelling_of_python_2(order: bytes, fortran: bool, long: bool, tmp_path: Path) -> None:
    weights, biases = array(2, 5, 3), np.array([0, 255, 128, 10, 13], np.uint8)
    pair = b"](" + python2_array(weights, order, fortran=fortran, long=long) + python2_array(biases, b"|") + b"e"
    path = tmp_path / "a.npy"
    path.write_bytes(python2_layers(("conv1", pair)))
    same(read_all(npy.read, path), {"conv1/weights": weights, "conv1/biases": biases})
    theirs = np.load(path, allow_pickle=True, encoding="latin1").item()["conv1"]
    same({"0": theirs[0].astype("=f4"), "1": theirs[1]}, {"0": weights, "1": biases})


def test_other_arrangements(tmp_path: Path) -> None:
    flat = tmp_path / "flat.npy"
    np.save(flat, {"conv0/W": array(3, 2), "step": 7, b"bn": array(4)})  # type: ignore[arg-type]
    same(read_all(npy.read, flat), {"conv0/W": array(3, 2), "bn": array(4)})
    assert npy.read(flat).notes["left_out"] == ["step"]
    listed = np.empty(2, object)
    listed[:] = [array(3), [array(2, 2), array(2), array(1)]]
    np.save(tmp_path / "list.npy", listed)
    wanted = {"0": array(3), "1/0": array(2, 2), "1/1": array(2), "1/2": array(1)}
    same(read_all(npy.read, tmp_path / "list.npy"), wanted)
    np.savez(tmp_path / "objects.npz", net={"conv1": [array(70, 40), array(2)]})  # type: ignore[arg-type]
    same(read_all(npy.read, tmp_path / "objects.npz"), {"conv1/weights": array(70, 40), "conv1/biases": array(2)})


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|b1", "|i1", ">u2", "<i8", "<c8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays(dtype: str, order: Any, tmp_path: Path) -> None:
    values = np.asarray(array(3, 4, 2), np.dtype(dtype), order=order)
    np.save(tmp_path / "a.npy", values)
    same(read_all(npy.read, tmp_path / "a.npy"), {"a": values})


def test_plain_arrays_of_no_and_of_one_item(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", none=np.zeros((0, 3), np.float32), one=np.float32(2.5))
    same(read_all(npy.read, tmp_path / "a.npz"), {"none": np.zeros((0, 3), np.float32), "one": np.array(2.5, "f4")})


def test_a_shape_of_python_2s_long_integers(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }".ljust(117) + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array(2, 3).tobytes())
    same(read_all(npy.read, path), {"a": array(2, 3)})


ODD = {
    "conv1/weights": np.array([np.nan, -0.0, np.inf, 1e-42], np.float32),
    "conv1/biases": np.zeros((0,), np.float32),
    "x" * 300 + "/weights": np.array(3.0, ">f8"),
    "a/b/weights": np.asfortranarray(array(300, 2)),
    "a/b/biases": np.arange(5)[::2],
}


@pytest.mark.parametrize("arrays", [LAYERS, ODD], ids=["layers", "odd"])
@pytest.mark.parametrize("form", ["list", "dict"])
def test_what_is_written_is_read_again_bit_for_bit(arrays: dict[str, np.ndarray], form: Any, tmp_path: Path) -> None:
    write_npy(tmp_path / "a.npy", arrays, form)
    if "x" * 300 + "/weights" in arrays:  # names of layers are cut where they are absurd
        arrays = {name.replace("x" * 300, "x" * 200): values for name, values in arrays.items()}
    same(read_all(npy.read, tmp_path / "a.npy"), arrays)
    write_npz(tmp_path / "a.npz", arrays)
    same(read_all(npy.read, tmp_path / "a.npz"), arrays)


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    write_npy(tmp_path / "list.npy", LAYERS)
    write_npy(tmp_path / "dict.npy", LAYERS, "dict")
    write_npz(tmp_path / "a.npz", LAYERS)
    lists = np.load(tmp_path / "list.npy", allow_pickle=True, encoding="latin1").item()
    same({f"{k}/{n}": v[i] for k, v in lists.items() for i, n in enumerate(npy.PAIR)}, LAYERS)
    dicts = np.load(tmp_path / "dict.npy", allow_pickle=True, encoding="latin1").item()
    same({f"{k}/{n}": v[n] for k, v in dicts.items() for n in npy.PAIR}, LAYERS)
    with np.load(tmp_path / "a.npz") as archive:
        same(dict(archive), LAYERS)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"conv1": array(2)}, "LAYER/weights"),
        ({"conv1/gamma": array(2)}, "dict"),
        ({"conv1/weights": np.array(["a"])}, "numbers"),
        ({"conv1/weights": np.array([None])}, "numbers"),
    ],
)
def test_what_the_form_cannot_hold_is_not_written(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=words):
        write_npy(tmp_path / "a.npy", arrays)
    assert not list(tmp_path.iterdir())


def test_reading_the_structure_loads_no_array_and_reading_an_array_only_that(tmp_path: Path) -> None:
    large = {f"fc{index}/{part}": np.ones(1 << 21, np.float32) for index in range(3) for part in npy.PAIR}
    write_npy(tmp_path / "a.npy", large)
    write_npz(tmp_path / "a.npz", large)
    del large
    for name in ("a.npy", "a.npz"):
        tracemalloc.start()
        source = npy.read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        for one in source.arrays.values():
            assert one.read().sum() == 1 << 21
        assert tracemalloc.get_traced_memory()[1] < 1.5 * (1 << 23)
        tracemalloc.stop()
