"""Text for people: names that strangers chose must not control the terminal, nor look like a line of skipway's own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Line and paragraph separators, format characters (the bidirectional controls are among them), controls, halves of
# surrogate pairs, private and unassigned characters.
_UNPRINTABLE = frozenset(("Zl", "Zp", "Cf", "Cc", "Cs", "Co", "Cn"))
# Joiners that emoji and several scripts need. They draw nothing and do not change the direction of text.
_HARMLESS = frozenset("\u200c\u200d")


def escaped(text: str) -> str:
    """A name that a stranger chose (of a file, a class or a field of a header), safe to print on one line.

    Newlines, control characters and bidirectional marks are written as escapes, as in `cat\\ndog`.
    """
    characters = []
    for character in text:
        is_odd = unicodedata.category(character) in _UNPRINTABLE
        if is_odd and character not in _HARMLESS:
            quoted = ascii(character)
            characters.append(quoted[1:-1])
        else:
            characters.append(character)
    return "".join(characters)


def escaped_lines(text: str) -> str:
    """A text of several lines that skipway wrote: as `escaped`, but its newlines stay."""
    lines = text.split("\n")
    return joined_lines(lines)


def joined_lines(lines: Iterable[str]) -> str:
    """A text of these lines, each as `escaped`: a name in one line cannot start another line."""
    safe_lines = [escaped(line) for line in lines]
    return "\n".join(safe_lines)


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
    if number == 1:
        return one
    return several
