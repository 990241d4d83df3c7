"""From what a PyTorch file holds to the weights in it: checkpoints unwrapped, prefixes of wrappers removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import damaged
from skipway.interchange.numpy.pickle import PickledArray
from skipway.interchange.torch.tensors import Tensor

Average = Literal["raw", "ema"]

# In the order of preference. torchvision's references and timm write `model` or `state_dict` beside an average.
_RAW = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
_EMA = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "model_ema_state_dict", "params_ema")
_TRAINING = ("optim", "sched", "scaler")
# DataParallel's, torch.compile's and FSDP's names for what they wrap.
_PREFIX, _WITHIN = "module.", ("_orig_mod.", "_fsdp_wrapped_module.")
_MAX_DEPTH = 4
_MAX_NOTES = 20


@dataclass(frozen=True)
class State:
    """The weights of a file: tensors by name, without the wrappers' prefixes.

    `notes` are what a reader may say about the rest, `warnings` what a user should know.
    """

    tensors: Mapping[str, Tensor | PickledArray]
    notes: Mapping[str, Any]
    warnings: tuple[str, ...]


def unwrapped(path: Path, root: Any, average: Average) -> State:
    """Find the weights in a checkpoint. `root` is the object that the file holds.

    Raises ModelFileError where there are no weights, or no averaged ones although `average` asks for them.
    """
    notes: dict[str, Any] = {}
    warnings: list[str] = []
    within: list[str] = []
    content = root
    seen: dict[int, bool] = {}
    while len(within) < _MAX_DEPTH:
        raw = _find_weights(content, _RAW, seen)
        ema = _find_weights(content, _EMA, seen)
        key = _choose(raw, ema, average)
        if key is None:
            break
        if ema is not None:
            _note_averages(notes, raw, taken=key)
        if key == ema and average == "raw":
            warnings.append(f"only averaged weights ({ema}) are in the file; these are taken")
        _note_rest(content, key, notes)
        within.append(key)
        content = content[key]
    place = ".".join(within)
    if average == "ema" and "average" not in notes:
        raise _no_average(path, place)
    if within:
        notes["within"] = place
    tensors = _tensors_of(path, content, notes)
    return State(_without_prefixes(path, tensors, notes), notes, tuple(warnings))


def _choose(raw: str | None, ema: str | None, average: Average) -> str | None:
    """The key of the weights to take, out of that of the plain weights and that of the averaged ones."""
    if ema is None:
        return raw
    if raw is None or average == "ema":
        return ema
    return raw


def _note_averages(notes: dict[str, Any], raw: str | None, *, taken: str) -> None:
    """Note which weights a checkpoint with averaged weights holds, and which of them are taken."""
    if raw is None:
        notes["averages"] = ("ema",)
    else:
        notes["averages"] = ("raw", "ema")
    notes["average"] = "raw" if taken == raw else "ema"


def _no_average(path: Path, place: str) -> ModelFileError:
    """The error for a file without averaged weights. `place` is where its weights lie, empty for the file itself."""
    held = "one set of weights"
    if place:
        held = f"those of `{place}`"
    return ModelFileError(f"{path} holds no averaged weights, but {held}; leave out --average ema")


def _tensors_of(path: Path, content: Any, notes: dict[str, Any]) -> dict[str, Tensor | PickledArray]:
    """The tensors of a state dict by name; what else is in it is noted. Raises ModelFileError where there are none."""
    if not isinstance(content, dict):
        raise damaged(path, "holds no dictionary of tensors", "save a state_dict")
    tensors: dict[str, Tensor | PickledArray] = {}
    for key, value in content.items():
        if isinstance(key, str) and _is_array(value):
            tensors[key] = value
    if not tensors:
        raise damaged(path, "holds no weights", "save a state_dict")
    others = [str(key)[:100] for key in content if key not in tensors]
    _leave_out(notes, others)
    return tensors


def _is_array(value: object) -> bool:
    """Whether it is a tensor, or an array of NumPy that holds no objects."""
    if isinstance(value, PickledArray):
        return value.items() is None
    return isinstance(value, Tensor)


def _find_weights(content: Any, keys: tuple[str, ...], seen: dict[int, bool]) -> str | None:
    """The first of the keys under which weights lie, at whatever depth."""
    if not isinstance(content, dict):
        return None
    for key in keys:
        value = content.get(key)
        if _holds_weights(value, seen):
            return key
    return None


def _holds_weights(content: Any, seen: dict[int, bool], depth: int = 0) -> bool:
    """Whether these are tensors by name or a checkpoint of such.

    `seen` keeps the answers. So each dictionary is looked through once: a pickle can hold one at a million places, or
    within itself.
    """
    if not isinstance(content, dict) or depth > _MAX_DEPTH:
        return False
    identity = id(content)
    if identity in seen:
        return seen[identity]
    seen[identity] = False
    holds_weights = any(_is_array(value) for value in content.values())
    if not holds_weights:
        inner = [content.get(key) for key in _RAW + _EMA]
        holds_weights = any(_holds_weights(value, seen, depth + 1) for value in inner)
    seen[identity] = holds_weights
    return holds_weights


def _note_rest(content: Mapping[Any, Any], taken: str, notes: dict[str, Any]) -> None:
    """Note plain values such as the epoch, and the names of all else that is not read, as the optimizer's state."""
    rest = [key for key in content if key != taken and key not in _EMA + _RAW]
    values = notes.setdefault("checkpoint", {})
    for key in rest:
        value = content[key]
        is_plain = isinstance(key, str) and isinstance(value, str | int | float | bool)
        if not is_plain or len(values) >= _MAX_NOTES:
            continue
        if isinstance(value, str):
            value = value[:200]
        values[key[:100]] = value
    left_out: list[str] = []
    for key in rest:
        name = str(key)[:100]
        if name not in values:
            left_out.append(name)
    _leave_out(notes, left_out)


def _leave_out(notes: dict[str, Any], names: list[str]) -> None:
    """Note the names of what is not read, up to a limit. What training keeps comes first: a user asks for that."""
    if not names:
        return
    training = [name for name in names if _is_of_training(name)]
    others = [name for name in names if not _is_of_training(name)]
    noted = notes.setdefault("left_out", [])
    room = _MAX_NOTES - len(noted)
    noted.extend((training + others)[:room])


def _is_of_training(name: str) -> bool:
    """Whether an entry is named as what training keeps, such as the state of an optimizer."""
    lower = name.lower()
    return any(part in lower for part in _TRAINING)


def _without_prefixes(
    path: Path, tensors: Mapping[str, Tensor | PickledArray], notes: dict[str, Any]
) -> dict[str, Tensor | PickledArray]:
    """The tensors by their names without the prefixes of wrappers. Raises ModelFileError where two names become one."""
    kept = dict(tensors)
    if "n_averaged" in kept:
        # swa_utils.AveragedModel counts its updates beside the module that it wraps.
        del kept["n_averaged"]
        _leave_out(notes, ["n_averaged"])
    names, removed = _shortened(list(kept))
    if len(set(names)) != len(names):
        raise damaged(path, "holds two tensors of one name once wrappers' prefixes are removed", "save a state_dict")
    if removed:
        notes["prefixes_removed"] = tuple(sorted(removed))
    return dict(zip(names, kept.values(), strict=True))


def _shortened(names: list[str]) -> tuple[list[str], set[str]]:
    """The names in the same order without what wrappers put into them, and what that was."""
    removed: set[str] = set()
    for part in _WITHIN:
        shorter = [name.replace(part, "") for name in names]
        if shorter != names:
            removed.add(part)
            names = shorter
    while _have_prefix(names):
        removed.add(_PREFIX)
        names = [name.removeprefix(_PREFIX) for name in names]
    return names, removed


def _have_prefix(names: list[str]) -> bool:
    """Whether there are names, and all of them begin with the prefix of DataParallel and go on behind it."""
    if not names:
        return False
    for name in names:
        if name == _PREFIX or not name.startswith(_PREFIX):
            return False
    return True
