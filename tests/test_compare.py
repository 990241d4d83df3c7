"""The frame of the comparisons, with contestants that only pretend."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package

# ruff: noqa: E402
import interleaved
from interleaved import BenchmarkError, Contestant, Entered, Race, largest_difference, require_same
from materials import Line, compare, options, require
from standing import Ratio, standing, table

# Appends its name to a common file at every turn, so that the order can be read there.
PRETENDER = """
from pathlib import Path
import sys
sys.path.insert(0, {peers!r})
from worker import LeaveError, Ready, fastest, serve, timed

def set_up(settings):
    kind = settings.get("kind")
    if kind == "leaves":
        raise LeaveError("no such engine here")
    if kind == "lacks":
        import a_package_that_is_not_there
    if kind == "breaks":
        return {{}}["nothing"]
    print("a library talks")

    def run(count):
        if kind == "dies" and count < 9:
            sys.exit("killed by its own hand")
        if count < 9:  # not the warm-up
            with Path(settings["trace"]).open("a") as trace:
                trace.write(settings["name"] + "\\n")
        return [settings["seconds"]] * count

    return Ready(run, settings.get("facts", {{}}))

serve(set_up)
"""


@pytest.fixture
def pretender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes contestants whose batches take the seconds that they are told."""
    monkeypatch.setattr(interleaved, "_SETTLE_SECONDS", 0.0)
    script = tmp_path / "pretender.py"
    script.write_text(PRETENDER.format(peers=str(interleaved.PEERS)))

    def make(name: str, seconds: float = 0.5, **settings: Any) -> Contestant:
        told = {"name": name, "seconds": seconds, "trace": str(tmp_path / "trace"), "warmup": 9} | settings
        return Contestant(name, str(script), Path(sys.executable), told, amount=4)

    return make


def quiet(text: str) -> None:
    pass


def race() -> Race:
    return Race(threads=1, turn_seconds=1.0, tell=quiet)


def test_contestants_take_turns_and_the_order_turns_around(pretender: Any, tmp_path: Path) -> None:
    with race() as running:
        for name in ("a", "b", "c"):
            running.enter(pretender(name))
        running.run(3)
        assert {name: [len(one) for one in found.seconds] for name, found in running.entered.items()} == {
            "a": [2, 2, 2],  # a turn of a second holds two batches of half a second
            "b": [2, 2, 2],
            "c": [2, 2, 2],
        }
    assert (tmp_path / "trace").read_text().split() == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]
    assert all(one.process.poll() is not None for one in running.entered.values())


def test_a_batch_longer_than_a_turn_is_measured_once(pretender: Any) -> None:
    with race() as running:
        slow = running.enter(pretender("slow", 30.0))
        running.run(2)
    assert slow.seconds == [[30.0], [30.0]]
    assert slow.speeds == pytest.approx([4 / 30, 4 / 30])


def entered(name: str, *seconds: float, **facts: Any) -> Entered:
    process: Any = None
    contestant = Contestant(name, "", Path(), amount=10)
    return Entered(contestant, process, process, facts, [[one] for one in seconds])


def test_ratios_are_taken_round_by_round() -> None:
    found = {
        "ours": entered("ours", 1.0, 2.0, 4.0),
        "slow": entered("slow", 3.0, 3.0, 3.0),
        "fast": entered("fast", 0.5, 2.0, 8.0),
    }
    ratios = (
        Ratio("ours", ("slow",)),
        Ratio("ours", ("slow", "fast")),  # the better median is fast's
        Ratio("ours", ("absent",)),
        Ratio("ours", ("slow",), factor=2.0),
    )
    result = standing("title", found, ratios, {"slow": 0.5, "fast": 0.001})
    first, better, scaled = result["ratios"]
    assert first["rounds"] == pytest.approx([3.0, 1.5, 0.75])
    assert (first["median"], first["min"], first["max"], first["n"]) == pytest.approx((1.5, 0.75, 3.0, 3))
    assert better["peer"] == "fast"
    assert better["rounds"] == pytest.approx([0.5, 1.0, 2.0])
    assert scaled["median"] == pytest.approx(3.0)
    assert result["rows"][0]["median"] == pytest.approx(5.0)
    text = table(result)
    assert "ours / better of slow, fast" in text
    assert "slow took up to 0.50 of a core while it should have slept" in text
    assert "fast took" not in text


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("leaves", "no such engine here"),
        ("lacks", "lacks a_package_that_is_not_there; `make peers` builds"),
        ("breaks", "KeyError: 'nothing'"),
    ],
)
def test_a_contestant_that_cannot_be_set_up_says_why_in_one_line(pretender: Any, kind: str, told: str) -> None:
    with race() as running, pytest.raises(BenchmarkError) as caught:
        running.enter(pretender("it", kind=kind))
    assert told in str(caught.value)
    assert str(caught.value).startswith("it: ")
    assert "\n" not in str(caught.value)


def test_a_contestant_that_dies_in_a_round_is_named_with_its_last_words(pretender: Any) -> None:
    with race() as running:
        running.enter(pretender("it", kind="dies"))
        with pytest.raises(BenchmarkError, match="it ended with 1: killed by its own hand"):
            running.run(1)


def test_an_interpreter_that_is_absent_or_incomplete_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"absent or does not run; `make peers`"):
        require(tmp_path / "python", ("json",))
    with pytest.raises(BenchmarkError, match=r"lacks not_there; `make peers`"):
        require(Path(sys.executable), ("json", "not_there"))
    with race() as running, pytest.raises(BenchmarkError, match=r"does not run; `make peers`"):
        running.enter(Contestant("it", "none.py", tmp_path / "python"))


def test_unlike_work_is_refused() -> None:
    alike = [entered("a", 1.0, parameters=7), entered("b", 1.0), entered("c", 1.0, parameters=7)]
    require_same(alike, "parameters")
    with pytest.raises(BenchmarkError, match="a and d differ in parameters: 7 and 8"):
        require_same([*alike, entered("d", 1.0, parameters=8)], "parameters")
    answers = [entered("a", 1.0, answers=[[1.0, -4.0]]), entered("b", 1.0), entered("c", 1.0, answers=[[1.0, -3.0]])]
    difference, whose = largest_difference(answers)
    assert (difference, whose) == (pytest.approx(0.25), "c")
    for wrong in ([[float("nan"), -4.0]], [[1.0]]):
        assert largest_difference([answers[0], entered("wrong", 1.0, answers=wrong)]) == (float("inf"), "wrong")
    assert largest_difference(answers[:2]) == (0.0, "a")


def test_a_comparison_prints_its_table_or_one_line(pretender: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def lines(chosen: argparse.Namespace) -> Iterator[Line]:
        def enter(running: Race, folder: Path) -> None:
            assert folder.is_dir()
            facts = {"parameters": 3, "answers": [[1.0, 2.0]]}
            running.enter(pretender("ours", 0.25, facts=facts))
            running.enter(pretender("theirs", 0.5, facts=facts | {"parameters": parameters}))

        everyone = ("ours", "theirs")
        ratios = (Ratio("ours", ("theirs",)),)
        yield Line("one", "a title", (), enter, ratios, same=everyone, compared=everyone)

    parameters = 3
    chosen = options("a test").parse_args(["--rounds", "1", "--turn-seconds", "1"])
    assert compare(chosen, lines) == 0
    printed = capsys.readouterr().out
    assert "ours / theirs 2.000 2.000 2.000 1" in " ".join(printed.split())
    assert "largest difference of their answers, as a share of the largest: 0.0e+00" in printed
    chosen.json = True
    assert compare(chosen, lines) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["lines"][0]["ratios"][0]["rounds"] == pytest.approx([2.0])
    assert answer["machine"]["cores"] >= 1
    parameters = 4
    assert compare(chosen, lines) == 2
    assert "error: ours and theirs differ in parameters: 3 and 4; compare the same work" in capsys.readouterr().err
    chosen.only = "two"
    assert compare(chosen, lines) == 2
    assert "error: no line two; there are one" in capsys.readouterr().err


def test_the_fastest_way_is_taken_and_a_failing_one_left_out() -> None:
    sys.path.insert(0, str(interleaved.PEERS))
    from worker import LeaveError, fastest

    def broken() -> Any:
        raise RuntimeError("no compiler")

    ways = {"slow": lambda: lambda n: [2.0] * n, "broken": broken, "fast": lambda: lambda n: [1.0] * n}
    name, run = fastest(ways)
    assert (name, run(2)) == ("fast", [1.0, 1.0])
    with pytest.raises(LeaveError, match="broken: RuntimeError: no compiler"):
        fastest({"broken": broken})
