"""PyTorch files: the zip of 1.6 and later, the stream of pickles before it, and the tar of the first releases.

They are read without torch.load: pickles go through a machine that calls nothing (pickle_stream), tensors stay in the
file until they are asked for, and a size is checked before memory is taken for it. The names that a file may hold are
tensors, containers, numbers and a few things that training scripts save beside them, which are passed over; any other
is refused, as `weights_only=True` would.
"""

from __future__ import annotations

from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, cast

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import Blob, FileBlob, damaged, item_dtype, named
from skipway.interchange.containers.pickle_stream import PickleStream
from skipway.interchange.containers.pickle_values import Global, PickleError
from skipway.interchange.containers.zips import SIGNATURE, Member, members
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.numpy.pickle import PickledArray
from skipway.interchange.source import Notes, Source
from skipway.interchange.torch.pickle import KNOWN, Storage, refused, storage_dtype, unpickled
from skipway.interchange.torch.state import Average, unwrapped
from skipway.interchange.torch.tar import is_tar, place, read_tar

_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_VERSION = 1001
_MAX_PICKLE = 64 << 20


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file that begins with `head` is one of torch.save's."""
    if head.startswith(SIGNATURE):
        # data.pkl comes first, in a folder named after the file; in a TorchScript program the constants or tensors do.
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return name.endswith((b"/data.pkl", b"/constants.pkl", b"/data/0"))
    return (head[:1] == b"\x80" and _MAGIC_BYTES in head[:32]) or is_tar(head, path)


def read(path: Path, average: Average = "raw") -> Source:
    """The state dict of a PyTorch file, with the wrappers of training scripts and their prefixes removed.

    Where a checkpoint holds averaged weights too, `average` chooses. Raises ModelFileError.
    """
    head = checked_head(path)
    if head.startswith(SIGNATURE):
        form, root, blob = "zip", *_read_zip(path)
    elif head[:1] == b"\x80" and _MAGIC_BYTES in head[:32]:
        form, root, blob = "legacy", *_read_legacy(path)
    elif is_tar(head, path):
        form, root, blob = "tar", *read_tar(path)
    else:
        raise ModelFileError(f"{path} is no PyTorch file but {describe_foreign(head)}")
    state = unwrapped(path, root, average)
    arrays = [
        value.array(name, blob) if isinstance(value, PickledArray) else value.array(name, path)
        for name, value in state.tensors.items()
    ]
    return Source(
        "torch", path, named(path, arrays), warnings=state.warnings, notes=cast(Notes, {"form": form, **state.notes})
    )


def _read_zip(path: Path) -> tuple[Any, Blob]:
    listed = members(path)
    roots = [name.removesuffix("data.pkl") for name in listed if name.rpartition("/")[2] == "data.pkl"]
    if len(roots) != 1 or roots[0].count("/") > 1:
        raise damaged(path, "is a zip archive but not one of torch.save", "name the file that holds the weights")
    root = roots[0]
    if f"{root}constants.pkl" in listed:
        raise damaged(
            path,
            "is a TorchScript program, whose code is not run",
            'torch.save(torch.jit.load(FILE).state_dict(), "weights.pth") saves its weights',
        )
    pickled = listed[f"{root}data.pkl"]
    if pickled.size > _MAX_PICKLE:
        raise damaged(path, f"describes its tensors in {pickled.size} bytes, no network takes so many")
    order = listed.get(f"{root}byteorder")
    if order is not None and order.size < 16 and order.content() == b"big":
        raise damaged(path, "was written on a big-endian machine", "save it again on any other")
    stream = PickleStream(pickled.content(), KNOWN, lambda told: _zip_storage(told, listed, root))
    return unpickled(path, stream), pickled


def _zip_storage(told: object, listed: Mapping[str, Member], root: str) -> Storage:
    dtype, key, count = _reference(told)
    member = listed.get(f"{root}data/{key}")
    if member is None or count * item_dtype(dtype).itemsize > member.size:
        raise PickleError(f"is incomplete or damaged (storage {key[:50]!r} is absent or too short)")
    return Storage(dtype, count, member)


def _reference(told: object) -> tuple[str, str, int]:
    """Item type, key and number of items of a storage that a pickle refers to."""
    if not isinstance(told, tuple) or len(told) < 5 or told[0] != "storage" or not isinstance(told[1], Global):
        raise PickleError("is damaged (a reference that is no storage's)")
    _, kind, key, _, count = told[:5]
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise PickleError("is damaged (a storage without a key or a size)")
    return storage_dtype(kind.name), key, count


def _read_legacy(path: Path) -> tuple[Any, Blob]:
    whole = FileBlob(path, 0, path.stat().st_size)
    storages: dict[str, Storage] = {}
    with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
        stream = PickleStream(data, KNOWN, lambda told: _legacy_storage(path, told, storages))
        magic, version, system = (unpickled(path, stream) for _ in range(3))
        if magic != _MAGIC or version != _VERSION or not isinstance(system, dict):
            raise damaged(path, "is damaged, or of a version of PyTorch that nobody has seen")
        if system.get("little_endian") is False:
            raise damaged(path, "was written on a big-endian machine", "save it again on any other")
        root = unpickled(path, stream)
        keys = unpickled(path, stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise damaged(path, "is damaged (its list of storages is none)")
        _place(path, data, stream.position, keys, storages)
    return root, whole


def _legacy_storage(path: Path, told: object, storages: dict[str, Storage]) -> Storage:
    if isinstance(told, tuple) and len(told) > 1 and told[0] == "module":
        raise refused(path, f"torch.nn.modules: {getattr(told[1], 'name', '')}")
    dtype, key, count = _reference(told)
    view = told[5] if isinstance(told, tuple) and len(told) > 5 else None
    whole = storages.setdefault(key, Storage(dtype, count))
    if (whole.dtype, whole.count) != (dtype, count):
        raise PickleError(f"is damaged (storage {key[:50]!r} is said to be of two sizes)")
    if view is None:
        return whole
    if not isinstance(view, tuple) or len(view) != 3 or any(type(part) is not int or part < 0 for part in view[1:]):
        raise PickleError("is damaged (a part of a storage without a place)")
    return Storage(dtype, view[2], whole=whole, skipped=view[1])


def _place(path: Path, data: mmap, position: int, keys: list[str], storages: Mapping[str, Storage]) -> None:
    """Tell the storages where they lie: one behind the other, each after its number of items."""
    for key in keys:
        if key not in storages or storages[key].blob is not None:
            raise damaged(path, "is damaged (its list of storages is not that of its tensors)")
        position = place(path, data, position, storages[key])
