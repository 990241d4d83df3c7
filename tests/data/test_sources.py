"""Every form of DATA, good and bad, becomes one Source or one clear error."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import h5py
import numpy as np
import pytest
from PIL import Image

from skipway.data.dataset import ArrayPictures, Source, Split, hold_out
from skipway.data.folders import read_validation_folder
from skipway.data.sources import open_source
from skipway.errors import DataError, SkipwayError, UnknownNameError

DRAW = np.random.default_rng(0)


def paint(*files: Path) -> None:
    """A picture at each path."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), len(file.name)).save(file)


def names(split: Split) -> list[str]:
    return [Path(split.pictures.name(i)).name for i in range(len(split))]


def pictures(count: int, *shape: int) -> np.ndarray:
    return DRAW.integers(0, 256, (count, *(shape or (4, 4))), np.uint8)


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits")


# Folders


def test_a_flat_folder_of_classes(tmp_path: Path) -> None:
    paint(*(tmp_path / label / f"{label}.png" for label in ("10", "9", "1", "2")))
    paint(tmp_path / "9" / "10.png", tmp_path / "9" / "9b.png")
    source = open_source(tmp_path)
    assert source.name == tmp_path.name
    assert source.labels == ("1", "2", "9", "10")
    assert list(source.splits) == ["all"]
    split = source.split("all")
    assert names(split) == ["1.png", "2.png", "9.png", "9b.png", "10.png", "10.png"]
    assert split.targets.tolist() == [0, 1, 2, 2, 2, 3]
    assert split.targets.dtype == np.int64
    assert source.mirrors


def test_only_pictures_count(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", tmp_path / "a" / "deep" / "er" / "2.png", tmp_path / "b" / "3.PNG")
    paint(tmp_path / "a" / "._1.png", tmp_path / "a" / ".ipynb_checkpoints" / "1-checkpoint.png")
    paint(tmp_path / ".cache" / "4.png", tmp_path / "loose.png")
    (tmp_path / "a" / "labels.txt").write_text("not a picture")
    (tmp_path / "a" / "folder.jpg").mkdir()
    source = open_source(tmp_path)
    assert source.labels == ("a", "b")
    assert names(source.split("all")) == ["1.png", "2.png", "3.PNG"]


def test_the_folder_here_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert open_source(".").name == tmp_path.name


@pytest.mark.parametrize(
    "spelling", [("train", "val", "test"), ("Training", "validation", "TESTING"), ("train", "valid", "test")]
)
def test_splits_above_the_classes(tmp_path: Path, spelling: tuple[str, str, str]) -> None:
    for number, folder in enumerate(spelling, 1):
        paint(*(tmp_path / folder / label / f"{i}.png" for label in ("cat", "dog") for i in range(number)))
    source = open_source(tmp_path)
    assert source.labels == ("cat", "dog")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 2, "val": 4, "test": 6}
    assert source.evaluation_split() == "test"


def test_a_class_that_a_later_split_lacks_is_fine(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a" / "1.png", tmp_path / "train" / "b" / "2.png", tmp_path / "test" / "b" / "3.png")
    source = open_source(tmp_path)
    assert source.split("test").targets.tolist() == [1]
    assert source.evaluation_split() == "test"


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    paint(tmp_path / "test" / "1.png", tmp_path / "exam" / "2.png")
    assert open_source(tmp_path).labels == ("exam", "test")


def test_an_unlabelled_test_folder_beside_training_classes_is_left_alone(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a" / "1.png", tmp_path / "test" / "2.png")
    assert list(open_source(tmp_path).splits) == ["train"]


def bad_missing_class(root: Path) -> None:
    paint(root / "train" / "a" / "1.png", root / "test" / "a" / "2.png", root / "test" / "c" / "3.png")


def bad_empty_class(root: Path) -> None:
    paint(root / "a" / "1.png")
    (root / "b").mkdir()


def bad_only_text(root: Path) -> None:
    paint(root / "a" / "1.png")
    (root / "b").mkdir()
    (root / "b" / "1.txt").write_text("1")


def bad_bare_pictures(root: Path) -> None:
    paint(root / "1.png", root / "2.png")


def bad_bare_splits(root: Path) -> None:
    paint(root / "train" / "1.png", root / "test" / "2.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad_missing_class, "has a class 'c' that the training pictures lack; remove the folder"),
        (bad_empty_class, "class folder .*b holds no pictures; add some or remove it"),
        (bad_only_text, "class folder .*b holds no pictures"),
        (bad_bare_pictures, "holds pictures but no class folders; put each"),
        (bad_bare_splits, "train holds pictures but no class folders"),
        (lambda root: None, "holds no pictures; it needs one folder"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_folders_that_are_no_data(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        open_source(tmp_path)


def test_the_validation_folder(tmp_path: Path) -> None:
    paint(tmp_path / "b" / "1.png")
    assert read_validation_folder(tmp_path, ("a", "b")).targets.tolist() == [1]
    with pytest.raises(DataError, match="class 'b' that the training pictures lack"):
        read_validation_folder(tmp_path, ("a",))
    with pytest.raises(DataError, match=r"no folder .*gone; --val takes a fraction"):
        read_validation_folder(tmp_path / "gone", ("a",))


# npz


def test_npz_without_splits(tmp_path: Path) -> None:
    x, y = pictures(5), np.array([0, 2, 1, 0, 2])
    np.savez(tmp_path / "mine.npz", x=x, y=y[:, None], other=np.zeros(3))
    source = open_source(tmp_path / "mine.npz")
    assert (source.name, source.labels, list(source.splits)) == ("mine", ("0", "1", "2"), ["all"])
    np.testing.assert_array_equal(source.split("all").pictures[3], x[3])
    assert source.split("all").targets.tolist() == y.tolist()
    assert source.split("all").pictures.name(3) == "mine.npz[3]"


def test_npz_with_keras_splits(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "mnist.npz",
        x_train=pictures(5), y_train=np.arange(5, dtype=np.uint8), x_test=pictures(2), y_test=np.array([1, 4]),
    )  # fmt: skip
    source = open_source(tmp_path / "mnist.npz")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 5, "test": 2}
    assert len(source.labels) == 5


def test_a_folder_of_npz(tmp_path: Path) -> None:
    for name, count in (("train", 6), ("test", 3)):
        np.savez(tmp_path / f"{name}.npz", x=pictures(count, 4, 4, 3), y=np.arange(count) % 3)
    source = open_source(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "test": 3}
    assert source.name == tmp_path.name
    cifar = open_source(f"cifar10:{tmp_path}")
    assert (cifar.name, cifar.labels[3]) == ("cifar10", "cat")


def save_npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zip_of(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def as_npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def damaged_deflate() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=pictures(50), y=np.arange(50))
    data = bytearray(stream.getvalue())
    data[60:90] = b"\xff" * 30
    return bytes(data)


X = pictures(3)
BAD_NPZ = {
    "text": (b"not an archive", "no whole .npz archive"),
    "empty": (b"", "no whole .npz archive"),
    "cut": (save_npz(x=X, y=np.arange(3))[:200], "no whole .npz archive"),
    "damaged": (damaged_deflate(), "no readable .npz"),
    "one array": (as_npy(X), "no whole .npz archive"),
    "names without arrays": (zip_of(x=b"plain", y=b"plain"), "pictures are"),
    "other names": (save_npz(images=X, labels=np.arange(3)), "neither x and y nor x_train"),
    "x alone": (save_npz(x=X), "neither x and y"),
    "floats": (save_npz(x=X / 255, y=np.arange(3)), "pictures are float64; store them as uint8"),
    "flat": (save_npz(x=X.reshape(3, 16), y=np.arange(3)), r"shape \(3, 16\)"),
    "channels first": (save_npz(x=pictures(3, 3, 8, 8), y=np.arange(3)), r"shape \(3, 3, 8, 8\)"),
    "no pictures": (save_npz(x=X[:0], y=np.arange(0)), r"shape \(0, 4, 4\)"),
    "too few targets": (save_npz(x=X, y=np.arange(2)), "one class number, 0 or more, for each of the 3"),
    "negative": (save_npz(x=X, y=np.array([0, -1, 2])), "0 or more"),
    "one-hot": (save_npz(x=X, y=np.eye(3, dtype=int)), "one class number"),
    "texts": (save_npz(x=X, y=np.array(["a", "b", "c"])), "one class number"),
    "scalar": (save_npz(x=X, y=np.int64(3)), "one class number"),
    "billions of classes": (save_npz(x=X, y=np.array([0, 1, 4_000_000_000])), "class number 4000000000; number"),
    "beyond int64": (save_npz(x=X, y=np.array([0, 1, 2**63], np.uint64)), "class number 9223372036854775808"),
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_bad_npz(tmp_path: Path, name: str) -> None:
    data, message = BAD_NPZ[name]
    (tmp_path / "data.npz").write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path / "data.npz")
    assert "data.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encrypted_or_oddly_packed_npz(tmp_path: Path) -> None:
    data = bytearray(save_npz(x=X, y=np.arange(3)))
    at = data.index(b"PK\x01\x02")  # the directory's entry of x
    for offset, value in ((8, 1), (10, 77)):  # encrypted; a method that nobody knows
        damaged = bytearray(data)
        damaged[at + offset] = value
        (tmp_path / "data.npz").write_bytes(bytes(damaged))
        with pytest.raises(DataError, match=r"no readable \.npz"):
            open_source(tmp_path / "data.npz")


def test_an_npz_that_promises_more_than_there_is(tmp_path: Path) -> None:
    """A header of 16 terabytes over a few bytes is refused, whether the allocator or the reader notices."""
    npy = as_npy(pictures(1)).replace(b"(1, 4, 4)", b"(1, 4, 999999999999)", 1)
    length = int.from_bytes(npy[8:10], "little") + len("999999999999") - 1  # keep the header's own length true
    npy = npy[:8] + length.to_bytes(2, "little") + npy[10:]
    (tmp_path / "data.npz").write_bytes(zip_of(**{"x.npy": npy, "y.npy": as_npy(np.arange(1))}))
    with pytest.raises(DataError, match=r"no readable \.npz"):
        open_source(tmp_path / "data.npz")


class Planted:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["SKIPWAY_TEST_PLANTED"],)


def test_npz_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "planted"
    monkeypatch.setenv("SKIPWAY_TEST_PLANTED", str(planted))
    np.savez(tmp_path / "data.npz", x=np.array([Planted()], object), y=np.arange(1))
    with pytest.raises(DataError, match=r"no readable \.npz of plain arrays"):
        open_source(tmp_path / "data.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps({"x": Planted()}))
    with pytest.raises(DataError, match=r"no whole \.npz"):
        open_source(tmp_path / "raw.npz")
    assert not planted.exists()


# HDF5


def signs(file: Path, **more: object) -> Path:
    fields = {
        "train_set_x": pictures(6, 4, 4, 3), "train_set_y": np.arange(6)[None] % 3,
        "test_set_x": pictures(3, 4, 4, 3), "test_set_y": np.arange(3), "list_classes": np.arange(3),
    } | more  # fmt: skip
    with h5py.File(file, "w") as archive:
        for name, value in fields.items():
            if value is not None:
                archive[name] = value
    return file


def test_hdf5_in_the_hand_signs_form(tmp_path: Path) -> None:
    source = open_source(signs(tmp_path / "signs.h5"))
    assert (source.name, source.labels) == ("signs", ("0", "1", "2"))
    assert source.split("train").targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(source.split("test")) == 3
    texts = open_source(signs(tmp_path / "texts.hdf5", list_classes=np.array([b"non-cat", b"cat", b"d\xc3\xb6g"])))
    assert texts.labels == ("non-cat", "cat", "dög")
    test_only = open_source(signs(tmp_path / "test.h5", train_set_x=None, list_classes=None))
    assert (list(test_only.splits), test_only.labels) == (["test"], ("0", "1", "2"))


@pytest.mark.parametrize("kind", ["soft link", "external link", "external storage", "virtual"])
def test_hdf5_does_not_reach_outside_itself(tmp_path: Path, kind: str) -> None:
    elsewhere = signs(tmp_path / "elsewhere.h5")
    (tmp_path / "secret.bin").write_bytes(bytes(6 * 4 * 4 * 3))
    file = signs(tmp_path / "data.h5", train_set_x=None)
    with h5py.File(file, "a") as archive:
        if kind == "soft link":
            archive["inside"] = pictures(6, 4, 4, 3)
            archive["train_set_x"] = h5py.SoftLink("/inside")
        elif kind == "external link":
            archive["train_set_x"] = h5py.ExternalLink(str(elsewhere), "/train_set_x")
        elif kind == "external storage":
            place = [(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
            archive.create_dataset("train_set_x", (6, 4, 4, 3), np.uint8, external=place)
        else:
            layout = h5py.VirtualLayout((6, 4, 4, 3), np.uint8)
            layout[:] = h5py.VirtualSource(str(elsewhere), "train_set_x", (6, 4, 4, 3))
            archive.create_virtual_dataset("train_set_x", layout)
    assert list(open_source(file).splits) == ["test"]


def test_hdf5_that_is_no_data(tmp_path: Path) -> None:
    whole = signs(tmp_path / "whole.h5").read_bytes()
    for name, data in {"text": b"text", "empty": b"", "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / f"{name}.h5").write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}\.h5 is no readable HDF5 file .*; check that it was copied whole"):
            open_source(tmp_path / f"{name}.h5")
    with h5py.File(tmp_path / "other.h5", "w") as archive:
        archive["model_weights"] = np.zeros(3)
        archive.create_group("train_set_x")
    with pytest.raises(DataError, match="neither train_set_x nor test_set_x"):
        open_source(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"list_classes": np.arange(2)}, "class number 2, but there are only 2 labels"),
        ({"train_set_x": b"text"}, "pictures are"),
        ({"train_set_x": h5py.Empty(np.uint8)}, "pictures are"),
        ({"train_set_y": b"text"}, "one class number"),
        ({"train_set_y": h5py.Empty(np.int64)}, "one class number"),
        ({"train_set_x": np.uint8(3)}, "pictures have shape"),
    ],
)
def test_hdf5_with_odd_contents(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(signs(tmp_path / "odd.h5", **fields))


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_damaged_bytes_are_an_error_and_no_crash(tmp_path: Path, suffix: str) -> None:
    whole = signs(tmp_path / "whole.h5").read_bytes() if suffix == ".h5" else save_npz(x=X, y=np.arange(3))
    draw = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for at in draw.integers(0, min(len(data), 4000), int(draw.integers(1, 9))):
            data[at] = draw.integers(256)
        (tmp_path / f"bad{suffix}").write_bytes(bytes(data))
        try:
            open_source(tmp_path / f"bad{suffix}")
        except DataError as error:  # either outcome is right, a traceback is not
            assert "bad" in str(error)
            assert "\n" not in str(error)


# idx


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes()


def mnist_files(train: int = 20, test: int = 10) -> dict[str, bytes]:
    def pair(stem: str, count: int) -> dict[str, bytes]:
        labels = (np.arange(count) % 10).astype(np.uint8)
        return {f"{stem}-images-idx3-ubyte": idx(pictures(count, 28, 28)), f"{stem}-labels-idx1-ubyte": idx(labels)}

    return pair("train", train) | pair("t10k", test)


@pytest.mark.parametrize("place", [".", "MNIST/raw", "raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path: Path, zipped: bool, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name, data in mnist_files().items():
        if zipped:
            (tmp_path / place / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (tmp_path / place / name.replace("-idx", ".idx")).write_bytes(data)  # the other spelling in circulation
    source = open_source(f"mnist:{tmp_path}")
    assert (source.name, source.labels, source.mirrors) == ("mnist", tuple("0123456789"), False)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 20, "test": 10}
    assert source.split("train").pictures[0].shape == (28, 28)
    assert source.split("test").targets.tolist() == list(range(10))


def test_fashion_mnist_has_its_own_labels(tmp_path: Path) -> None:
    for name, data in mnist_files().items():
        (tmp_path / name).write_bytes(data)
    source = open_source(f"fashion-mnist:{tmp_path}")
    assert (source.labels[9], source.mirrors) == ("Ankle boot", True)


def overflowing(data: bytes) -> bytes:
    """Sides whose product is a multiple of 2**64: it would wrap around to 0."""
    return data[:4] + b"\x80\0\0\0" * 2 + b"\0\0\0\x04"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "no whole idx file"),
        (lambda data: data + b"\0", "no whole idx file"),
        (lambda data: b"", "no whole idx file"),
        (lambda data: data[:3], "no whole idx file"),
        (lambda data: b"\0\0\x0d" + data[3:], "no whole idx file"),  # floats
        (overflowing, "no whole idx file"),
        (lambda data: idx(np.arange(20, dtype=np.uint8)), "pictures have shape"),
    ],
)
def test_damaged_idx(tmp_path: Path, damage: object, message: str) -> None:
    for name, data in mnist_files().items():
        (tmp_path / name).write_bytes(damage(data) if name.startswith("train-images") else data)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        open_source(f"mnist:{tmp_path}")


@pytest.mark.parametrize("where", ["cut", "header", "middle"])
def test_damaged_gzip(tmp_path: Path, where: str) -> None:
    for name, data in mnist_files().items():
        packed = bytearray(gzip.compress(bytes(one & 0xF0 for one in data)))  # noise alone would be stored, not packed
        if name.startswith("train-images"):
            packed = {
                "cut": packed[:-20],
                "header": b"text" + packed[4:],
                "middle": packed[:200] + b"\xff" * 50 + packed[250:],
            }[where]
        (tmp_path / f"{name}.gz").write_bytes(bytes(packed))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz .*; fetch it again"):
        open_source(f"mnist:{tmp_path}")


# Downloads


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision's MNIST is fetched from, over HTTP."""
    import torchvision.datasets

    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name, data in mnist_files().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        resources.append((f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest()))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Nothing: the test's output is the caller's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
        for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(proxy, raising=False)
        yield folder
        server.shutdown()
        thread.join()
    with warnings.catch_warnings():  # urllib leaves the sockets of failed answers to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_mnist_is_fetched_where_it_is_absent(tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = open_source(f"mnist:{tmp_path / 'new'}")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 20, "test": 10}
    assert capsys.readouterr().out == ""  # stdout belongs to --json
    for file in mirror.iterdir():
        file.unlink()
    again = open_source(f"mnist:{tmp_path / 'new'}")  # from the disk
    assert again.split("train").fingerprint() == source.split("train").fingerprint()


def test_a_failed_download_says_so(tmp_path: Path, mirror: Path) -> None:
    (mirror / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        open_source(f"mnist:{tmp_path / 'new'}")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'new'} lacks the files of MNIST and they could not be fetched")
    assert "train-labels-idx1-ubyte.gz" in message
    assert "404" in message
    assert message.endswith("; put them there or try again with a network")
    assert "\n" not in message


def test_a_download_with_the_wrong_checksum_is_refused(tmp_path: Path, mirror: Path) -> None:
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(10, np.uint8))))
    with pytest.raises(DataError, match=r"could not be fetched .*t10k-labels.*corrupted"):
        open_source(f"mnist:{tmp_path / 'new'}")


# Names


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("minst:x", "unknown data form 'minst:x'; the nearest: mnist:DIR"),
        ("mnist:", "unknown data form 'mnist:'; the nearest: mnist:DIR"),
        ("digit", "unknown data 'digit'; the nearest: digits.* no folder of that name"),
        ("cifar", "unknown data 'cifar'; the nearest: cifar10:DIR"),
        ("no/such/folder", "no file or folder no/such/folder; check the path"),
        ("gone.npz", "no file or folder gone.npz; check the path"),
    ],
)
def test_unknown_names(data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SkipwayError, match=message):
        open_source(data)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"data\.csv is no data set; give a folder"):
        open_source(tmp_path / "data.csv")


def test_a_folder_with_a_colon_is_a_folder(tmp_path: Path) -> None:
    paint(tmp_path / "mnist:mine" / "a" / "1.png")
    assert open_source(tmp_path / "mnist:mine").labels == ("a",)


def test_an_unknown_split_names_those_there_are(digits: Source) -> None:
    with pytest.raises(UnknownNameError, match="unknown split of digits 'tset'; the nearest: test"):
        digits.split("tset")


# Digits and what is held out


def test_digits(digits: Source) -> None:
    train, test = digits.split("train"), digits.split("test")
    assert (len(train), len(test), digits.labels) == (4000, 1000, tuple("0123456789"))
    assert np.bincount(test.targets).tolist() == [100] * 10
    assert np.bincount(train.targets).tolist() == [400] * 10
    assert not digits.mirrors
    assert train.pictures[0].shape == (28, 28)
    kept, held = ({split.pictures[i].tobytes() for i in range(len(split))} for split in (train, test))
    assert not kept & held
    assert open_source("digits").split("test").fingerprint() == test.fingerprint()


def labelled(targets: list[int]) -> Split:
    return Split(ArrayPictures(np.arange(len(targets), dtype=np.uint8)[:, None, None], "t"), np.array(targets))


def test_hold_out_is_stratified(digits: Source) -> None:
    whole = digits.split("train")
    train, val = hold_out(whole, 0.1, 3, digits.labels)
    assert np.bincount(val.targets).tolist() == [40] * 10
    assert np.bincount(train.targets).tolist() == [360] * 10
    numbers = [split.pictures.numbers for split in (train, val)]  # type: ignore[attr-defined]
    assert set(numbers[0]) | set(numbers[1]) == set(whole.pictures.numbers)  # type: ignore[attr-defined]
    assert not set(numbers[0]) & set(numbers[1])
    assert all(np.all(np.diff(order) > 0) for order in numbers)  # in the order of the split
    again, other = hold_out(whole, 0.1, 3, digits.labels)[1], hold_out(whole, 0.1, 4, digits.labels)[1]
    assert again.fingerprint() == val.fingerprint() != other.fingerprint()


def test_hold_out_takes_and_leaves_at_least_one_of_each_class() -> None:
    split = labelled([0, 0, 1, 1, 1, 2, 2, 2, 2])
    for fraction in (0.001, 0.5, 0.999):
        train, val = hold_out(split, fraction, 0, ("a", "b", "c"))
        assert set(train.targets) == set(val.targets) == {0, 1, 2}
        assert len(train) + len(val) == 9


def test_a_class_of_one_picture_cannot_be_divided() -> None:
    with pytest.raises(DataError, match=r"class 'b' has one picture.*; add pictures, remove"):
        hold_out(labelled([0, 0, 1]), 0.5, 0, ("a", "b"))


def test_subsets_keep_names_and_fingerprints_follow_content(tmp_path: Path) -> None:
    split = labelled([0, 0, 1, 1])
    part = split.subset(np.array([3, 1])).subset(np.array([0]))
    assert part.pictures.name(0) == "t[3]"
    assert part.pictures[0].item() == 3
    assert split.fingerprint() == labelled([0, 0, 1, 1]).fingerprint()
    assert split.fingerprint() != labelled([0, 0, 1, 0]).fingerprint()
    assert split.fingerprint() != split.subset(np.array([0, 1, 3, 2])).fingerprint()
    paint(tmp_path / "a" / "1.png", tmp_path / "a" / "2.png")
    before = open_source(tmp_path).split("all").fingerprint()
    (tmp_path / "a" / "2.png").rename(tmp_path / "a" / "3.png")
    assert open_source(tmp_path).split("all").fingerprint() != before


# Real data


def test_real_signs(real_data: Path) -> None:
    source = open_source(real_data / "signs")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 864, "val": 216, "test": 120}
    assert source.labels == tuple("012345")
    original = open_source(real_data / "signs" / "test_signs.h5")
    assert len(original.split("test")) == 120
    assert np.bincount(original.split("test").targets).tolist() == [20] * 6
    assert original.labels == source.labels
    assert original.split("test").pictures[0].shape == (64, 64, 3)


def test_real_mnist(real_data: Path, digits: Source) -> None:
    source = open_source(f"mnist:{real_data / 'mnist'}")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 60_000, "test": 10_000}
    # The bundled digits are real ones.
    real = {source.split("train").pictures[i].tobytes() for i in range(60_000)}
    real |= {source.split("test").pictures[i].tobytes() for i in range(10_000)}
    assert all(digits.split("test").pictures[i].tobytes() in real for i in range(0, 1000, 50))
