"""NumPy files that are damaged or made to do harm: one clear line, and neither memory nor time nor code."""

from __future__ import annotations

import io
import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.interchange.formats.hostile import refused, refuses_what_is_no_file, truncations
from tests.interchange.formats.python2 import LAYERS, array, npy_of, python2_array, python2_layers

from skipway.interchange.numpy import read as npy
from skipway.interchange.numpy.write import write_npz

FIXTURES = Path(__file__).parent / "fixtures" / "torch_npy"


def test_what_is_no_file(tmp_path: Path) -> None:
    refuses_what_is_no_file(npy.read, tmp_path, "weights.npy")


@pytest.mark.parametrize("name", ["alexnet_python2.npy", "alexnet_python3.npy", "alexnet_python2.npz"])
def test_truncated(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in truncations((FIXTURES / name).read_bytes()):
        path.write_bytes(content)
        refused(npy.read, path)


@pytest.mark.parametrize("stored", [False, True])
def test_a_flipped_bit_of_an_archive_is_noticed(stored: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if stored:
        write_npz(path, LAYERS)
        content = path.read_bytes()
    else:
        content = (FIXTURES / "alexnet_python3.npz").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.compress_size)
    middle = largest.header_offset + largest.compress_size // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    refused(npy.read, path, largest.filename)


class Command:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    np.save(tmp_path / "a.npy", {"conv1": [array(2), Command(marker)]})  # type: ignore[arg-type]
    np.savez(tmp_path / "a.npz", conv1=np.array([Command(marker)], object))
    for name in ("a.npy", "a.npz"):
        refused(npy.read, tmp_path / name, "system")
    assert not marker.exists()


def header_of(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


LYING = python2_array(array(4)).replace(b"(K\x01(K\x04t", b"(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft")
NEGATIVE = python2_array(array(4)).replace(b"(K\x01(K\x04t", b"(K\x01(J\xff\xff\xff\xffJ\xfc\xff\xff\xfft")
SHAPED = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"


def everywhere(count: int) -> bytes:
    """A dictionary that holds what memory 7 holds at every number below `count`."""
    return b"0}(" + b"".join(b"M" + struct.pack("<H", number) + b"h\x07" for number in range(count)) + b"u"


HOSTILE = {
    "a shape of 2**62 items": python2_layers(("a", LYING)),
    "a negative shape": python2_layers(("a", NEGATIVE)),
    "data of another size": python2_layers(("a", python2_array(array(4)).replace(b"K\x04t", b"K\x05t"))),
    "one string too long": python2_layers(("a", b"T\xff\xff\xff\x7f")),
    "a dictionary in itself": npy_of(b"}q\x07U\x01ah\x07s"),
    "a list in itself": npy_of(b"]q\x07h\x07a"),
    "many layers of one long list": npy_of(b"](" + b"N" * 5000 + b"eq\x07" + everywhere(5000)),
    "one array as ten thousand": npy_of(python2_array(array(20_000)) + b"q\x07" + everywhere(10_000)),
    "no arrays": npy_of(b"}U\x01aK\x01s"),
    "a number": npy_of(b"K\x01"),
    "a structured array": header_of(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n"),
    "texts as objects": header_of(b"{'descr': '|V8', 'fortran_order': False, 'shape': (1,), }\n"),
    "a shape beyond the file": header_of(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99), }\n"),
    "a shape beyond all bounds": header_of(SHAPED % (b"9" * 500 + b",")),
    "a shape of many dimensions": header_of(SHAPED % (b"1," * 99)),
    "an empty shape beyond memory": header_of(
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9999999999999, 9999999999999), }\n"
    ),
    "a program as header": header_of(b"__import__('os').system('true')\n"),
    "brackets as header": header_of(b"(" * 9000),
    "a header of 64 KiB": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 100_000,
    "a header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,
    "an unknown version": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 100,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    refused(npy.read, path)
    assert tracemalloc.get_traced_memory()[1] < 10 * len(HOSTILE[name]) + (16 << 20)
    tracemalloc.stop()


def archive_of(path: Path, *names: str | zipfile.ZipInfo, content: bytes | None = None) -> None:
    stream = io.BytesIO()
    np.save(stream, array(4))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, stream.getvalue() if content is None else content)


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize("name", ["../a.npy", "/etc/a.npy", "a/../../b.npy", "..\\a.npy", "C:/a.npy"])
def test_archives_that_point_out_of_themselves(name: str, tmp_path: Path) -> None:
    archive_of(tmp_path / "a.npz", name)
    refused(npy.read, tmp_path / "a.npz", "points out of it")


def test_hostile_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    archive_of(path, link("a.npy"), content=b"/etc/passwd")
    refused(npy.read, path, "symbolic link")
    archive_of(path, "readme.txt")
    refused(npy.read, path, "without arrays")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive_of(path, "a.npy", "a.npy")
    refused(npy.read, path, "of one name")
    archive_of(path, "a.npy", content=bytes(200 << 20))
    assert path.stat().st_size < 1 << 20
    refused(npy.read, path, "unpack to")
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    refused(npy.read, path, "archive")


def test_an_archive_whose_sizes_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    archive_of(path, "a.npy", content=npy_of(b"}U\x01a" + python2_array(array(500)) + b"s"))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    for size in (100, 900, 5000):
        content[directory + 24 : directory + 28] = struct.pack("<I", size)
        path.write_bytes(content)
        refused(npy.read, path)
