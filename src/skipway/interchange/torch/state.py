"""From what a PyTorch file holds to the weights in it: checkpoints unwrapped, prefixes of wrappers removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skipway.errors import ModelFileError
from skipway.interchange.containers.blobs import damaged
from skipway.interchange.numpy.pickle import PickledArray
from skipway.interchange.torch.pickle import Tensor

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
    """Tensors by name, without the wrappers' prefixes, and what a reader may say about the rest."""

    tensors: Mapping[str, Tensor | PickledArray]
    notes: Mapping[str, Any]
    warnings: tuple[str, ...]


def unwrapped(path: Path, root: Any, average: Average) -> State:
    """The weights of a checkpoint. Raises ModelFileError where there are none, or not the average that is asked for."""
    notes: dict[str, Any] = {}
    warnings: list[str] = []
    within: list[str] = []
    content = root
    seen: dict[int, bool] = {}
    while len(within) < _MAX_DEPTH:
        raw, ema = _holder(content, _RAW, seen), _holder(content, _EMA, seen)
        key = ema if ema is not None and (average == "ema" or raw is None) else raw
        if key is None:
            break
        if ema is not None:
            notes["averages"] = ("raw", "ema") if raw is not None else ("ema",)
            notes["average"] = "ema" if key == ema else "raw"
        if key == ema and average == "raw":
            warnings.append(f"only averaged weights ({ema}) are in the file; these are taken")
        _note_rest(content, key, notes)
        within.append(key)
        content = content[key]
    if average == "ema" and "average" not in notes:
        held = f"those of `{'.'.join(within)}`" if within else "one set of weights"
        raise ModelFileError(f"{path} holds no averaged weights, but {held}; leave out --average ema")
    if not isinstance(content, dict):
        raise damaged(path, "holds no dictionary of tensors", "save a state_dict")
    if within:
        notes["within"] = ".".join(within)
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and _is_array(value)}
    if not tensors:
        raise damaged(path, "holds no weights", "save a state_dict")
    _leave_out(notes, [str(key)[:100] for key in content if key not in tensors])
    return State(_without_prefixes(path, tensors, notes), notes, tuple(warnings))


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, PickledArray) and value.items() is None)


def _holder(content: Any, keys: tuple[str, ...], seen: dict[int, bool]) -> str | None:
    """The first of the keys under which weights lie, at whatever depth."""
    if isinstance(content, dict):
        for key in keys:
            if _holds_weights(content.get(key), seen):
                return key
    return None


def _holds_weights(content: Any, seen: dict[int, bool], depth: int = 0) -> bool:
    """Whether these are tensors by name or a checkpoint of such. Each dictionary is looked through once: a pickle
    can hold one at a million places, or within itself."""
    if not isinstance(content, dict) or depth > _MAX_DEPTH:
        return False
    if id(content) not in seen:
        seen[id(content)] = False
        inner = (content.get(key) for key in _RAW + _EMA)
        seen[id(content)] = any(map(_is_array, content.values())) or any(
            _holds_weights(one, seen, depth + 1) for one in inner
        )
    return seen[id(content)]


def _note_rest(content: Mapping[Any, Any], taken: str, notes: dict[str, Any]) -> None:
    """Plain values such as the epoch are worth a note; the optimizer's state is not read."""
    rest = [key for key in content if key != taken and key not in _EMA + _RAW]
    said = notes.setdefault("checkpoint", {})
    for key in rest:
        value = content[key]
        if isinstance(key, str) and isinstance(value, str | int | float | bool) and len(said) < _MAX_NOTES:
            said[key[:100]] = value[:200] if isinstance(value, str) else value
    _leave_out(notes, [str(key)[:100] for key in rest if str(key)[:100] not in said])


def _leave_out(notes: dict[str, Any], names: list[str]) -> None:
    if not names:
        return
    left = notes.setdefault("left_out", [])
    # The optimizer first: it is what a user asks for.
    names = sorted(names, key=lambda name: not any(part in name.lower() for part in _TRAINING))
    left.extend(names[: _MAX_NOTES - len(left)])


def _without_prefixes(
    path: Path, tensors: Mapping[str, Tensor | PickledArray], notes: dict[str, Any]
) -> dict[str, Tensor | PickledArray]:
    # swa_utils.AveragedModel counts its updates beside the module that it wraps.
    counted = [key for key in tensors if key == "n_averaged"]
    kept = {key: value for key, value in tensors.items() if key not in counted}
    _leave_out(notes, counted)
    removed: set[str] = set()
    names = {key: key for key in kept}
    for part in _WITHIN:
        if any(part in name for name in names.values()):
            removed.add(part)
            names = {key: name.replace(part, "") for key, name in names.items()}
    while names and all(name.startswith(_PREFIX) and name != _PREFIX for name in names.values()):
        removed.add(_PREFIX)
        names = {key: name.removeprefix(_PREFIX) for key, name in names.items()}
    if len(set(names.values())) != len(names):
        raise damaged(path, "holds two tensors of one name once wrappers' prefixes are removed", "save a state_dict")
    if removed:
        notes["prefixes_removed"] = tuple(sorted(removed))
    return {names[key]: value for key, value in kept.items()}
