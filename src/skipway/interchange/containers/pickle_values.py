"""The values that a pickle is read into without being run, and the errors for one that is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

MAX_KEY_ITEMS = 16
_SCALARS = (str, int, float, bool, bytes, type(None))


class PickleError(Exception):
    """A pickle that is damaged, too large, or not in the allowed form. The message continues "FILE ..."."""


class UnknownGlobalError(PickleError):
    """A pickle that names something outside the table. `name` is that something."""

    def __init__(self, name: str) -> None:
        super().__init__(f"holds {name!r}, which is no array, number or text")
        self.name = name


@dataclass(frozen=True, slots=True)
class Span:
    """A long string that stays in the file: where it begins, its size in bytes, and whether it is UTF-8 `text`."""

    start: int
    size: int
    text: bool


@dataclass(frozen=True, slots=True)
class Global:
    """A name of the table. `call` makes the object that the name stands for; None where it must not be called."""

    name: str
    call: Callable[..., object] | None


@runtime_checkable
class Buildable(Protocol):
    """An object that takes a state: a pickle gives it to what it has made."""

    def build(self, state: Any) -> None:
        """Take the state that the pickle gives."""


class Ignored:
    """Stands for an object that no weights depend on: whatever is put into it is dropped."""

    def __init__(self, *_arguments: object) -> None: ...

    def build(self, state: object) -> None:
        """Drop the state."""


def put(target: dict[Any, Any], key: object, value: object) -> None:
    """`target[key] = value`, for keys that are cheap to hash. A tuple of tuples of tuples... is not.

    Raises PickleError for any other key.
    """
    items: tuple[object, ...] = (key,)
    if type(key) is tuple:
        items = key
    scalar = all(isinstance(item, _SCALARS) for item in items[:MAX_KEY_ITEMS])
    if not scalar or len(items) > MAX_KEY_ITEMS:
        raise PickleError("holds a dictionary whose keys are no names")
    target[key] = value
