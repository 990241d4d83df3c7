"""Tables of text: what fits, what goes on below, and what is never divided."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skipway.reporting import table

HEADERS = ("", "unit", "mean", "sd", "95 % interval", "seed 0", "seed 1")
ROWS = (
    ("no LRN: training error", "%", "12.34", "0.45", "11.2 to 13.4", "12.1", "12.6"),
    ("growth of the loss from 10 to 100 layers", "decades", "-", "-", "-", "none", "1.00"),
    ("pictures a second", "pictures/s", "1,234.5", "8.1", "-12.0 to 1,240.1", "1,230.0", "-4"),
)
WORDS = {word for row in (HEADERS, *ROWS) for cell in row for word in cell.split()}
WIDE = """\
                                          unit           mean    sd     95 % interval   seed 0  seed 1
no LRN: training error                    %             12.34  0.45      11.2 to 13.4     12.1    12.6
growth of the loss from 10 to 100 layers  decades           -     -                 -     none    1.00
pictures a second                         pictures/s  1,234.5   8.1  -12.0 to 1,240.1  1,230.0      -4"""
NARROW = """\
                         95 %
           mean      interval
training  12.34  11.2 to 13.4
error of
no LRN
growth        -             -"""


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("indent", [0, 3])
def test_no_line_is_too_long_and_no_word_is_divided(width: int, indent: int) -> None:
    text = table(HEADERS, ROWS, width=width, indent=indent)
    lines = text.split("\n")
    assert max(len(line) for line in lines) <= width
    assert all(line.startswith(" " * indent) for line in lines if line)
    assert {word.removesuffix(":") for word in text.split()} == {word.removesuffix(":") for word in WORDS}


def test_what_fits_has_a_line_a_row() -> None:
    assert table(HEADERS, ROWS, width=120) == WIDE
    assert table(HEADERS, ROWS, width=0) == WIDE


def test_texts_give_up_their_places_before_numbers_do() -> None:
    lines = table(HEADERS, ROWS, width=80).split("\n")
    assert "-12.0 to 1,240.1" in lines[-1] or "-12.0 to 1,240.1" in lines[-2]
    assert len(lines) > 4


def test_a_narrow_table() -> None:
    rows = [("training error of no LRN", "12.34", "11.2 to 13.4"), ("growth", "-", "-")]
    assert table(("", "mean", "95 % interval"), rows, width=29) == NARROW


def test_what_cannot_stand_side_by_side_is_a_list() -> None:
    lines = table(HEADERS, ROWS, width=30).split("\n")
    assert lines[:3] == ["no LRN: training error", "  unit: %", "  mean: 12.34"]
    assert "growth of the loss from 10 to" in lines
    assert max(len(line) for line in lines) <= 30
    assert table((), [("a" * 20, "b" * 20)], width=30) == "a" * 20 + "\n  " + "b" * 20


def test_a_word_longer_than_the_terminal_stays_whole() -> None:
    assert table((), [("x" * 30, "two words")], width=20).split("\n") == ["x" * 30, "  two words"]


def test_numbers_stand_to_the_right_and_other_texts_to_the_left() -> None:
    lines = table(("layer", "time", "share"), [("3", "1.5 ms", "1.0%"), ("conv", "100.25 ms", "12.5%")]).split("\n")
    assert lines == ["layer       time  share", "3         1.5 ms   1.0%", "conv   100.25 ms  12.5%"]


def test_the_width_is_the_terminal_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (60, 80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert table(HEADERS, ROWS) == table(HEADERS, ROWS, width=columns)


def test_wide_characters_take_two_places() -> None:
    lines = table(("", "n"), [("日本語 日本語 日本語", "1")], width=16).split("\n")
    assert lines == ["               n", "日本語 日本語  1", "日本語"]


def test_what_strangers_wrote_makes_no_line_of_its_own() -> None:
    assert table((), [("cat\nheld", "[bold]\x1b[31m")], width=80) == r"cat\nheld  [bold]\x1b[31m"


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="as many texts"):
        table(("a", "b"), [("1",)])


def test_a_table_of_nothing() -> None:
    assert table((), []) == ""
    assert table(("a", "b"), []) == "a  b"
    assert table((), [("a", ""), ("b", "")]) == "a\nb"


def test_rich_is_loaded_for_the_first_table_only() -> None:
    code = """
import sys
from skipway.reporting import table
print("rich" in sys.modules)
table((), [("a",)])
print("rich" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
