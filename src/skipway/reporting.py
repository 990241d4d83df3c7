"""Text for people: what strangers wrote must not steer the terminal, nor pretend to be a line of ours; counts and their
nouns agree."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Line and paragraph separators, format characters (the bidirectional controls are among them), controls, halves of
# surrogate pairs, private and unassigned characters.
_UNPRINTABLE = frozenset(("Zl", "Zp", "Cf", "Cc", "Cs", "Co", "Cn"))
# Joiners that emoji and several scripts need. They draw nothing and turn no text around.
_HARMLESS = frozenset("\u200c\u200d")


def escaped(text: str) -> str:
    """A name that a stranger chose (a file, a class, a field of a header), fit for one line: newlines, control
    characters and bidirectional marks are spelt out, as in `cat\\ndog`."""
    return "".join(_spelt(character) for character in text)


def escaped_lines(text: str) -> str:
    """Text of several lines of ours: as `escaped`, but its newlines stay."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def joined_lines(lines: Iterable[str]) -> str:
    """A text of these lines, each as `escaped`: no name in one of them can begin another."""
    return "\n".join(escaped(line) for line in lines)


def counted(number: int, noun: str) -> str:
    """A number and its noun, which is given in the singular: `1 picture`, `1,204 pictures`, `0 classes`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{number:,} {noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}s"


def agreeing(number: int, one: str, several: str) -> str:
    """The form of a verb that goes with a number: `one` with 1, `several` with all others."""
    return one if number == 1 else several


def _spelt(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE or character in _HARMLESS:
        return character
    return ascii(character)[1:-1]
