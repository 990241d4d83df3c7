"""Frozen dataclasses from plain JSON or TOML values, checked against their annotations.

Files come from strangers: every field's type is verified and no field may be invented, so that a spec, a
preprocessing or a recipe read from a file is as well-formed as one written in Python.
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


class ValueMismatchError(SkipwayError):
    """A plain value that does not fit the field it is meant for."""


def floated(value: Any) -> None:
    """Turn whole numbers in a frozen dataclass's float fields into floats, so that it equals its own TOML or JSON."""
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if field.type in ("float", float) and type(found) is int:
            object.__setattr__(value, field.name, float(found))


def refuse_unknown_options(function: str, given: Mapping[str, Any], known: type) -> None:
    """UnknownNameError, with the nearest names, for a keyword that the annotations of `known` do not have."""
    names = sorted(typing.get_type_hints(known))
    for name in given:
        if name not in names:
            raise UnknownNameError(f"option of {function}", name, names)


def from_plain(kind: type[T], plain: Any, where: str) -> T:
    """`plain`, a mapping of field names to plain values, as a dataclass of `kind`.

    Lists become tuples and integers floats where the annotation says so. `where` starts the error messages.
    Raises ValueMismatchError or UnknownNameError.
    """
    if not isinstance(plain, Mapping):
        raise ValueMismatchError(f"{where} is {_show(plain)}; it must be a table of fields")
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in plain:
        if key not in fields:
            raise UnknownNameError(f"key of {where}", str(key), sorted(fields))
    values = {key: _convert(fields[key], value, f"{where}: {key}") for key, value in plain.items()}
    missing = [field.name for field in dataclasses.fields(kind) if _required(field) and field.name not in values]  # type: ignore[arg-type]
    if missing:
        raise ValueMismatchError(f"{where} lacks {', '.join(missing)}; add what is missing")
    return kind(**values)


def verify(value: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass, made of what their annotations name: tuples, not lists; dataclasses, not mappings.

    Raises ValueMismatchError or UnknownNameError for a field, however deep, that is of another type.
    """
    hints, plain = typing.get_type_hints(type(value)), dataclasses.asdict(value)
    return {
        field.name: _convert(hints[field.name], plain[field.name], f"{where}: {field.name}")
        for field in dataclasses.fields(value)
    }


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(one) for one in arguments}:
            return value
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be one of {', '.join(map(str, arguments))}")
    if origin in {typing.Union, types.UnionType}:
        if value is None and type(None) in arguments:
            return None
        return _convert_union([one for one in arguments if one is not type(None)], value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value, where)
    if type(value) is int and abs(value) >= 2**63:
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be a number below 2**63")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is float and not math.isfinite(value):
        raise ValueMismatchError(f"{where} is {value}; it must be a finite number")
    if type(value) is not hint:
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be {_NOUNS.get(hint, str(hint))}")
    return value


def _convert_union(hints: list[Any], value: Any, where: str) -> Any:
    for hint in hints[:-1]:
        try:
            return _convert(hint, value, where)
        except SkipwayError:
            continue
    return _convert(hints[-1], value, where)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueMismatchError(f"{where} is {_show(value)}; it must be a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        items = "1 item" if len(value) == 1 else f"{len(value)} items"
        raise ValueMismatchError(f"{where} has {items}; it must have {len(arguments)}")
    return tuple(
        _convert(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(arguments, value, strict=True))
    )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_NOUNS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
