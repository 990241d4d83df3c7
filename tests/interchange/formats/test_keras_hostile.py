"""Keras files that are broken, foreign or made to do harm: one line, nothing run, nothing opened beside the file."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.interchange.formats.hostile import Reader, read_all, refused, refuses_what_is_no_file, truncations

from skipway.errors import ModelFileError
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras import read_zip as keras_zip
from skipway.interchange.keras.config import parse_config

FIXTURES = Path(__file__).parent / "fixtures" / "keras"


@pytest.mark.parametrize(("read", "name"), [(keras_h5.read, "model.h5"), (keras_zip.read, "model.keras")])
def test_what_is_no_file_is_refused(read: Reader, name: str, tmp_path: Path) -> None:
    refuses_what_is_no_file(read, tmp_path, name)


def test_a_wrong_ending_is_told(tmp_path: Path) -> None:
    archive, h5 = tmp_path / "archive.h5", tmp_path / "h5.keras"
    archive.write_bytes((FIXTURES / "keras3.keras").read_bytes())
    h5.write_bytes((FIXTURES / "keras2_model.h5").read_bytes())
    refused(keras_h5.read, archive, "zip")
    refused(keras_zip.read, h5, "HDF5")


@pytest.mark.parametrize("name", ["keras2_model.h5", "keras2_weights.h5", "keras3.weights.h5", "keras3_model.h5"])
def test_truncated_h5(name: str, tmp_path: Path) -> None:
    for number, part in enumerate(truncations((FIXTURES / name).read_bytes())):
        file = tmp_path / f"{number}.h5"
        file.write_bytes(part)
        refused(keras_h5.read, file)


@pytest.mark.parametrize("name", ["keras2.keras", "keras3.keras", "keras3_plain.keras"])
def test_truncated_and_flipped_archives(name: str, tmp_path: Path) -> None:
    content = (FIXTURES / name).read_bytes()
    file = tmp_path / "damaged.keras"
    for part in truncations(content):
        file.write_bytes(part)
        refused(keras_zip.read, file)
    with zipfile.ZipFile(FIXTURES / name) as archive:
        weights = archive.getinfo("model.weights.h5").header_offset + 200
        end = archive.start_dir
    for offset in range(weights, end, (end - weights) // 40):
        file.write_bytes(content[:offset] + bytes([content[offset] ^ 4]) + content[offset + 1 :])
        refused(keras_zip.read, file, "not those that were written")


def _weights(file: Path, fill: Callable[[h5py.Group], object]) -> Path:
    """A weights file of one layer `a`, whose group with weight names `a/kernel:0` is filled by `fill`."""
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [b"a"]
        group = root.create_group("a")
        group.attrs["weight_names"] = [b"a/kernel:0"]
        fill(group)
    return file


def _virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (4,))
    group.create_virtual_dataset("a/kernel:0", layout)


def _compound(group: h5py.Group) -> None:
    group.create_dataset("a/kernel:0", data=np.zeros(3, [("x", "f4"), ("y", "f4")]))


def _twice(group: h5py.Group) -> None:
    group.attrs["weight_names"] = [b"a/kernel:0", b"a/bias:0"]
    group["a/kernel:0"] = np.ones(4, np.float32)
    group["a/bias:0"] = group["a/kernel:0"]


def _odd_float(group: h5py.Group) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 23, 8, 0, 22)  # 22 bits of mantissa
    group.create_group("a")
    h5py.h5d.create(group["a"].id, b"kernel:0", kind, h5py.h5s.create_simple((3,)))


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda group: group.__setitem__("a", h5py.ExternalLink("elsewhere.h5", "/")), "link"),
        (lambda group: group.__setitem__("a", h5py.SoftLink("/a")), "link"),
        (lambda group: group.create_dataset("a/kernel:0", (4,), "f4", external="/etc/hostname"), "another file"),
        (_virtual, "another file"),
        (lambda group: group.create_dataset("a/kernel:0", (1 << 40,), "f4"), "declare"),
        (lambda group: group.create_dataset("a/kernel:0", (1 << 40,), "f4", chunks=(1 << 10,)), "declare"),
        (lambda group: group.create_dataset("a/kernel:0", (400,), "f4"), "does not hold"),
        (lambda group: group.create_dataset("a/kernel:0", (400,), "f4", chunks=(100,)), "does not hold"),
        (lambda group: group.create_dataset("a/kernel:0", data=np.ones(9), chunks=(9,), compression="lzf"), "filters"),
        (lambda group: group.create_dataset("a/kernel:0", data=[b"text"], dtype=h5py.string_dtype()), "number"),
        (lambda group: group.create_dataset("a/kernel:0", data=np.array([b"text"])), "not numbers"),
        (_compound, "not numbers"),
        (_twice, "another name"),
        (_odd_float, "number format"),
        (lambda group: group.create_group("a/kernel:0"), "no array"),
        (lambda group: None, "not there"),
        (lambda group: group.attrs.__setitem__("weight_names", [b"../a/kernel:0"]), "not there"),
        (lambda group: group.attrs.__setitem__("weight_names", [1.5]), "no text"),
        (lambda group: group.attrs.__setitem__("weight_names", [b"\xff\xfe"]), "UTF-8"),
        (lambda group: group.attrs.__delitem__("weight_names"), "does not name"),
    ],
)  # fmt: skip
def test_hdf5_that_leads_elsewhere_or_lies(fill: Callable[[h5py.Group], object], words: str, tmp_path: Path) -> None:
    refused(keras_h5.read, _weights(tmp_path / "hostile.h5", fill), words)


def test_other_hdf5_files_are_told_from_keras(tmp_path: Path) -> None:
    file = tmp_path / "pictures.h5"
    with h5py.File(file, "w") as root:
        root["train_set_x"] = np.zeros((2, 4, 4, 3), np.uint8)
    refused(keras_h5.read, file, "other than Keras")
    with h5py.File(file, "w") as root:
        root.attrs["nb_layers"] = 3
    refused(keras_h5.read, file, "before version 1")


def test_a_chunk_that_unpacks_beyond_its_size_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(64 << 20))

    def fill(group: h5py.Group) -> None:
        packed = group.create_dataset("a/kernel:0", (1024,), "f4", chunks=(1024,), compression="gzip")
        packed.id.write_direct_chunk((0,), bomb)

    refused(keras_h5.read, _weights(tmp_path / "bomb.h5", fill), "more than its 4096 bytes")


def test_arrays_that_compress_beyond_belief_are_refused(tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        group.create_dataset("a/kernel:0", data=np.zeros(40 << 20, np.float32), chunks=(1 << 20,), compression="gzip")

    refused(keras_h5.read, _weights(tmp_path / "bomb.h5", fill), "declare")


def test_a_long_text_named_many_times_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "texts.h5"
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = np.array(["x" * 100_000, *("y" * 16 for _ in range(999))], h5py.string_dtype())
    content = file.read_bytes()
    long = content.index(struct.pack("<I", 100_000))  # length, address and number of the long text
    reference, short = content[long : long + 16], struct.pack("<I", 16)
    table = bytearray(content)
    for number in range(1, 1000):
        at = long + 16 * number
        assert table[at : at + 4] == short
        table[at : at + 16] = reference
    file.write_bytes(table)
    refused(keras_h5.read, file, "longer than")


def test_groups_that_lead_back_to_themselves(tmp_path: Path) -> None:
    file = tmp_path / "cycle.weights.h5"
    with h5py.File(file, "w") as root:
        group = root.create_group("layers/dense")
        group["more"] = root["layers"]["dense"]
    refused(keras_h5.read, file, "lead back")


def test_groups_nested_beyond_measure(tmp_path: Path) -> None:
    file = tmp_path / "deep.weights.h5"
    with h5py.File(file, "w") as root:
        root.create_group("layers/" + "/".join("x" * 500))
    refused(keras_h5.read, file, "nested")


def test_damage_to_any_byte_of_the_first_headers_never_hangs(tmp_path: Path) -> None:
    content = (FIXTURES / "keras2_plain.h5").read_bytes()
    file = tmp_path / "header.h5"
    refusals = 0
    for offset in range(0, 1024, 4):
        for value in (0, 0xFF):
            file.write_bytes(content[:offset] + bytes([value]) + content[offset + 1 :])
            try:
                read_all(keras_h5.read, file)
            except ModelFileError as error:
                refusals += 1
                assert "\n" not in str(error)
    assert refusals > 40


def _archive(file: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


@pytest.fixture
def good() -> dict[str, bytes]:
    with zipfile.ZipFile(FIXTURES / "keras3_plain.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_archives_made_to_do_harm(tmp_path: Path, good: dict[str, bytes]) -> None:
    file = tmp_path / "harm.keras"
    members = list(good.items())
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name in ("../../outside", "/outside", "..\\outside", link):
        refused(keras_zip.read, _archive(file, *members, (name, b"x")))
        assert not keras_zip.looks_like(file.read_bytes()[:512], file)
    with pytest.warns(UserWarning, match="Duplicate name"):
        _archive(file, *members, ("config.json", b"{}"))
    refused(keras_zip.read, file, "one name")
    refused(keras_zip.read, _archive(file, *members, ("assets/zeros", bytes(160 << 20))), "unpack to")
    refused(keras_zip.read, _archive(file, *members[:2]), "model.weights.h5")
    refused(keras_zip.read, _archive(file, ("config.json", b" " * (9 << 20)), *members[2:]), "config.json")
    assert list(tmp_path.iterdir()) == [file]


def test_an_encrypted_archive_is_told(tmp_path: Path, good: dict[str, bytes]) -> None:
    file = _archive(tmp_path / "locked.keras", *good.items())
    content = bytearray(file.read_bytes())
    at = 0
    while (at := content.find(b"PK\x01\x02", at + 1)) > 0:
        content[at + 8] |= 1
    file.write_bytes(content)
    refused(keras_zip.read, file, "encrypted")


@pytest.mark.parametrize("inner", [b"", b"\x89HDF\r\n\x1a\n", b"no HDF5 at all"])
def test_an_archive_of_something_else(inner: bytes, tmp_path: Path, good: dict[str, bytes]) -> None:
    refused(keras_zip.read, _archive(tmp_path / "odd.keras", *(good | {"model.weights.h5": inner}).items()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"class_name": "Functional"}',
        '{"config": {"layers": [[]]}}',
        '{"config": {"layers": [{"class_name": "Dense"}]}}',
        '{"config": {"layers": [{"name": "a"}, {"name": "a"}]}, "class_name": "Sequential"}',
        '{"config": {"layers": [{"name": "a", "config": 3}]}}',
        '{"config": {"layers": [{"name": "a", "inbound_nodes": 7}]}}',
        '{"config": {"layers": [{"name": "a", "inbound_nodes": [[["gone", 0, 0]]]}]}}',
        '{"config": {"layers": [{"name": "a", "inbound_nodes": [{"args": '
        '[{"class_name": "__keras_tensor__", "config": {"keras_history": [["a"], 0, 0]}}]}]}]}}',
        '{"config": {"layers": [{"name": "a", "inbound_nodes": [{"kwargs": []}]}]}}',
        '{"config": {"layers": [{"name": "a", "inbound_nodes": [{"args": ' + "[" * 200 + "]" * 200 + "}]}]}}",
    ],
)
def test_broken_configurations(text: str) -> None:
    with pytest.raises(ModelFileError, match="network configuration"):
        parse_config(text)


def test_models_nested_beyond_measure() -> None:
    model: dict[str, object] = {"class_name": "Dense", "name": "last", "config": {"name": "last"}}
    for number in range(100):
        model = {"class_name": "Sequential", "name": f"m{number}", "config": {"name": f"m{number}", "layers": [model]}}
    with pytest.raises(ModelFileError, match="nested"):
        parse_config(json.dumps(model))


def test_a_broken_configuration_names_the_file(tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        group["a/kernel:0"] = np.ones(3)
        group.parent.attrs["model_config"] = "{"

    refused(keras_h5.read, _weights(tmp_path / "config.h5", fill), "not JSON")
