"""Caffe's binary files of every form, as OpenCV reads them; broken and hostile ones, each refused in one line."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skipway.errors import ModelFileError
from skipway.interchange.caffe import prototxt
from skipway.interchange.caffe import read as caffe
from skipway.interchange.containers.protobuf import encode_bytes, encode_float, encode_int, encode_length, encode_varint
from skipway.interchange.source import WeightFile

FIXTURES = Path(__file__).parent / "fixtures" / "caffe"
FORMS = ("v0", "v1", "v1_unpacked", "v2", "v2_half")
NAMES = [f"{layer}/{index}" for layer in ("conv1", "conv2", "fc") for index in (0, 1)]
ONES = np.ones(6, "<f4").tobytes()


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "expected.npz") as opened:
        return dict(opened)


def fixture(form: str) -> Path:
    return FIXTURES / f"{form}.caffemodel"


def layer(*blobs: bytes, name: str = "fc") -> bytes:
    return encode_bytes(100, encode_bytes(1, name.encode()) + b"".join(encode_bytes(7, blob) for blob in blobs))


def blob(*shape: int, data: bytes = ONES) -> bytes:
    dims = b"".join(encode_varint(side) for side in shape)
    return encode_bytes(5, data) + encode_bytes(7, encode_bytes(1, dims))


def read(tmp_path: Path, data: bytes) -> WeightFile:
    file = tmp_path / "net.caffemodel"
    file.write_bytes(data)
    return caffe.read(file)


def refused(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read(tmp_path, data)
    assert told in str(caught.value)
    assert str(tmp_path / "net.caffemodel") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_blobs_are_those_that_opencv_finds(form: str, expected: dict[str, np.ndarray]) -> None:
    source = caffe.read(fixture(form))
    assert [name for name in source.arrays if name in NAMES] == NAMES
    for name in NAMES:
        values = source.arrays[name].read()
        assert values.shape == source.arrays[name].shape
        assert values.dtype == source.arrays[name].dtype == (np.float16 if form == "v2_half" else np.float32)
        np.testing.assert_array_equal(values.astype(np.float32).ravel(), expected[f"{form}:{name}"].ravel())


def test_double_precision_stays_double(expected: dict[str, np.ndarray]) -> None:
    source = caffe.read(fixture("v1_double"))
    for name in NAMES:
        values = source.arrays[name].read()
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values.ravel(), expected[f"made:{name}"].ravel().astype(np.float64) / 3)


@pytest.mark.parametrize("form", ["v0", "v1", "v1_unpacked"])
def test_old_dimensions_stay(form: str) -> None:
    arrays = caffe.read(fixture(form)).arrays
    assert arrays["conv2/0"].shape == (6, 4, 3, 3)  # group 2 of 8 channels, as stored
    assert arrays["fc/0"].shape == (1, 1, 5, 24)
    assert arrays["fc/1"].shape == (1, 1, 1, 5)


def test_layers_are_named_as_today() -> None:
    kinds = {form: [layer.kind for layer in caffe.read(fixture(form)).layers][:3] for form in FORMS}
    assert kinds["v0"] == kinds["v1"] == kinds["v2"] == ["Convolution", "Convolution", "InnerProduct"]
    assert [caffe.read(fixture(form)).notes["form"] for form in FORMS] == ["V0", "V1", "V1", "V2", "V2"]


def test_settings_come_with_the_weights() -> None:
    layers = {layer.name: layer for layer in caffe.read(fixture("v2")).layers}
    assert layers["conv2"].fields["convolution_param"] == {
        "num_output": 6, "pad": (1,), "kernel_size": (3,), "group": 2,
    }  # fmt: skip
    assert layers["norm1"].fields["lrn_param"] == {"local_size": 5, "alpha": 1e-4, "beta": 0.75}
    assert layers["bn1"].arrays == ("bn1/0", "bn1/1", "bn1/2")


def test_the_bvlc_group_of_two_comes_as_stored(tmp_path: Path) -> None:
    count = 256 * 48 * 5 * 5
    source = read(tmp_path, layer(blob(256, 48, 5, 5, data=np.arange(count, dtype="<f4").tobytes()), name="conv2"))
    values = source.arrays["conv2/0"].read()
    assert values.shape == (256, 48, 5, 5)
    assert values[255, 47, 4, 4] == count - 1


def test_reading_loads_no_data(tmp_path: Path) -> None:
    source = read(tmp_path, layer(blob(2, 3), name="fc"))
    (tmp_path / "net.caffemodel").write_bytes(b"gone")
    with pytest.raises(ModelFileError, match="has changed"):
        source.arrays["fc/0"].read()
    (tmp_path / "net.caffemodel").unlink()
    with pytest.raises(ModelFileError, match="does not exist"):
        source.arrays["fc/0"].read()


def test_packed_data_in_pieces_are_one_array(tmp_path: Path) -> None:
    """Protocol buffers allow packed and single numbers to alternate."""
    pieces = [encode_bytes(5, np.array([1, 2], "<f4").tobytes()), encode_float(5, 3), encode_float(5, 4)]
    pieces += [encode_bytes(7, encode_bytes(1, b"\x05")), encode_bytes(5, np.array([5], "<f4").tobytes())]
    source = read(tmp_path, layer(b"".join(pieces)))
    np.testing.assert_array_equal(source.arrays["fc/0"].read(), np.float32([1, 2, 3, 4, 5]))


def test_numbers_kept_in_diff_are_taken_and_told(tmp_path: Path) -> None:
    dims = b"".join(encode_int(number, side) for number, side in enumerate((1, 1, 2, 3), 1))
    source = read(tmp_path, layer(dims + encode_bytes(6, ONES)))
    assert source.arrays["fc/0"].read().shape == (1, 1, 2, 3)
    assert source.warnings == ("1 of 1 blob has its numbers where gradients belong (diff), not in data",)
    both = read(tmp_path, layer(dims + encode_bytes(6, bytes(24)) + encode_bytes(5, ONES)))
    assert both.warnings == ()
    assert both.arrays["fc/0"].read().all()


def test_a_blob_without_dimensions_is_a_scalar(tmp_path: Path) -> None:
    values = read(tmp_path, layer(encode_float(5, 2.5))).arrays["fc/0"].read()
    assert values.shape == ()
    assert values == 2.5


def test_shared_blobs_are_noted(tmp_path: Path) -> None:
    def tied(name: str) -> bytes:
        spec = encode_bytes(6, encode_bytes(1, b"tie"))
        return encode_bytes(100, encode_bytes(1, name.encode()) + spec + encode_bytes(7, blob(6)))

    source = read(tmp_path, tied("one") + tied("two") + layer(blob(6), name="three"))
    assert source.notes["shared"] == {"tie": ("one/0", "two/0")}


def test_a_name_that_occurs_twice_is_refused_where_it_has_weights(tmp_path: Path) -> None:
    refused(tmp_path, layer(blob(6), name="ip") * 2, "the layer name 'ip' occurs 2 times")
    refused(tmp_path, layer(blob(6), name="ip") + layer(name="ip"), "the layer name 'ip' occurs 2 times")
    source = read(tmp_path, layer(name="relu") * 2 + layer(blob(6)))
    assert source.warnings == ("1 name is that of several layers without weights ('relu')",)


def test_fields_of_forks_are_passed_over(tmp_path: Path) -> None:
    """Number 139 is BatchNormParameter; a fork may have a text or a number there."""
    foreign = encode_int(139, 7) + encode_bytes(4000, b"\xff" * 9)
    data = encode_bytes(100, encode_bytes(1, b"fc") + foreign + encode_bytes(7, blob(6)))
    assert read(tmp_path, data).layers[0].fields == {}


def test_mean_picture() -> None:
    source = caffe.read_mean(FIXTURES / "mean.binaryproto")
    expected = (np.arange(48, dtype=np.float32) * 2.5).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(source.arrays["mean"].read(), expected)
    assert source.format == "binaryproto"


def test_kinds_are_told_by_their_first_bytes() -> None:
    """Also of 64 bytes, and never two kinds at once."""
    tests = {"caffemodel": caffe.looks_like, "binaryproto": caffe.looks_like_mean, "prototxt": prototxt.looks_like}
    for file in FIXTURES.iterdir():
        for size in (64, 512):
            head = file.read_bytes()[:size]
            found = [kind for kind, test in tests.items() if test(head, Path("any.name"))]
            assert found == ([file.suffix[1:]] if file.suffix[1:] in tests else []), file


FOREIGN = {
    "page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(500), "HDF5"),
    "zip": (b"PK\x03\x04" + bytes(500), "zip"),
    "empty": (b"", "is empty"),
    "text": (b"hello, world\n" * 9, "something else"),
    "zeros": (bytes(1000), "something else"),
    "onnx": (b"\x08\x03\x12\x07pytorch\x3a\x05\x0a\x03abc", "something else"),
    "graph_def": (encode_bytes(1, encode_bytes(1, b"x") + encode_bytes(2, b"Placeholder")), "something else"),
    "prototxt": (b'name: "x"\nlayer { name: "a" }\n', "a prototxt"),
    "mean": ((FIXTURES / "mean.binaryproto").read_bytes(), "a .binaryproto"),
}


@pytest.mark.parametrize(("data", "told"), FOREIGN.values(), ids=FOREIGN)
def test_other_files_under_its_name_are_told(tmp_path: Path, data: bytes, told: str) -> None:
    refused(tmp_path, data, told)


def test_names_may_be_empty(tmp_path: Path) -> None:
    """Of the network, and of its first layer."""
    assert list(read(tmp_path, encode_bytes(1, b"") + layer(blob(6))).arrays) == ["fc/0"]
    assert list(read(tmp_path, layer(name="") + layer(blob(6))).arrays) == ["fc/0"]


def test_folders_links_and_absent_files_are_told(tmp_path: Path) -> None:
    link = tmp_path / "link.caffemodel"
    link.symlink_to(tmp_path / "gone")
    for path, told in ((tmp_path, "folder"), (link, "link"), (tmp_path / "none", "does not exist")):
        for read_one in (caffe.read, caffe.read_mean, prototxt.read):
            with pytest.raises(ModelFileError, match=told):
                read_one(path)


def test_a_caffemodel_is_no_mean_picture() -> None:
    with pytest.raises(ModelFileError, match=r"a \.caffemodel"):
        caffe.read_mean(fixture("v1"))


@pytest.mark.parametrize("form", [*FORMS, "v1_double"])
def test_cut_files_are_refused_or_hold_what_they_say(tmp_path: Path, form: str) -> None:
    whole = fixture(form).read_bytes()
    for sixteenth in range(1, 16):
        refused(tmp_path, whole[: len(whole) * sixteenth // 16], "damaged")


@pytest.mark.parametrize("form", ["v0", "v1_unpacked", "v2", "v2_half"])
def test_flipped_bits_do_no_harm(tmp_path: Path, form: str) -> None:
    whole = bytearray(fixture(form).read_bytes())
    refusals = 0
    for place in range(0, len(whole), 7):
        whole[place] ^= 1 << place % 8
        try:
            for array in read(tmp_path, bytes(whole)).arrays.values():
                assert array.read().shape == array.shape
        except ModelFileError:
            refusals += 1
        whole[place] ^= 1 << place % 8
    assert refusals > 5


HUGE = 1 << 31
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "more numbers declared": (lambda: layer(blob(1 << 20, 1 << 20)), "but 6 are stored"),
    "fewer numbers declared": (lambda: layer(blob(5)), "but 6 are stored"),
    "no numbers": (lambda: layer(blob(6, data=b"")), "but 0 are stored"),
    "negative side": (lambda: layer(blob(-1, -6)), "a side of -1"),
    "huge side": (lambda: layer(blob(HUGE, 0)), "a side of 2147483648"),
    "side of 64 bits": (lambda: layer(blob((1 << 64) - 1)), "a side of -1"),
    "many dimensions": (lambda: layer(blob(*[1] * 33, data=ONES[:4])), "33 dimensions"),
    "length over the file": (lambda: encode_bytes(1, b"n") + encode_length(100, 1 << 40) + b"x", "declares"),
    "length over the layer": (lambda: encode_bytes(100, b"\x0a\x01a" + encode_length(7, 1 << 62)), "declares"),
    "odd bytes of floats": (lambda: layer(blob(1, data=b"12345")), "no multiple of 4"),
    "raw integers": (lambda: layer(encode_int(10, 3) + encode_bytes(12, ONES)), "type 3"),
    "raw odd": (lambda: layer(encode_int(10, 2) + encode_bytes(12, b"123")), "no multiple of 2"),
    "group": (lambda: layer(blob(6)) + b"\x0b", "wire type 3"),
    "no weights": (lambda: layer() + layer(name="b"), "hold no weights"),
    "both forms": (lambda: layer(blob(6)) + encode_bytes(2, encode_bytes(4, b"old")), "old form"),
    "many layers": (lambda: layer(blob(6)) + b"\xa2\x06\x00" * 10_000, "10,001 layers"),
    "many blobs": (lambda: layer(*[blob(6)] * 65), "65 blobs"),
    "many fields": (lambda: layer(blob(6)) + b"\x08\x01" * 300_000, "more than 300,000 fields"),
    "many packed numbers": (lambda: layer(encode_bytes(7, encode_bytes(1, b"\x01" * 300_000))), "300,000 fields"),
    "long name": (lambda: layer(blob(6), name="x" * 1025), "1,025 letters"),
    "huge text": (lambda: layer(blob(6), name="x" * (1 << 17)), "131,072 bytes"),
    "blob in blob": (lambda: layer(encode_bytes(7, encode_bytes(7, encode_bytes(7, b"\xff")))), "but 0 are stored"),
}


@pytest.mark.parametrize(("data", "told"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, data: Callable[[], bytes], told: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, data(), told)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB
