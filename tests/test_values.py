"""Frozen values from what a JSON or TOML file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from skipway.errors import SkipwayError, UnknownNameError
from skipway.values import ValueMismatchError, from_plain


@dataclass(frozen=True)
class Inner:
    size: int
    weight: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    count: int = 0
    share: float = 0.0
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    level: Literal[1, 2] = 1
    maybe: int | None = None
    mixed: int | str = 0
    pair: tuple[float, float] = (0.0, 0.0)
    many: tuple[int, ...] = ()
    words: tuple[Literal["x", "y"], ...] = ()
    inner: Inner = Inner(1)
    inners: tuple[Inner, ...] = ()
    choice: Inner | None = None


@dataclass(frozen=True, kw_only=True)
class Strict:
    first: int
    second: str
    third: list[int] = field(default_factory=list)


def outer(**plain: Any) -> Outer:
    return from_plain(Outer, plain, "the table")


def test_nothing_gives_the_defaults() -> None:
    assert outer() == Outer()


@pytest.mark.parametrize(
    ("plain", "wanted"),
    [
        ({"name": "", "count": -3, "share": 0.5, "flag": True}, Outer("", -3, 0.5, True)),
        ({"share": 2}, Outer(share=2.0)),
        ({"kind": "b", "level": 2}, Outer(kind="b", level=2)),
        ({"maybe": None}, Outer()),
        ({"maybe": 7}, Outer(maybe=7)),
        ({"mixed": 7}, Outer(mixed=7)),
        ({"mixed": "seven"}, Outer(mixed="seven")),
        ({"pair": [1, 2.5]}, Outer(pair=(1.0, 2.5))),
        ({"many": []}, Outer()),
        ({"many": [1, 2, 3]}, Outer(many=(1, 2, 3))),
        ({"many": (1, 2, 3)}, Outer(many=(1, 2, 3))),
        ({"words": ["x", "y", "x"]}, Outer(words=("x", "y", "x"))),
        ({"inner": {"size": 4, "weight": 3}}, Outer(inner=Inner(4, 3.0))),
        ({"inners": [{"size": 4}, {"size": 5}]}, Outer(inners=(Inner(4), Inner(5)))),
        ({"choice": {"size": 4}}, Outer(choice=Inner(4))),
        ({"count": 2**63 - 1}, Outer(count=2**63 - 1)),
    ],
)
def test_plain_values_that_fit(plain: dict[str, Any], wanted: Outer) -> None:
    found = outer(**plain)
    assert found == wanted
    assert type(found.share) is float
    assert all(type(one) is float for one in found.pair)


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({"name": 3}, "name is 3; it must be a text in quotes"),
        ({"name": None}, "name is None; it must be a text"),
        ({"count": "3"}, "count is '3'; it must be a whole number"),
        ({"count": 3.0}, "count is 3.0; it must be a whole number"),
        ({"count": True}, "count is True; it must be a whole number"),
        ({"count": 2**63}, "must be a number below 2"),
        ({"share": True}, "share is True; it must be a number"),
        ({"share": "0.5"}, "share is '0.5'; it must be a number"),
        ({"share": float("nan")}, "share is nan; it must be a finite number"),
        ({"share": float("-inf")}, "share is -inf; it must be a finite number"),
        ({"share": 10**400}, "must be a number below 2"),
        ({"flag": 1}, "flag is 1; it must be true or false"),
        ({"flag": "yes"}, "flag is 'yes'; it must be true or false"),
        ({"kind": "c"}, "kind is 'c'; it must be one of a, b"),
        ({"kind": ["a"]}, "kind is .*; it must be one of a, b"),
        ({"level": True}, "level is True; it must be one of 1, 2"),
        ({"level": 1.0}, "level is 1.0; it must be one of 1, 2"),
        ({"maybe": "7"}, "maybe is '7'; it must be a whole number"),
        ({"mixed": 1.5}, "mixed is 1.5; it must be a text"),
        ({"pair": [1.0]}, "pair has 1 item; it must have 2"),
        ({"pair": [1.0, "2"]}, r"pair\[1\] is '2'; it must be a number"),
        ({"pair": 1.0}, "pair is 1.0; it must be a list"),
        ({"many": "123"}, "many is '123'; it must be a list"),
        ({"many": [1, 2.0]}, r"many\[1\] is 2.0; it must be a whole number"),
        ({"many": {"0": 1}}, "many is .*; it must be a list"),
        ({"words": ["x", "z"]}, r"words\[1\] is 'z'; it must be one of x, y"),
        ({"inner": 4}, "inner is 4; it must be a table of fields"),
        ({"inner": {}}, "inner lacks size; add"),
        ({"inner": {"size": "4"}}, "the table: inner: size is '4'"),
        ({"inners": [{"size": 4}, {}]}, r"inners\[1\] lacks size; add"),
        ({"choice": []}, r"choice is \[\]; it must be a table of fields"),
    ],
)
def test_plain_values_that_do_not_fit_are_named_with_their_place(plain: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueMismatchError, match=told) as caught:
        outer(**plain)
    assert str(caught.value).startswith("the table")


@pytest.mark.parametrize("plain", [None, 3, "text", [], [("count", 3)]])
def test_only_a_table_is_a_table(plain: Any) -> None:
    with pytest.raises(ValueMismatchError, match="it must be a table of fields"):
        from_plain(Outer, plain, "the table")


def test_no_key_may_be_invented() -> None:
    with pytest.raises(UnknownNameError, match="unknown key of the table 'cuont'; the nearest: count"):
        outer(cuont=3)
    with pytest.raises(UnknownNameError, match="unknown key of the table: inner 'colour'"):
        outer(inner={"size": 3, "colour": "red"})
    with pytest.raises(UnknownNameError):
        from_plain(Outer, {3: 3}, "the table")


def test_fields_without_a_default_are_required() -> None:
    assert from_plain(Strict, {"first": 1, "second": "b"}, "it") == Strict(first=1, second="b")
    with pytest.raises(ValueMismatchError, match="it lacks first, second; add what is missing"):
        from_plain(Strict, {}, "it")
    with pytest.raises(ValueMismatchError, match="it lacks second; add"):
        from_plain(Strict, {"first": 1}, "it")


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(ValueMismatchError) as caught:
        outer(count="x" * 10_000)
    assert len(str(caught.value)) < 150


def test_errors_are_skipways() -> None:
    assert issubclass(ValueMismatchError, SkipwayError)
