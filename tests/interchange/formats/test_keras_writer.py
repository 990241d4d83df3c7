"""Keras weights as we write them: read again bit for bit, and in the form that Keras itself writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.interchange.formats.hostile import read_all

from skipway.errors import ModelFileError
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras.write_h5 import write

FIXTURES = Path(__file__).parent / "fixtures" / "keras"


def _texts(owner: h5py.Group, key: str) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else text for text in owner.attrs[key]]


def test_round_trip_is_exact_bit_for_bit(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        "conv1/kernel": draw.integers(0, 1 << 32, (3, 3, 3, 8), dtype=np.uint32).view(np.float32),  # NaNs too
        "conv1/bias": draw.normal(size=8).astype(np.float64),
        "group/with/slashes/kernel": draw.normal(size=(2, 0, 3)).astype(np.float16),
        "group/with/bias": np.arange(4, dtype=np.int64),
        "scalar/kernel": np.array(3.5, np.float32),
        "flags/kernel": np.array([True, False]),
        "other/own_weight": np.asfortranarray(draw.normal(size=(4, 5))).astype(">f4"),
    }
    file = tmp_path / "weights.h5"

    write(file, arrays)

    loaded = read_all(keras_h5.read, file)
    assert list(loaded) == list(arrays)
    for name, values in arrays.items():
        native = values.astype(values.dtype.newbyteorder("="))
        assert loaded[name].dtype == native.dtype and loaded[name].shape == values.shape
        assert loaded[name].tobytes() == native.tobytes()


def test_the_form_is_that_of_keras_itself(tmp_path: Path) -> None:
    loaded = read_all(keras_h5.read, FIXTURES / "keras2_plain.h5")
    file = tmp_path / "ours.h5"

    write(file, dict(reversed(list(loaded.items()))))

    with h5py.File(file) as ours, h5py.File(FIXTURES / "keras2_plain.h5") as theirs:
        weights = theirs["model_weights"]
        assert _texts(ours, "layer_names") == ["last", "first"]
        assert ours.attrs["keras_version"].decode() == weights.attrs["keras_version"]
        assert ours.attrs["backend"].decode() == weights.attrs["backend"]
        for layer in ("first", "last"):
            assert _texts(ours[layer], "weight_names") == _texts(weights[layer], "weight_names")
            for name in _texts(weights[layer], "weight_names"):
                np.testing.assert_array_equal(ours[layer][name][()], weights[layer][name][()])


def test_batch_norm_comes_in_the_order_of_keras(tmp_path: Path) -> None:
    names = ["moving_variance", "beta", "moving_mean", "gamma"]
    file = tmp_path / "weights.h5"
    write(file, {f"bn/{name}": np.zeros(2, np.float32) for name in names})
    assert list(keras_h5.read(file).arrays) == [
        f"bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]


def test_long_lists_of_layers_are_split(tmp_path: Path) -> None:
    arrays = {f"a_layer_with_a_long_name_{number:050}/kernel": np.full(1, number, np.int32) for number in range(1200)}
    file = tmp_path / "weights.h5"

    write(file, arrays)

    with h5py.File(file) as root:
        assert "layer_names" not in root.attrs and "layer_names1" in root.attrs
    loaded = read_all(keras_h5.read, file)
    assert list(loaded) == list(arrays)
    assert [int(values[0]) for values in loaded.values()] == list(range(1200))


@pytest.mark.parametrize(
    "name",
    [
        "kernel",
        "/kernel",
        "conv1//kernel",
        "../conv1/kernel",
        "conv1/",
        "a\0/kernel",
        "a\n/kernel",
        "conv1/W",
        "conv1/kernel_1",
        "conv1/bias:0",
    ],
)
def test_names_that_keras_would_not_keep_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="name it"):
        write(tmp_path / "weights.h5", {name: np.zeros(1, np.float32)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["c16", "O", "S3"])
def test_types_that_keras_files_do_not_hold_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="float32"):
        write(tmp_path / "weights.h5", {"conv1/kernel": np.zeros(1, dtype)})
