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
from skipway.interchange.containers.zips import SIGNATURE, ZipMember, members
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.numpy.pickle import PickledArray
from skipway.interchange.source import Array, Notes, WeightFile
from skipway.interchange.torch.checks import is_count, is_tuple
from skipway.interchange.torch.pickle import KNOWN, refused, unpickled
from skipway.interchange.torch.state import Average, State, unwrapped
from skipway.interchange.torch.tar import is_tar, place, read_tar
from skipway.interchange.torch.tensors import Storage, storage_dtype

_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_VERSION = 1001
_MAX_PICKLE = 64 << 20


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file that begins with `head` is one of torch.save's."""
    if head.startswith(SIGNATURE):
        # data.pkl comes first, in a folder named after the file; in a TorchScript program the constants or tensors do.
        name_length = int.from_bytes(head[26:28], "little")
        first_name = head[30 : 30 + name_length]
        return first_name.endswith((b"/data.pkl", b"/constants.pkl", b"/data/0"))
    return _is_legacy(head) or is_tar(head, path)


def _is_legacy(head: bytes) -> bool:
    """Whether a file begins as the stream of pickles does, with the pickled magic number."""
    return head[:1] == b"\x80" and _MAGIC_BYTES in head[:32]


def read(path: Path, average: Average = "raw") -> WeightFile:
    """Read the state dict of a PyTorch file, without the wrappers of training scripts and their prefixes.

    Where a checkpoint holds averaged weights too, `average` chooses. Raises ModelFileError.
    """
    head = checked_head(path)
    if head.startswith(SIGNATURE):
        form = "zip"
        root, blob = _read_zip(path)
    elif _is_legacy(head):
        form = "legacy"
        root, blob = _read_legacy(path)
    elif is_tar(head, path):
        form = "tar"
        root, blob = read_tar(path)
    else:
        raise ModelFileError(f"{path} is no PyTorch file but {describe_foreign(head)}")
    state = unwrapped(path, root, average)
    arrays = _arrays(path, state, blob)
    notes = cast(Notes, {"form": form, **state.notes})
    return WeightFile("torch", path, named(path, arrays), warnings=state.warnings, notes=notes)


def _arrays(path: Path, state: State, blob: Blob) -> list[Array]:
    """The weights as arrays. The data of NumPy's arrays lie in `blob`, which is what the pickle was read from."""
    arrays: list[Array] = []
    for name, value in state.tensors.items():
        if isinstance(value, PickledArray):
            array = value.array(name, blob)
        else:
            array = value.array(name, path)
        arrays.append(array)
    return arrays


def _read_zip(path: Path) -> tuple[Any, Blob]:
    """The pickled object of a zip, and the bytes that it came from."""
    listed = members(path)
    root = _root_folder(path, listed)
    if f"{root}constants.pkl" in listed:
        raise damaged(
            path,
            "is a TorchScript program, whose code is not run",
            'torch.save(torch.jit.load(FILE).state_dict(), "weights.pth") saves its weights',
        )
    pickled = listed[f"{root}data.pkl"]
    if pickled.size > _MAX_PICKLE:
        raise damaged(path, f"describes its tensors in {pickled.size} bytes, no network takes so many")
    _check_byte_order(path, listed.get(f"{root}byteorder"))
    stream = PickleStream(pickled.content(), KNOWN, lambda reference: _zip_storage(reference, listed, root))
    return unpickled(path, stream), pickled


def _root_folder(path: Path, listed: Mapping[str, ZipMember]) -> str:
    """The folder of `data.pkl` in the zip, with its slash. Raises ModelFileError where there is not one such file."""
    folders: list[str] = []
    for name in listed:
        folder, slash, file = name.rpartition("/")
        if file == "data.pkl":
            folders.append(folder + slash)
    if len(folders) != 1 or folders[0].count("/") > 1:
        raise damaged(path, "is a zip archive but not one of torch.save", "name the file that holds the weights")
    return folders[0]


def _check_byte_order(path: Path, order: ZipMember | None) -> None:
    """Raise ModelFileError where the member `byteorder` says that the numbers are big-endian."""
    if order is None or order.size >= 16:
        return
    if order.content() == b"big":
        raise damaged(path, "was written on a big-endian machine", "save it again on any other")


def _zip_storage(reference: object, listed: Mapping[str, ZipMember], root: str) -> Storage:
    """The storage that a pickle refers to, which is a member of the zip. Raises PickleError."""
    dtype, key, count, _part = _storage_reference(reference)
    member = listed.get(f"{root}data/{key}")
    size = count * item_dtype(dtype).itemsize
    if member is None or size > member.size:
        raise PickleError(f"is incomplete or damaged (storage {key[:50]!r} is absent or too short)")
    return Storage(dtype, count, member)


def _storage_reference(reference: object) -> tuple[str, str, int, Any]:
    """Read how a pickle refers to a storage. Raises PickleError.

    Gives the code of its items, its key, the number of its items, and which part of it is meant, None for all of it.
    """
    problem = "is damaged (a reference that is no storage's)"
    if not isinstance(reference, tuple) or len(reference) < 5:
        raise PickleError(problem)
    label, kind, key, _location, count = reference[:5]
    if label != "storage" or not isinstance(kind, Global):
        raise PickleError(problem)
    if not isinstance(key, str) or not is_count(count):
        raise PickleError("is damaged (a storage without a key or a size)")
    part = None
    if len(reference) > 5:
        part = reference[5]
    dtype = storage_dtype(kind.name)
    return dtype, key, count, part


def _read_legacy(path: Path) -> tuple[Any, Blob]:
    """The pickled object of a stream of pickles, and the bytes that it came from."""
    size = path.stat().st_size
    whole = FileBlob(path, 0, size)
    storages: dict[str, Storage] = {}
    with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
        stream = PickleStream(data, KNOWN, lambda reference: _legacy_storage(path, reference, storages))
        _check_start(path, stream)
        root = unpickled(path, stream)
        keys = unpickled(path, stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise damaged(path, "is damaged (its list of storages is none)")
        _place_storages(path, data, stream.position, keys, storages)
    return root, whole


def _check_start(path: Path, stream: PickleStream) -> None:
    """Read the three pickles before the object: a magic number, a version and facts about the machine."""
    magic = unpickled(path, stream)
    version = unpickled(path, stream)
    system = unpickled(path, stream)
    if magic != _MAGIC or version != _VERSION or not isinstance(system, dict):
        raise damaged(path, "is damaged, or of a version of PyTorch that nobody has seen")
    if system.get("little_endian") is False:
        raise damaged(path, "was written on a big-endian machine", "save it again on any other")


def _legacy_storage(path: Path, reference: object, storages: dict[str, Storage]) -> Storage:
    """The storage that a pickle refers to, or the part of one. Its place is not known yet. Raises PickleError."""
    if isinstance(reference, tuple) and len(reference) > 1 and reference[0] == "module":
        name = getattr(reference[1], "name", "")
        raise refused(path, f"torch.nn.modules: {name}")
    dtype, key, count, part = _storage_reference(reference)
    whole = storages.setdefault(key, Storage(dtype, count))
    if whole.dtype != dtype or whole.count != count:
        raise PickleError(f"is damaged (storage {key[:50]!r} is said to be of two sizes)")
    if part is None:
        return whole
    return _storage_part(whole, part)


def _storage_part(whole: Storage, part: object) -> Storage:
    """The storage that is part of another. `part` is a key, the items before it and its own. Raises PickleError."""
    problem = "is damaged (a part of a storage without a place)"
    if not is_tuple(part, 3):
        raise PickleError(problem)
    _key, skipped, count = part
    if not is_count(skipped) or not is_count(count):
        raise PickleError(problem)
    return Storage(whole.dtype, count, whole=whole, skipped=skipped)


def _place_storages(path: Path, data: mmap, position: int, keys: list[str], storages: Mapping[str, Storage]) -> None:
    """Set where the storages lie: one behind the other, each after its number of items. Raises ModelFileError."""
    for key in keys:
        storage = storages.get(key)
        if storage is None or storage.blob is not None:
            raise damaged(path, "is damaged (its list of storages is not that of its tensors)")
        position = place(path, data, position, storage)
