"""Frozen dataclasses from plain JSON or TOML values, checked against their annotations.

Files can come from strangers. The type of every field is verified, and unknown fields are refused, so that a spec, a
preprocessing or a recipe that is read from a file is as well formed as one that is written in Python.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from skipway.errors import SkipwayError, UnknownNameError

T = TypeVar("T")

_LONGEST_SHOWN = 60  # characters of a value in an error message
_INTEGER_LIMIT = 2**63  # whole numbers beyond this do not fit into int64
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


class ValueMismatchError(SkipwayError):
    """A plain value that does not have the type of its field."""


def floated(value: Any) -> None:
    """Change whole numbers in the float fields of a frozen dataclass to floats.

    The dataclass then equals the one that is read from its own TOML or JSON.
    """
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        is_float_field = field.type in ("float", float)
        if is_float_field and type(found) is int:
            object.__setattr__(value, field.name, float(found))


def refuse_unknown_options(function: str, given: Mapping[str, Any], known: type) -> None:
    """Check the names of keyword arguments.

    Arguments:
        function: the name of the function that was called, for the error message.
        given: the keyword arguments.
        known: a class whose annotations are the allowed names.

    Raises UnknownNameError, with the nearest names, for the first unknown keyword.
    """
    names = list(typing.get_type_hints(known))
    _refuse_unknown(f"option of {function}", given, names)


def _refuse_unknown(kind: str, given: Mapping[str, Any], known: list[str]) -> None:
    """Raises UnknownNameError for the first key of `given` that is not among the known names."""
    for name in given:
        if name not in known:
            raise UnknownNameError(kind, str(name), sorted(known))


def from_plain(kind: type[T], plain: Any, where: str) -> T:
    """Make a dataclass from plain values.

    Arguments:
        kind: the dataclass to make.
        plain: a mapping of field names to plain values. A list becomes a tuple, and a whole number becomes a float,
            where the annotation of the field says so.
        where: the start of the error messages.

    Raises ValueMismatchError for a value of another type or a missing field, and UnknownNameError for an unknown field.
    """
    if not isinstance(plain, Mapping):
        raise ValueMismatchError(f"{where} is {_show(plain)}; it must be a table of fields")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    _refuse_unknown(f"key of {where}", plain, [field.name for field in fields])
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in plain.items():
        values[key] = _convert(hints[key], value, f"{where}: {key}")
    required = [field.name for field in fields if _is_required(field)]
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueMismatchError(f"{where} lacks {', '.join(missing)}; add what is missing")
    return kind(**values)


def verify(value: Any, where: str) -> dict[str, Any]:
    """Check the fields of a dataclass, and those of the dataclasses in them.

    Arguments:
        value: the dataclass.
        where: the start of the error messages.

    Returns the fields with the types that their annotations name: tuples in place of lists, dataclasses in place of
    mappings. Raises ValueMismatchError or UnknownNameError for a field of another type.
    """
    hints = typing.get_type_hints(type(value))
    plain = dataclasses.asdict(value)
    verified = {}
    for field in dataclasses.fields(value):
        name = field.name
        verified[name] = _convert(hints[name], plain[name], f"{where}: {name}")
    return verified


def _is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    has_default = field.default is not dataclasses.MISSING
    has_factory = field.default_factory is not dataclasses.MISSING
    return not has_default and not has_factory


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A plain value as the type that an annotation names. Raises ValueMismatchError or UnknownNameError."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Literal:
        return _convert_literal(arguments, value, where)
    if origin in {typing.Union, types.UnionType}:
        return _convert_union(arguments, value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast("type[Any]", hint)
        return from_plain(kind, value, where)
    return _convert_scalar(hint, value, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    """A number, a text or a truth value. Only a whole number is changed, where a float is wanted."""
    given = type(value)
    if given is int and abs(value) >= _INTEGER_LIMIT:
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be a number below 2**63")
    if given is int and hint is float:
        return float(value)
    if given is float and not math.isfinite(value):
        raise ValueMismatchError(f"{where} is {value}; it must be a finite number")
    if given is not hint:
        wanted = _TYPE_NAMES.get(hint, str(hint))
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be {wanted}")
    return value


def _convert_literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    """A value that is one of `choices`. The type counts, too: True equals 1, but is not the same choice."""
    types_of_choices = {type(choice) for choice in choices}
    if value in choices and type(value) in types_of_choices:
        return value
    listed = ", ".join(str(choice) for choice in choices)
    raise ValueMismatchError(f"{where} is {_show(value)}; it must be one of {listed}")


def _convert_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    """A value of the first type of a union that it fits. The error is that of the last type."""
    allows_none = type(None) in hints
    if value is None and allows_none:
        return None
    candidates = [hint for hint in hints if hint is not type(None)]
    for hint in candidates[:-1]:
        try:
            return _convert(hint, value, where)
        except SkipwayError:
            continue
    return _convert(candidates[-1], value, where)


def _convert_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A list or tuple as a tuple, item by item."""
    if not isinstance(value, list | tuple):
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be a list")
    any_length = len(hints) == 2 and hints[1] is Ellipsis
    if any_length:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        items_text = "1 item" if len(value) == 1 else f"{len(value)} items"
        raise ValueMismatchError(f"{where} has {items_text}; it must have {len(hints)}")
    items = []
    for index, item in enumerate(value):
        converted = _convert(hints[index], item, f"{where}[{index}]")
        items.append(converted)
    return tuple(items)


def _show(value: Any) -> str:
    """A value for an error message, shortened where it is long."""
    text = repr(value)
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[: _LONGEST_SHOWN - 3]}..."
