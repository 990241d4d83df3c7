"""Frozen graphs: TensorFlow's own, as a fixture, and such as nobody should trust."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from tests.interchange.formats.hostile import read_all, refused, refuses_what_is_no_file, truncations
from tests.interchange.formats.tables import message
from tests.interchange.formats.tensorflow_files import FIXTURES, FLOAT, assert_same

from skipway.interchange.tensorflow.graph import looks_like, read

FROZEN = FIXTURES / "frozen.pb"


def test_the_constants_of_a_graph_of_tensorflow() -> None:
    with np.load(FIXTURES / "frozen.npz") as kept:
        assert_same(read_all(read, FROZEN), {name.replace("|", "/"): kept[name] for name in kept.files})
    assert read(FROZEN).notes["others"] == {"text": "string"}
    assert not read(FROZEN).warnings


def test_the_nodes_of_a_graph_of_tensorflow() -> None:
    layers = {layer.name: layer for layer in read(FROZEN).layers}
    convolution, norm = layers["conv1/Conv2D"], layers["bn"]
    assert (convolution.kind, convolution.inputs) == ("Conv2D", ("input", "conv1/weights"))
    assert convolution.fields["strides"] == (1, 2, 2, 1)
    assert (convolution.fields["padding"], convolution.fields["T"]) == ("SAME", "float32")
    assert layers["conv1/weights"].arrays == ("conv1/weights",)
    assert layers["text"].arrays == ()
    assert norm.kind == "FusedBatchNormV3"
    assert norm.fields["epsilon"] == pytest.approx(1e-5)
    assert norm.fields["is_training"] is False
    assert layers["input"].fields["shape"] == (-1, 8, 8, 3)


def node(tensor: bytes, name: bytes = b"weights", operation: bytes = b"Const") -> bytes:
    value = message((5, message((1, b"value"), (2, message((8, tensor))))))
    return message((1, message((1, name), (2, operation)) + value))


def tensor(shape: tuple[int, ...], *values: tuple[int, int | bytes], code: int = FLOAT) -> bytes:
    sizes = message(*((2, message((1, size))) for size in shape))
    return message((1, code), (2, sizes), *values)


THREE = (4, np.arange(3, dtype="<f4").tobytes())


def test_a_last_value_stands_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(node(tensor((2, 2), (5, np.array([1, 5], "<f4").tobytes()))) + node(tensor((3,)), b"zeros"))
    assert "version" in read(path).warnings[0]
    wanted = {"weights": np.array([[1, 5], [5, 5]], np.float32), "zeros": np.zeros(3, np.float32)}
    assert_same(read_all(read, path), wanted)


@pytest.mark.parametrize(
    "content",
    [
        node(tensor((1 << 40,), THREE)),
        node(tensor((1 << 25,), (5, bytes(4)))),
        b"".join(node(tensor((1 << 20,), (5, bytes(4))), b"weights%d" % number) for number in range(20)),
        node(tensor((2,), THREE)),
        node(tensor((-3,), THREE)),
        node(tensor((3,), THREE, code=77)),
        node(tensor((3,), (4, bytes(11)))),
        node(tensor((3,), (5, bytes(11)))),
        node(tensor((3,), THREE)) * 2,
        node(tensor((3,), THREE)) + message((1, message((2, b"Const")))),
        node(tensor((3,), THREE)) + message((1, message((1, b"empty"), (2, b"Const")))),
        node(tensor((3,), THREE)) + message((77, b"")),
        node(tensor((3,), THREE)) + b"\x0a\xff\xff\xff\xff\x7f",
        node(tensor((3,), THREE), b"\xff\xfe"),
        message((1, message((1, b"a"), (2, b"Add"), (3, 5)))),
    ],
)
def test_graphs_that_lie(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    refused(read, path)


def test_millions_of_empty_fields_are_refused_in_time(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(node(tensor((3,), THREE)) + b"\x12\x00" * 5_000_000)
    started = time.perf_counter()
    refused(read, path, "fields")
    assert time.perf_counter() - started < 10


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    for part in truncations(FROZEN.read_bytes()):
        path.write_bytes(part)
        refused(read, path)


def test_what_stands_there_instead(tmp_path: Path) -> None:
    refuses_what_is_no_file(read, tmp_path, "graph.pb")


def test_other_files_of_tensorflow_are_named(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1), (2, b"\x0a\x05")))
    refused(read, tmp_path / "saved_model.pb", "variables/variables.index")


@pytest.mark.parametrize(
    "head", [b"", b"\n", b"\n\x0aCaffeNet", b"PK\x03\x04", b"\x89HDF\r\n", b"\x80\x02}q", b"\n\x09\n\x05"]
)
def test_what_does_not_look_like_a_graph(head: bytes) -> None:
    assert not looks_like(head, Path("graph.pb"))


def test_what_looks_like_a_graph() -> None:
    assert looks_like(FROZEN.read_bytes()[:512], Path("weights"))
