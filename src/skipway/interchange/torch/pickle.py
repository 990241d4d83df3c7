"""Tensors inside PyTorch's pickles: which names may occur in them and what each stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import BFLOAT16, Blob, checked_shape, damaged, item_dtype, stored_array
from skipway.interchange.containers.pickle_stream import PickleStream
from skipway.interchange.containers.pickle_values import Ignored, PickleError, UnknownGlobalError, put
from skipway.interchange.numpy import pickle as numpy_pickle
from skipway.interchange.source import Array

# torch.FloatStorage and the like, and what `torch.float32` is called, as NumPy's code of the bytes in the file.
STORAGES = {
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": BFLOAT16,
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "ComplexFloat": "<c8",
    "ComplexDouble": "<c16",
}
DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": BFLOAT16,
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "?",
    "complex64": "<c8",
    "complex128": "<c16",
}
# What training checkpoints hold beside the weights. None of it is made, let alone run.
_IGNORED = (
    "argparse.Namespace",
    "builtins.set",
    "__builtin__.set",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "torch.Size",
    "torch.device",
)
_MENTIONED = (
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("int", "float", "dict", "list")),
    *(f"torch.{name}" for name in DTYPES),
    *(f"torch{where}.{name}{of}" for where in ("", ".cuda") for name in STORAGES for of in ("Storage", "Tensor")),
    "torch.storage.UntypedStorage",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
)
_SAVE_STATE = 'there, torch.save(network.state_dict(), "weights.pth") writes what can be read here'


@dataclass
class Storage:
    """A run of `count` items of the file, shared by tensors. `blob` and `start`, in bytes, are set once it is known
    where it lies; for a part of another storage, `whole` is that and `skipped` the items before."""

    dtype: str
    count: int
    blob: Blob | None = None
    start: int = 0
    whole: Storage | None = None
    skipped: int = 0

    def place(self) -> tuple[Blob | None, int]:
        """The bytes that hold it and where in them it begins; no bytes where the file turned out not to hold it."""
        if self.whole is None:
            return self.blob, self.start
        if self.skipped + self.count > self.whole.count:
            return None, 0
        return self.whole.blob, self.whole.start + self.skipped * item_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count items."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    def array(self, name: str, path: Path) -> Array:
        """The array by that name. Raises ModelFileError when it asks for more than its storage."""
        size, count = item_dtype(self.dtype).itemsize, math.prod(self.shape)
        if not count:
            return Array(name, self.shape, self._native(), lambda: np.empty(self.shape, self._native()))
        blob, start = self.storage.place()
        there = self.storage.count * item_dtype(self.storage.dtype).itemsize // size
        span = 1 + sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        # An expanded tensor has more items than its storage: a few bytes could ask for any amount of memory.
        if blob is None or max(count, self.offset + span) > there:
            raise damaged(path, f"is damaged ({name[:100]} of shape {self.shape} asks for more than is stored)")
        return stored_array(name, blob, start + self.offset * size, self.shape, self.dtype, strides=self.strides)

    def _native(self) -> np.dtype[Any]:
        return np.dtype(np.float32) if self.dtype == BFLOAT16 else np.dtype(self.dtype).newbyteorder("=")


def storage_dtype(name: str) -> str:
    """The code of what a storage class such as `torch.FloatStorage` holds. Raises PickleError."""
    kind = name.rpartition(".")[2].removesuffix("Storage")
    if kind in {"Untyped"}:
        return "u1"
    if kind not in STORAGES:
        raise PickleError(f"stores {name[:100]}, which are no plain numbers")
    return STORAGES[kind]


def _tensor(storage: object, offset: object, shape: object, strides: object, *_more: object) -> Tensor:
    """Of `_rebuild_tensor` and `_rebuild_tensor_v2`; the rest is gradients and hooks."""
    if not isinstance(storage, Storage):
        raise PickleError("is damaged (a tensor without a storage)")
    return view(storage, offset, shape, strides, storage.dtype)


def _tensor_v3(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    _grad: object,
    _hooks: object,
    dtype: object,
    *_: object,
) -> Tensor:
    name = str(getattr(dtype, "name", "")).removeprefix("torch.")
    if not isinstance(storage, Storage) or name not in DTYPES:
        raise PickleError("is damaged (a tensor without a storage or a type)")
    return view(storage, offset, shape, strides, DTYPES[name])


def view(storage: Storage, offset: object, shape: object, strides: object, dtype: str) -> Tensor:
    if type(offset) is not int or offset < 0 or type(shape) is not tuple or type(strides) is not tuple:
        raise PickleError("is damaged (a tensor without a place, a shape or strides)")
    size = item_dtype(dtype).itemsize
    try:
        lengths, steps = checked_shape(shape, size), checked_shape(strides, size)
    except ValueError as error:
        raise PickleError(f"is damaged (a tensor that {error})") from None
    if len(lengths) != len(steps):
        raise PickleError("is damaged (a tensor whose strides are not those of its shape)")
    return Tensor(storage, offset, lengths, steps, dtype)


def _parameter(data: object, *_more: object) -> object:
    return data


def _subclassed(_function: object, _kind: object, arguments: object, _state: object) -> Tensor:
    """A tensor that carries Python attributes."""
    if type(arguments) is not tuple:
        raise PickleError("is damaged (a tensor without arguments)")
    return _tensor(*arguments)


def _dictionary(pairs: object = (), *_more: object) -> dict[Any, Any]:
    """An ordered dictionary, as Python 2 writes it with its items, Python 3 without."""
    made: dict[Any, Any] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise PickleError("is damaged (a dictionary of what are no pairs)")
        put(made, pair[0], pair[1])
    return made


KNOWN: Mapping[str, Callable[..., object] | None] = {
    **numpy_pickle.KNOWN,
    **dict.fromkeys(_MENTIONED),
    **dict.fromkeys(_IGNORED, Ignored),
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    "collections.Counter": _dictionary,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _subclassed,
}


def unpickled(path: Path, stream: PickleStream) -> Any:
    """The next object of a PyTorch file. Raises ModelFileError; for a whole network it says how to save its weights."""
    try:
        return stream.load()
    except UnknownGlobalError as error:
        raise refused(path, error.name) from None
    except PickleError as error:
        raise ModelFileError(
            f"{path} {error}; copy it again, or load it where it was written and, {_SAVE_STATE}"
        ) from None


def refused(path: Path, name: str) -> ModelFileError:
    """For a file that holds an object of a class that is not in the table."""
    what = (
        "holds a whole network"
        if name.startswith(("torch.nn.modules", "torchvision.models"))
        else "holds an object, perhaps a whole network"
    )
    return damaged(
        path,
        f"{what} ({name[:100]}), and to load that would run code",
        f"load it where it was written and, {_SAVE_STATE}",
    )
