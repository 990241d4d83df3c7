"""Files in, the picture that a person sees out."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

import numpy as np
import picture_kinds as kinds
import pytest
from PIL import Image

from skipway.data import pictures
from skipway.data.pictures import is_picture_name, natural_key, open_picture
from skipway.errors import PictureError


def counts(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def noise(form: str) -> bytes:
    values = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    return kinds.encoded(Image.fromarray(values), form)


@pytest.mark.parametrize("name", kinds.MAKERS)
def test_every_kind_is_seen_as_a_person_sees_it(name: str, tmp_path: Path) -> None:
    kind = kinds.MAKERS[name]()
    file = tmp_path / f"picture{kind.suffix}"
    file.write_bytes(kind.data)
    for picture in (open_picture(file), open_picture(str(file)), open_picture(kind.data)):
        assert picture.mode == ("L" if kind.seen.ndim == 2 else "RGB")
        assert counts(picture).shape == kind.seen.shape
        np.testing.assert_allclose(counts(picture), kind.seen.astype(int), atol=kind.tolerance)


@pytest.mark.parametrize("orientation", kinds.TURNS)
@pytest.mark.parametrize("form", ["JPEG", "TIFF", "WEBP"])
def test_orientation_is_followed_once_in_every_format(form: str, orientation: int) -> None:
    stored = kinds.blocks(kinds.WIDE)
    options = {
        "JPEG": {"exif": kinds.exif(orientation), "quality": 100, "subsampling": 0},
        "TIFF": {"tiffinfo": {274: orientation}},
        "WEBP": {"exif": kinds.exif(orientation), "lossless": True},
    }[form]
    picture = open_picture(kinds.encoded(Image.fromarray(stored), form, **options))
    upright = kinds.TURNS[orientation](stored).astype(int)
    np.testing.assert_allclose(counts(picture), upright, atol=3)
    # Whoever turns it again, as torchvision's readers do, must find nothing to turn.
    assert not picture.getexif()


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\x05\0garbage",
        kinds.exif(9),
        kinds.exif(1, b"\x1a\x01\x02\0\x04\0\0\0abc\0"),
    ],
    ids=["garbage", "cut", "no such orientation", "resolution as text"],
)
def test_odd_metadata_does_not_cost_the_picture(block: bytes) -> None:
    stored = kinds.blocks(kinds.WIDE)
    data = kinds.encoded(Image.fromarray(stored), "JPEG", exif=block, quality=100, subsampling=0)
    np.testing.assert_allclose(counts(open_picture(data)), stored.astype(int), atol=3)


def test_an_odd_tag_beside_the_orientation_does_not_cost_the_picture() -> None:
    block = kinds.exif(6, b"\x1a\x01\x02\0\x04\0\0\0abc\0")  # a resolution stored as text
    data = kinds.encoded(Image.fromarray(kinds.blocks(kinds.WIDE)), "JPEG", exif=block)
    assert open_picture(data).size == (16, 24)


def test_several_pictures_in_one_jpeg_give_the_first() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (kinds.RED, kinds.BLUE)]
    data = kinds.encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(counts(open_picture(data))[0, 0], kinds.RED, atol=3)


BAD = {
    "cut.jpg": (lambda: noise("JPEG")[:-800], "is damaged"),
    "cut.png": (lambda: noise("PNG")[:1500], "is damaged"),
    "cut.gif": (lambda: noise("GIF")[:1500], "is damaged"),
    "cut.tif": (lambda: noise("TIFF")[:1500], ""),
    "cut.bmp": (lambda: noise("BMP")[:1500], "is damaged"),
    "cut.webp": (lambda: noise("WEBP")[:800], ""),
    "changed.png": (lambda: noise("PNG")[:600] + b"\xff" + noise("PNG")[601:], "is damaged"),
    "empty.jpg": (lambda: b"", "is empty (0 bytes)"),
    "text.jpg": (lambda: b"no picture at all\n", "is no picture in a known format"),
    "drawing.eps": (lambda: kinds.encoded(Image.new("RGB", (4, 4)), "EPS"), "is no picture in a known format"),
    "eps.jpg": (lambda: kinds.encoded(Image.new("RGB", (4, 4)), "EPS"), "is no picture in a known format"),
    "bomb.png": (lambda: kinds.png(60_000, 60_000, 8, 0, b""), "more than 178,956,970 pixels"),
    "bomb.gif": (lambda: b"GIF89a" + b"\xff" * 4 + b"\0\0\0,\0\0\0\0" + b"\xff" * 4 + b"\0\x02\0;", "pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_the_reason_and_the_fix(name: str, tmp_path: Path) -> None:
    make, reason = BAD[name]
    file = tmp_path / name
    file.write_bytes(make())
    with pytest.raises(PictureError) as caught:
        open_picture(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert reason in message
    assert "; " in message  # what; the fix
    assert "\n" not in message
    assert caught.value.file == str(file)


def test_missing_files_and_folders_are_picture_errors(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"gone\.jpg: cannot be read \(No such file or directory\); check the path"):
        open_picture(tmp_path / "gone.jpg")
    with pytest.raises(PictureError, match="Is a directory"):
        open_picture(tmp_path)


def test_bytes_are_called_by_the_given_name() -> None:
    with pytest.raises(PictureError, match=r"^upload\.png: is empty"):
        open_picture(b"", name="upload.png")
    with pytest.raises(PictureError, match=r"^<bytes>: is empty"):
        open_picture(b"")


def test_a_picture_just_within_the_limit_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 16)
    assert open_picture(kinds.encoded(Image.new("L", (4, 4)), "PNG")).size == (4, 4)
    with pytest.raises(PictureError, match="more than 16 pixels"):
        open_picture(kinds.encoded(Image.new("L", (17, 1)), "PNG"))


def test_decoding_leaves_warnings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when two threads decode at once and leave in the order in which they came."""
    before = list(warnings.filters)
    inside = {b"first": threading.Event(), b"second": threading.Event()}
    first_left = threading.Event()

    def decode(data: bytes) -> Image.Image:
        warnings.warn("odd metadata", stacklevel=1)  # an error in tests, unless silenced
        inside[data].set()
        (inside[b"second"] if data == b"first" else first_left).wait(10)
        return Image.new("L", (1, 1))

    monkeypatch.setattr(pictures, "_decode", decode)
    opened: list[Image.Image] = []
    first = threading.Thread(target=lambda: (opened.append(open_picture(b"first")), first_left.set()))
    second = threading.Thread(target=lambda: opened.append(open_picture(b"second")))
    first.start()
    assert inside[b"first"].wait(10)
    second.start()
    first.join(20)
    second.join(20)
    assert len(opened) == 2
    assert warnings.filters == before


def test_natural_order() -> None:
    names = ["10", "9", "a10", "a9", "A1", "b", "a", "2x", "02", "2", "ab"]
    assert sorted(names, key=natural_key) == ["02", "2", "2x", "9", "10", "a", "A1", "a9", "a10", "ab", "b"]
    # Names that compare equal must not be left in the file system's order.
    assert natural_key("1") != natural_key("01")
    assert natural_key("cat") != natural_key("Cat")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", True), ("A.JPEG", True), ("a.tiff", True), ("a.txt", False), ("._a.jpg", False), ("jpg", False)],
)
def test_names_that_promise_pictures(name: str, expected: bool) -> None:
    assert is_picture_name(Path(name)) is expected


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(PictureError, match="no regular file"):
        open_picture(pipe)


def test_an_enormous_file_is_one_bad_picture(tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(PictureError, match="bytes; re-save"):
        open_picture(huge)
