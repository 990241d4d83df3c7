"""What a path may hold in place of a weight file: a web page, a pointer, an archive, a folder, nothing."""

from __future__ import annotations

from pathlib import Path

from skipway.errors import ModelFileError
from skipway.files import read_error

_HEAD = 512  # bytes; enough for a page that begins with comments or blank lines
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5); name it .h5"),
    (b"PK\x03\x04", "a zip archive; give a .keras, an .npz or what torch.save wrote"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it first"),
    (b"\x93NUMPY", "a NumPy file; name it .npy"),
    (b"%PDF", "a PDF document; download the weights themselves"),
)


def checked_head(path: Path) -> bytes:
    """The first 512 bytes of a file. Raises ModelFileError where there is no such file, or nothing in it."""
    try:
        _require_regular(path)
        with path.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as error:
        raise ModelFileError(str(read_error(path, error))) from None
    except ValueError as error:
        raise ModelFileError(f"{path} cannot be opened ({error}); make it readable") from None
    if not head:
        raise ModelFileError(f"{path} is empty; download or copy it again")
    return head


def _require_regular(path: Path) -> None:
    """Raises ModelFileError for a path that leads to no regular file."""
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; give the file inside it")
    if path.is_file():
        return
    reason = "does not exist or is no regular file"
    if path.is_symlink():
        reason = "is a link to a file that is gone"
    raise ModelFileError(f"{path} {reason}; give the path of a weight file")


def describe_foreign(head: bytes) -> str:
    """What a file that is not of the expected format is, by its first bytes, and what to do about it."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    is_web_page = text.startswith((b"<!doctype", b"<html", b"<?xml", b"<!--"))
    if is_web_page:
        return "a web page, as a download that failed leaves it; download the file itself"
    for signature, description in _SIGNATURES:
        if head.startswith(signature):
            return description
    return "something else; check what was downloaded or copied"
