"""Counts and what is said of them agree."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

import skipway
from skipway.reporting import agreeing, counted

SOURCE = Path(skipway.__file__).parent


@pytest.mark.parametrize(
    ("number", "noun", "told"),
    [
        (1, "picture", "1 picture"),
        (0, "picture", "0 pictures"),
        (1204, "unreadable picture", "1,204 unreadable pictures"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (3, "process", "3 processes"),
        (2, "batch", "2 batches"),
        (10, "epoch", "10 epochs"),
        (2, "entry", "2 entries"),
        (2, "array", "2 arrays"),
    ],
)
def test_a_noun_follows_its_number(number: int, noun: str, told: str) -> None:
    assert counted(number, noun) == told


def test_a_verb_follows_its_number() -> None:
    assert [agreeing(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]


_NOUNS = "pictures|classes|epochs|steps|seeds|runs|arrays|tensors|shards|labels|layers|files|blobs|workers|processes"
_PLURAL = re.compile(rf" (?:(?:unreadable|held-out|worker) )?(?:{_NOUNS})\b")


def bare_plurals(text: str) -> list[str]:
    """Where a length is followed by a noun in the plural, so that 1 would be told as `1 pictures`."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, following in itertools.pairwise(node.values):
            if not isinstance(value, ast.FormattedValue) or not isinstance(following, ast.Constant):
                continue
            what = ast.unparse(value.value)
            if what.startswith("len(") and _PLURAL.match(str(following.value)):
                found.append(f"line {value.lineno}: {what}{following.value}")
    return found


def test_a_bare_plural_is_found() -> None:
    assert bare_plurals('f"{len(bad)} unreadable pictures, {len(x):,} runs"') == [
        "line 1: len(bad) unreadable pictures, ",
        "line 1: len(x) runs",
    ]
    assert bare_plurals('f"{counted(len(x), noun)} of {len(x)} labelled"') == []


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_length_is_followed_by_a_bare_plural(file: Path) -> None:
    assert bare_plurals(file.read_text(encoding="utf-8")) == []
