"""The fast path for plain JPEGs: the same counts as `open_picture`, or none."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_kinds import PLAIN_JPEGS as PLAIN
from picture_kinds import encoded, exif, photo
from PIL import Image

from skipway.data import jpeg
from skipway.data.encoded import Box, Encoded
from skipway.data.jpeg import decoded_rows, plain_header
from skipway.data.pictures import open_picture
from skipway.data.resizing import counts_of
from skipway.errors import PictureError


@pytest.fixture(params=["simplejpeg", "pillow"])
def _decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pillow":
        monkeypatch.setattr(jpeg, "_simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")


def upper_rows(data: bytes, bottom: int, *, grey: bool = False, shrink: int = 1) -> np.ndarray:
    header = plain_header(data)
    assert header is not None
    rows = decoded_rows(data, header, grey=grey, bottom=bottom, shrink=shrink)
    assert rows is not None
    return rows


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize("name", PLAIN)
def test_rows_are_those_of_the_whole_picture(name: str) -> None:
    data = PLAIN[name]
    whole = open_picture(data)
    expected = counts_of(whole.convert("RGB"))
    for bottom in range(1, whole.height + 1):
        rows = upper_rows(data, bottom)
        assert len(rows) >= bottom
        assert np.array_equal(rows[:bottom], expected[:bottom])
    if whole.mode == "L":
        assert np.array_equal(upper_rows(data, whole.height, grey=True), counts_of(whole))


@pytest.mark.usefixtures("_decoder")
def test_real_photos_are_the_same_to_the_last_bit(real_data: Path) -> None:
    for file in sorted((real_data / "photos").iterdir())[:12]:
        data = file.read_bytes()
        expected = counts_of(open_picture(data).convert("RGB"))
        for bottom in (len(expected) // 3, len(expected)):
            assert np.array_equal(upper_rows(data, bottom)[:bottom], expected[:bottom])


def test_decoding_ends_soon_after_the_last_row_wanted() -> None:
    pytest.importorskip("simplejpeg")
    data = encoded(photo(64, 512), "JPEG")
    assert len(upper_rows(data, 50)) < 100
    assert len(upper_rows(data, 512)) == 512
    assert len(upper_rows(PLAIN["progressive"], 5)) == 90  # each of its scans covers all rows


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("name", ["420", "422", "444", "grey", "rgb", "progressive"])
def test_both_decoders_shrink_alike(name: str, shrink: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    fast = [upper_rows(PLAIN[name], bottom, shrink=shrink) for bottom in (20, 90)]
    monkeypatch.setattr(jpeg, "_simplejpeg", None)
    plain = upper_rows(PLAIN[name], 90, shrink=shrink)
    assert plain.shape[0] == -(-open_picture(PLAIN[name]).height // shrink)
    assert np.array_equal(fast[1], plain)
    assert np.array_equal(fast[0][: 20 // shrink], plain[: 20 // shrink])


@pytest.mark.usefixtures("_decoder")
def test_a_shrunken_picture_is_the_mean_of_its_pixels() -> None:
    data = encoded(photo(160, 120), "JPEG", quality=95, subsampling=0)
    whole = counts_of(open_picture(data)).astype(float)
    for shrink in (2, 4, 8):
        means = whole.reshape(120 // shrink, shrink, 160 // shrink, shrink, 3).mean((1, 3))
        difference = np.abs(upper_rows(data, 120, shrink=shrink) - means)
        assert difference.mean() < 1.5
        assert difference.mean() < 0.1 * np.abs(means - means.mean()).mean()


def _with_xmp() -> bytes:
    body = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    data = PLAIN["444"]
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(40, 30), "JPEG", exif=exif(6)),
        _with_xmp(),
        encoded(photo(40, 30, "CMYK"), "JPEG"),
        encoded(photo(40, 30), "PNG"),
        PLAIN["420"][:-2],
        PLAIN["420"] + b"more",
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        PLAIN["420"].replace(b"\xff\xc0", b"\xff\xc9"),  # arithmetic coding
        PLAIN["420"].replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),  # 12 bits
        PLAIN["420"].replace(b"\xff\xc0\x00\x11\x08\x00\x5a", b"\xff\xc0\x00\x11\x08\x00\x00"),  # no height
    ],
    ids=["turned", "xmp", "cmyk", "png", "cut", "trailer", "empty", "start", "markers", "arithmetic", "deep", "flat"],
)
def test_anything_unusual_is_left_to_the_slow_path(data: bytes) -> None:
    assert plain_header(data) is None


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize("name", ["420", "progressive", "restarts", "grey"])
def test_hostile_bytes_give_a_picture_or_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(3)
    outcomes: set[str] = set()
    for _ in range(150):
        data = bytearray(PLAIN[name])
        for place in draw.integers(2, len(data) - 2, 3):
            data[place] = draw.integers(256)
        box: list[Box] = []

        def choose(size: tuple[int, int], box: list[Box] = box) -> Box:
            box.append((0, 0, min(size[0], 30), max(min(size[1], 30), 1)))
            return box[0]

        counts = Encoded(bytes(data), "x").cut(choose, grey=False, least=300)
        outcomes.add("picture" if counts is not None else "nothing")
        if counts is not None:
            assert counts.shape == (box[0][3], box[0][2], 3)
    assert outcomes == {"picture", "nothing"}
    assert capfd.readouterr() == ("", "")  # libjpeg's own warnings would not name the file


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = PLAIN["420"].replace(b"\x08\x00\x5a\x00\x43", b"\x08\xff\xff\xff\xff", 1)
    assert plain_header(bomb) is not None

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("skipway.data.encoded.decoded_rows", never)
    assert Encoded(bomb, "bomb.jpg").cut(lambda size: (0, 0, *size), grey=False, least=1) is None
    with pytest.raises(PictureError, match=r"bomb\.jpg: has more than 178,956,970 pixels"):
        Encoded(bomb, "bomb.jpg").decoded()


def test_grey_is_never_made_of_colours_here() -> None:
    def everything(size: tuple[int, int]) -> Box:
        return (0, 0, *size)

    assert Encoded(PLAIN["420"], "x").cut(everything, grey=True, least=10_000) is None
    grey = Encoded(PLAIN["grey"], "x").cut(everything, grey=True, least=10_000)
    assert grey is not None
    assert np.array_equal(grey, counts_of(Image.open(io.BytesIO(PLAIN["grey"]))))


@pytest.mark.usefixtures("_decoder")
def test_odd_metadata_is_followed_or_not_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    """As `open_picture` does: EXIF that cannot be read turns nothing, and nobody hears of it."""
    plain = photo(40, 30)
    for block in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0none", exif(1, b"\0" * 12), exif(9)):
        data = encoded(plain, "JPEG", exif=block)
        counts = Encoded(data, "x").cut(lambda size: (0, 0, *size), grey=False, least=1000)
        assert counts is None or np.array_equal(counts, counts_of(open_picture(data)))
    assert not recwarn.list
