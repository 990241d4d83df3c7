"""Checkpoints of TensorFlow built field by field: forms that its own writer rarely takes, and lies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.interchange.formats.hostile import PAGE, POINTER, read_all, refused, truncations
from tests.interchange.formats.tables import message, table
from tests.interchange.formats.tensorflow_files import FIXTURES, FLOAT, assert_same, expected

from skipway.errors import ModelFileError
from skipway.interchange.tensorflow.checkpoint import looks_like, read
from skipway.interchange.tensorflow.crc32c import crc32c, masked
from skipway.interchange.tensorflow.slices import SavedPart, part_key, part_message, part_of, whole
from skipway.interchange.tensorflow.wire import Message


def entry(values: np.ndarray, code: int = FLOAT, **changed: object) -> bytes:
    """A BundleEntryProto of values at the start of shard 0; `changed` names what it says instead."""
    said = {"shape": values.shape, "shard": 0, "offset": 0, "size": values.nbytes, **changed}
    shape = b"".join(message((2, message((1, size)))) for size in said["shape"])  # type: ignore[attr-defined]
    numbers = message((1, code), (2, shape), (3, said["shard"]), (4, said["offset"]), (5, said["size"]))  # type: ignore[arg-type]
    crc = masked(crc32c(np.ascontiguousarray(values).tobytes()))
    return numbers + b"\x35" + crc.to_bytes(4, "little")


def bundle(folder: Path, rows: dict[bytes, bytes], data: bytes, header: bytes | None = None) -> Path:
    (folder / "b.index").write_bytes(table({b"": message((1, 1)) if header is None else header, **rows}))
    (folder / "b.data-00000-of-00001").write_bytes(data)
    return folder / "b"


def test_snappy_blocks(tmp_path: Path) -> None:
    values = np.arange(3000, dtype="<f4") // 7
    part = whole(2)
    meta = message((1, b"net/weights"), (2, message((2, message((1, 60))), (2, message((1, 50))))), (3, FLOAT))
    meta += message((4, part_message(part)))
    saved = message((1, b"net/weights"), (2, part_message(part)), (3, message((5, values.tobytes()))))
    content = {b"": message((1, message((1, meta)))), part_key("net/weights", part): message((2, saved))}
    path = tmp_path / "model.ckpt"
    path.write_bytes(table(content, compression=1))
    assert path.stat().st_size < values.nbytes
    assert_same(read_all(read, path), {"net/weights": values.reshape(60, 50)})
    bundle = {b"": message((1, 1)), b"a": entry(np.ones((2, 2), "<f4"))}
    (tmp_path / "b.index").write_bytes(table(bundle, compression=1))
    (tmp_path / "b.data-00000-of-00001").write_bytes(np.ones(4, "<f4").tobytes())
    assert_same(read_all(read, tmp_path / "b"), {"a": np.ones((2, 2), np.float32)})


def test_big_endian_values(tmp_path: Path) -> None:
    values = np.array([[1.5, -2.25, 3e-30]], ">f4")
    prefix = bundle(tmp_path, {b"a": entry(values)}, values.tobytes(), message((1, 1), (2, 1)))
    assert_same(read_all(read, prefix), {"a": values.astype(np.float32)})
    assert read(prefix).notes["byte_order"] == "big"


def parts_of(sizes: list[tuple[int, int]], shape: tuple[int, ...] = (6, 2)) -> dict[bytes, bytes]:
    """A variable cut along its first dimension into (start, length), all ones, in one shard."""
    rows, offset = {}, 0
    parts = [SavedPart(((start, length), (0, -1))) for start, length in sizes]
    for (_, length), part in zip(sizes, parts, strict=True):
        values = np.ones((max(length, 0), 2), "<f4")
        rows[part_key("net/fc", part)] = entry(values, offset=offset)
        offset += values.nbytes
    listed = b"".join(message((7, part_message(part))) for part in parts)
    return {b"net/fc": entry(np.ones(0, "<f4"), shape=shape) + listed, **rows}


def test_parts_are_put_together(tmp_path: Path) -> None:
    data = np.ones(12, "<f4").tobytes()
    prefix = bundle(tmp_path, parts_of([(2, 3), (0, 2), (5, 1)]), data)
    assert_same(read_all(read, prefix), {"net/fc": np.ones((6, 2), np.float32)})


@pytest.mark.parametrize("sizes", [[(0, 2), (3, 3)], [(0, 4), (3, 3)], [(0, 3)], [(0, 6), (0, 6)], [(0, 9)], [(-1, 7)]])
def test_parts_that_do_not_fit(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    refused(read, bundle(tmp_path, parts_of(sizes), bytes(200)), "part")


def test_a_missing_part(tmp_path: Path) -> None:
    rows = parts_of([(0, 2), (2, 4)])
    rows.pop(part_key("net/fc", SavedPart(((2, 4), (0, -1)))))
    refused(read, bundle(tmp_path, rows, bytes(200)), "a part of net/fc is missing")


@pytest.mark.parametrize("start", [0, 1, 63, 64, 8191, 8192, 1 << 20, (1 << 62) + 5])
def test_keys_of_parts_sort_as_the_parts_do(start: int) -> None:
    keys = [part_key("a", SavedPart(((at, 1),))) for at in (-start - 2, start, start + 1)]
    assert keys == sorted(set(keys))
    part = SavedPart(((start, 5), (0, -1), (3, 0)))
    assert part_of(Message(memoryview(part_message(part)))) == part


ONES = np.ones((2, 3), "<f4")
LIES: dict[str, Callable[[Path], Path]] = {
    "no header": lambda folder: _without_header(folder),
    "no shards": lambda folder: bundle(folder, {}, b"", message((1, 0))),
    "negative shards": lambda folder: bundle(folder, {}, b"", message((1, -1))),
    "odd byte order": lambda folder: bundle(folder, {}, b"", message((1, 1), (2, 2))),
    "header is text": lambda folder: bundle(folder, {}, b"", message((1, b"one"))),
    "shard that is not there": lambda folder: bundle(folder, {b"a": entry(ONES, shard=1)}, bytes(24)),
    "negative shard": lambda folder: bundle(folder, {b"a": entry(ONES, shard=-1)}, bytes(24)),
    "past the end": lambda folder: bundle(folder, {b"a": entry(ONES, offset=1)}, bytes(24)),
    "negative offset": lambda folder: bundle(folder, {b"a": entry(ONES, offset=-4)}, bytes(24)),
    "negative size": lambda folder: bundle(folder, {b"a": entry(ONES, size=-24)}, bytes(24)),
    "huge size": lambda folder: bundle(folder, {b"a": entry(ONES, size=1 << 60, shape=(1 << 58,))}, bytes(24)),
    "huge offset": lambda folder: bundle(folder, {b"a": entry(ONES, offset=(1 << 63) - 1)}, bytes(24)),
    "shape and size": lambda folder: bundle(folder, {b"a": entry(ONES, shape=(2, 4))}, bytes(24)),
    "negative shape": lambda folder: bundle(folder, {b"a": entry(ONES, shape=(-2, -3))}, bytes(24)),
    "huge shape of nothing": lambda folder: bundle(
        folder, {b"a": entry(ONES[:0], shape=(0, 1 << 40, 1 << 40))}, bytes(24)
    ),
    "many dimensions": lambda folder: bundle(folder, {b"a": entry(ONES[:1, :1], shape=(1,) * 40)}, bytes(24)),
    "unknown type": lambda folder: bundle(folder, {b"a": entry(ONES, code=77)}, bytes(24)),
    "no type": lambda folder: bundle(folder, {b"a": entry(ONES, code=0)}, bytes(24)),
    "wrong checksum": lambda folder: bundle(folder, {b"a": entry(ONES)}, bytes(24)),
    "shared bytes": lambda folder: bundle(folder, {b"a": entry(ONES), b"b": entry(ONES)}, ONES.tobytes()),
    "name": lambda folder: bundle(folder, {b"a\xff": entry(ONES)}, ONES.tobytes()),
    "entry cut off": lambda folder: bundle(folder, {b"a": entry(ONES)[:-3]}, ONES.tobytes()),
    "entry is a number": lambda folder: bundle(folder, {b"a": message((2, 5))}, ONES.tobytes()),
}  # fmt: skip


def _without_header(folder: Path) -> Path:
    prefix = bundle(folder, {}, b"")
    (folder / "b.index").write_bytes(table({b"a": entry(ONES)}))
    return prefix


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_v2_that_lies(tmp_path: Path, lie: Callable[[Path], Path]) -> None:
    refused(read, lie(tmp_path))


def v1(folder: Path, variable: bytes, saved: bytes | None, rank: int = 1) -> Path:
    rows = {b"": message((1, message((1, variable))))}
    if saved is not None:
        rows[part_key("a", whole(rank))] = message((2, saved))
    (folder / "b").write_bytes(table(rows))
    return folder / "b"


ALL = whole(1)


def listed(size: int, code: int = FLOAT, part: SavedPart = ALL) -> bytes:
    return message((1, b"a"), (2, message((2, message((1, size))))), (3, code), (4, part_message(part)))


def saved(tensor: bytes, name: bytes = b"a") -> bytes:
    return message((1, name), (3, tensor))


THREE = message((5, np.ones(3, "<f4").tobytes()))


def test_v1_values_in_every_form(tmp_path: Path) -> None:
    ones = np.ones(3, np.float32)
    one_by_one = b"\x2d" + b"\x2d".join(np.float32(value).tobytes() for value in ones)
    content = message((4, np.ones(3, "<f4").tobytes()))
    for tensor in (THREE, one_by_one, content):
        assert_same(read_all(read, v1(tmp_path, listed(3), saved(tensor))), {"a": ones})
    halves = message((13, 0x3F80), (13, 0xC000))
    assert_same(read_all(read, v1(tmp_path, listed(2, code=14), saved(halves))), {"a": np.array([1, -2], np.float32)})
    numbers = message((7, -1), (7, 300), (7, b"\x05\xac\x02"))
    assert_same(
        read_all(read, v1(tmp_path, listed(4, code=3), saved(numbers))), {"a": np.array([-1, 300, 5, 300], np.int32)}
    )


V1_LIES: dict[str, Callable[[Path], Path]] = {
    "values missing": lambda folder: v1(folder, listed(3), None),
    "fewer values": lambda folder: v1(folder, listed(4), saved(THREE)),
    "more values": lambda folder: v1(folder, listed(2), saved(THREE)),
    "huge shape": lambda folder: v1(folder, listed(1 << 50), saved(THREE)),
    "negative shape": lambda folder: v1(folder, listed(-3), saved(THREE)),
    "another name": lambda folder: v1(folder, listed(3), saved(THREE, b"b")),
    "another width": lambda folder: v1(folder, listed(3, code=2), saved(message((6, bytes(20))))),
    "unknown type": lambda folder: v1(folder, listed(3, code=99), saved(THREE)),
    "part outside": lambda folder: v1(folder, listed(3, part=SavedPart(((0, 5),))), saved(THREE)),
    "part of two dimensions": lambda folder: v1(folder, listed(3, part=whole(2)), saved(THREE), rank=2),
    "number without end": lambda folder: v1(folder, listed(3, code=3), saved(message((7, b"\x80\x80")))),
    "number too long": lambda folder: v1(folder, listed(1, code=3), saved(message((7, b"\x80" * 11 + b"\x01")))),
    "listed twice": lambda folder: _at(folder, table({b"": message((1, message((1, listed(3)), (1, listed(3)))))})),
    "without a name": lambda folder: v1(folder, message((3, FLOAT)), saved(THREE)),
    "index of a V2 checkpoint": lambda folder: _at(folder, table({b"": message((1, 1))})),
}  # fmt: skip


def _at(folder: Path, content: bytes) -> Path:
    (folder / "b").write_bytes(content)
    return folder / "b"


@pytest.mark.parametrize("lie", V1_LIES.values(), ids=V1_LIES)
def test_v1_that_lies(tmp_path: Path, lie: Callable[[Path], Path]) -> None:
    refused(read, lie(tmp_path))


def test_names_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    told = refused(read, v1(tmp_path, listed(3), saved(THREE, b"\x1b[2J\n" + b"a" * 1000)))
    assert told.isprintable()
    assert len(told) < len(str(tmp_path)) + 400
    (tmp_path / "checkpoint").write_bytes(b'model_checkpoint_path: "a\x1b[2J"')
    assert refused(read, tmp_path).isprintable()


@pytest.mark.parametrize("name", ["v1/model.ckpt-7", "v2/model.ckpt-7.index", "v2/model.ckpt-7.data-00000-of-00001"])
def test_truncated_anywhere(tmp_path: Path, name: str) -> None:
    shutil.copytree(FIXTURES / Path(name).parent, tmp_path / "copy")
    path = tmp_path / "copy" / Path(name).name
    for part in truncations(path.read_bytes()):
        path.write_bytes(part)
        refused(read, tmp_path / "copy" / "model.ckpt-7")


@pytest.mark.parametrize("name", ["v1/model.ckpt-7", "v2/model.ckpt-7.index", "v2/model.ckpt-7.data-00000-of-00001"])
def test_flipped_bits(tmp_path: Path, name: str) -> None:
    """Whatever bit is flipped: refused, or, in the few bytes that nothing depends on, without effect."""
    folder = tmp_path / "copy"
    shutil.copytree(FIXTURES / Path(name).parent, folder)
    path, wanted = folder / Path(name).name, expected(FIXTURES / Path(name).parent)
    content = path.read_bytes()
    caught = 0
    places = np.random.default_rng(0).integers(0, 8 * len(content), 400)
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert_same(read_all(read, folder / "model.ckpt-7"), wanted)
        except ModelFileError:
            caught += 1
    assert caught > 0.9 * len(places)


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_what_stands_there_instead(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model.ckpt{ending}"
    refused(read, path, "model.ckpt")
    path.symlink_to(tmp_path / "gone")
    refused(read, path, "")
    path.unlink()
    for content, words in ((b"", ""), (PAGE, "web page"), (POINTER, "git lfs pull"), (bytes(64), "")):
        path.write_bytes(content)
        if ending.startswith(".data"):
            refused(read, path, "model.ckpt.index beside it")
        else:
            refused(read, path, words)
        assert not looks_like(content, path)


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "v2_sharded", tmp_path / "v2")
    (tmp_path / "v2" / "model.ckpt-7.data-00001-of-00002").unlink()
    refused(read, tmp_path / "v2" / "model.ckpt-7", "needs model.ckpt-7.data-00001-of-00002")
    shutil.copytree(FIXTURES / "v1_sharded", tmp_path / "v1")
    (tmp_path / "v1" / "model.ckpt-7-00001-of-00002").unlink()
    refused(read, tmp_path / "v1" / "model.ckpt-7", "2 files; 1 is missing")


def test_a_meta_file_alone(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.meta").write_bytes(b"\n\x05a graph")
    refused(read, tmp_path / "model.ckpt.meta", "without model.ckpt.index")
