"""Pickles of PyTorch: which names may occur in them and what each stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import damaged
from skipway.interchange.containers.pickle_stream import PickleStream
from skipway.interchange.containers.pickle_values import Ignored, PickleError, UnknownGlobalError, put
from skipway.interchange.numpy import pickle as numpy_pickle
from skipway.interchange.torch.tensors import DTYPES, STORAGES, Storage, Tensor, view

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


def _tensor(storage: object, offset: object, shape: object, strides: object, *_more: object) -> Tensor:
    """What `_rebuild_tensor` and `_rebuild_tensor_v2` make; their other arguments are about gradients and hooks."""
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
    """What `_rebuild_tensor_v3` makes: a tensor that states its type, because its storage is of plain bytes."""
    full_name = str(getattr(dtype, "name", ""))
    name = full_name.removeprefix("torch.")
    if not isinstance(storage, Storage) or name not in DTYPES:
        raise PickleError("is damaged (a tensor without a storage or a type)")
    return view(storage, offset, shape, strides, DTYPES[name])


def _parameter(data: object, *_more: object) -> object:
    """What `_rebuild_parameter` makes: the tensor of a parameter stands for the parameter."""
    return data


def _tensor_subclass(_function: object, _kind: object, arguments: object, _state: object) -> Tensor:
    """What `_rebuild_from_type_v2` makes: a tensor that carries Python attributes."""
    if type(arguments) is not tuple:
        raise PickleError("is damaged (a tensor without arguments)")
    return _tensor(*arguments)


def _dictionary(pairs: object = (), *_more: object) -> dict[Any, Any]:
    """An ordered dictionary. Python 2 writes it with its items, Python 3 without."""
    made: dict[Any, Any] = {}
    if not isinstance(pairs, list | tuple):
        return made
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise PickleError("is damaged (a dictionary of what are no pairs)")
        key, value = pair
        put(made, key, value)
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
    "torch._tensor._rebuild_from_type_v2": _tensor_subclass,
}


def unpickled(path: Path, stream: PickleStream) -> Any:
    """The next object of a PyTorch file. Raises ModelFileError; for a whole network it says how to save its weights."""
    try:
        return stream.load()
    except UnknownGlobalError as error:
        raise refused(path, error.name) from None
    except PickleError as error:
        fix = f"copy it again, or load it where it was written and, {_SAVE_STATE}"
        raise ModelFileError(f"{path} {error}; {fix}") from None


def refused(path: Path, name: str) -> ModelFileError:
    """The error for a file that holds an object of a class that is not in the table."""
    is_network = name.startswith(("torch.nn.modules", "torchvision.models"))
    if is_network:
        what = "holds a whole network"
    else:
        what = "holds an object, perhaps a whole network"
    reason = f"{what} ({name[:100]}), and to load that would run code"
    fix = f"load it where it was written and, {_SAVE_STATE}"
    return damaged(path, reason, fix)
