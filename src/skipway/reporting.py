"""Text for people: names that strangers chose must not control the terminal, nor look like a line of skipway's own;
counts and their nouns agree.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence

# Line and paragraph separators, format characters (the bidirectional controls are among them), controls, halves of
# surrogate pairs, private and unassigned characters.
_UNPRINTABLE = frozenset(("Zl", "Zp", "Cf", "Cc", "Cs", "Co", "Cn"))
# Joiners that emoji and several scripts need. They draw nothing and do not change the direction of text.
_HARMLESS = frozenset("\u200c\u200d")

_GAP = 2  # blanks between two columns
_MISSING = frozenset(("", "-", "none", "nan"))
_FIGURE = r"[<>]?\s?[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?"
# A number, a number with a unit behind it, or a range: `1,234.5`, `12.3%`, `0.5 ms`, `-0.1 to 2.3`.
_NUMBER = re.compile(rf"{_FIGURE}( to {_FIGURE})?\s?(%|[A-Za-z/]+)?")


def escaped(text: str) -> str:
    r"""A name that a stranger chose (of a file, a class or a field of a header), safe to print on one line.

    Newlines, control characters and bidirectional marks are written as escapes, as in `cat\ndog`.
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
    if noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("epoch"):
        return f"{number:,} {noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}s"


def agreeing(number: int, one: str, several: str) -> str:
    """The form of a verb that goes with a number: `one` with 1, `several` with all others."""
    return one if number == 1 else several


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None, indent: int = 0) -> str:
    """Rows of texts as columns of plain text.

    Each row has one text for each column. `headers` are the titles of the columns, empty for a table without titles.
    Columns of numbers stand to the right, the others to the left. `indent` is the number of blanks before each line.

    No line is longer than `width` characters: None is the width of the terminal, 0 is no limit. A text that is too
    long for its column goes on below, from the next word; words are never divided. Where even the longest words do not
    fit side by side, each row is written as a list, one text below the other. Each text is as `escaped`.

    Raises ValueError where two rows differ in their number of texts.
    """
    titles = [escaped(title) for title in headers]
    cells = [[escaped(text) for text in row] for row in rows]
    every = [titles, *cells] if titles else cells
    if not every:
        return ""
    if len({len(line) for line in every}) > 1:
        raise ValueError("every row of a table has as many texts as it has columns")
    if width is None:
        width = shutil.get_terminal_size().columns
    room = max(width - indent, 1) if width else 0
    numeric = [_is_number_column(column) for column in zip(*cells, strict=True)] or [False] * len(titles)
    widths = _column_widths(list(zip(*every, strict=True)), numeric, room)
    if widths is None:
        lines = _lists(titles, cells, room)
    else:
        lines = _columns(titles, cells, widths, numeric)
    return "\n".join((" " * indent + line).rstrip() for line in lines)


def _is_number_column(column: Sequence[str]) -> bool:
    """Whether a column, without its title, holds numbers and nothing else, apart from values that are missing."""
    known = [text for text in column if text not in _MISSING]
    if not known:
        return False
    return all(_NUMBER.fullmatch(text) for text in known)


def _column_widths(columns: Sequence[Sequence[str]], numeric: Sequence[bool], room: int) -> list[int] | None:
    """The characters that each column gets: as many as it needs, or fewer where all together need more than `room`.

    `room` 0 is no limit. None where the longest words do not fit side by side.
    """
    from rich.cells import cell_len

    widths = []
    least = []
    for column in columns:
        lengths = [cell_len(text) for text in column]
        words = " ".join(column).split()
        word_lengths = [cell_len(word) for word in words]
        widths.append(max(1, *lengths))
        least.append(max(word_lengths, default=0))
    if not room:
        return widths
    room -= _GAP * (len(columns) - 1)
    if sum(least) > room:
        return None
    # Texts are easier to read on two lines than numbers are: they give up their places first.
    places = range(len(columns))
    texts = [place for place in places if not numeric[place]]
    for candidates in (texts, places):
        while sum(widths) > room:
            wide = [place for place in candidates if widths[place] > least[place]]
            if not wide:
                break
            widest = max(wide, key=widths.__getitem__)
            widths[widest] -= 1
    return widths


def _columns(
    titles: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool]
) -> list[str]:
    """The lines of a table whose columns stand side by side."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(text: str, width: int) -> Text:
        # Divided here: rich counts characters, not the places that they take, and cuts wide ones off.
        lines = _wrapped(text, width)
        return Text("\n".join(lines), no_wrap=True)

    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=bool(titles))
    for place, width in enumerate(widths):
        title = cell(titles[place], width) if titles else ""
        grid.add_column(title, width=width, justify="right" if numeric[place] else "left")
    for row in rows:
        cells = [cell(text, width) for text, width in zip(row, widths, strict=True)]
        grid.add_row(*cells)
    total = sum(widths) + _GAP * len(widths)
    console = Console(width=total, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(grid)
    return capture.get().splitlines()


def _lists(titles: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[str]:
    """The lines of a table without columns: each row's first text, and below it the others, with their titles."""
    lines = []
    for row in rows:
        lines += _wrapped(row[0], room)
        for place in range(1, len(row)):
            entry = row[place]
            if titles:
                entry = f"{titles[place]}: {entry}"
            for line in _wrapped(entry, room - _GAP):
                lines.append(" " * _GAP + line)
    return lines


def _wrapped(text: str, room: int) -> list[str]:
    """A text in lines of at most `room` characters; a longer word has a line of its own."""
    from rich.cells import cell_len

    if cell_len(text) <= room:
        return [text]  # with all its blanks: it may be a path
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".lstrip()
        if line and cell_len(longer) > room:
            lines.append(line)
            line = word
        else:
            line = longer
    lines.append(line)
    return lines
