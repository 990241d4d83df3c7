"""A race: contestants that stay alive in processes of their own and take turns on the machine.

Each contestant sets up once (builds, compiles, warms up). Then come the rounds: in each, every contestant measures some
batches, alone, while the others wait for a line on stdin. The order turns around from round to round, so that a clock
that drifts or a neighbour that wakes up favours nobody.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

PEERS = Path(__file__).resolve().parent / "peers"
MAKE = "`make peers` builds the environments of the peers"
_SETTLE_SECONDS = 0.25  # OpenMP's threads may spin 0.2 s after a run before they sleep
_MOST_BATCHES = 500
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Peers work with what is here, and report to nobody.
_SILENT = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
_CLEARED = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "PYTHONPATH", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")


class BenchmarkError(Exception):
    """Something on this machine that keeps the comparison from running; the message is one line and names the fix."""


@dataclass(frozen=True)
class Contestant:
    """Who takes part: the row's name, a script of peers/, its interpreter, and the settings that the script gets.

    `amount` is what a batch counts, in pictures where `unit` says nothing else.
    """

    name: str
    script: str
    python: Path
    settings: dict[str, Any] = field(default_factory=dict)
    amount: float = 1.0
    unit: str = "pictures/s"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Entered:
    """A contestant's process. `seconds` holds a list of batch times for each round."""

    contestant: Contestant
    process: subprocess.Popen[str]
    log: IO[str]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[list[float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.contestant.name

    @property
    def speeds(self) -> list[float]:
        """Amount a second, for each round."""
        return [self.contestant.amount * len(one) / sum(one) for one in self.seconds]


class Race:
    """Contestants with `threads` threads each; all processes end with the `with` block."""

    def __init__(self, *, threads: int, turn_seconds: float, tell: Callable[[str], None] | None = None) -> None:
        self.threads, self.turn_seconds = threads, turn_seconds
        self.entered: dict[str, Entered] = {}
        self.restless: dict[str, float] = {}  # the largest share of a core that each took while it should sleep
        self._tell = tell or _on_stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.entered.values():
            _end(one)

    def enter(self, contestant: Contestant) -> Entered:
        """Start a contestant and wait until it is set up. Raises BenchmarkError."""
        self._tell(f"setting up {contestant.name}")
        settings = {"threads": self.threads} | contestant.settings
        command = [contestant.python, PEERS / contestant.script, json.dumps(settings)]
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (as long as its process)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(self.threads) | dict(contestant.environment),
                start_new_session=True,  # a Ctrl-C is the race's to handle, and ends what the contestant has started
            )
        except OSError:
            log.close()
            raise BenchmarkError(f"{contestant.name}: {contestant.python} does not run; {MAKE}") from None
        one = Entered(contestant, process, log)
        self.entered[contestant.name] = one
        one.facts = _answer(one)["facts"]
        way = f" ({one.facts['way']})" if "way" in one.facts else ""
        self._tell(f"    {contestant.amount / one.facts['warm_seconds']:.1f} {contestant.unit}{way}")
        return one

    def run(self, rounds: int) -> None:
        """All rounds. Raises BenchmarkError when a contestant dies."""
        order = list(self.entered.values())
        for number in range(rounds):
            self._tell(f"round {number + 1} of {rounds}")
            for one in order if number % 2 == 0 else reversed(order):
                self._turn(one)

    def _turn(self, one: Entered) -> None:
        batches = self.turn_seconds / max(one.facts["warm_seconds"], 1e-6)
        count = min(max(round(batches), 1), _MOST_BATCHES)
        time.sleep(_SETTLE_SECONDS)
        others = [other for other in self.entered.values() if other is not one]
        before, begun = [_cpu_seconds(other) for other in others], time.perf_counter()
        assert one.process.stdin is not None
        with suppress(BrokenPipeError):  # then it has died, which its answer, or its end, tells
            one.process.stdin.write(f"run {count}\n")
            one.process.stdin.flush()
        one.seconds.append(_answer(one)["seconds"])
        elapsed = time.perf_counter() - begun
        for other, then in zip(others, before, strict=True):
            share = (_cpu_seconds(other) - then) / elapsed
            self.restless[other.name] = max(self.restless.get(other.name, 0.0), share)


def _answer(one: Entered) -> dict[str, Any]:
    """The next JSON line of a contestant. Raises BenchmarkError with its own words when there is none."""
    assert one.process.stdout is not None
    line = one.process.stdout.readline()
    if not line:
        code = one.process.wait()
        raise BenchmarkError(f"{one.name} ended with {code}: {_last_words(one)}")
    row: dict[str, Any] = json.loads(line)
    if "lacks" in row:
        raise BenchmarkError(f"{one.name}: {row['error']}; {MAKE}")
    if "error" in row:
        raise BenchmarkError(f"{one.name}: {row['error']}")
    return row


def _last_words(one: Entered) -> str:
    one.log.seek(0)
    lines = [line.strip() for line in one.log if line.strip()]
    return lines[-1][:300] if lines else "it said nothing; was there enough memory?"


def _end(one: Entered) -> None:
    with suppress(ProcessLookupError):
        os.killpg(one.process.pid, signal.SIGKILL)
    one.process.wait()
    for stream in (one.process.stdin, one.process.stdout, one.log):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


def _cpu_seconds(one: Entered) -> float:
    """Seconds that a process's threads have run, 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{one.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(threads: int) -> dict[str, str]:
    """Variables for a contestant: this many threads, whatever this shell has set."""
    kept = {name: value for name, value in os.environ.items() if name not in _CLEARED}
    told = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    return kept | dict.fromkeys(_THREADS, str(threads)) | told | _SILENT


def require_same(entered: Sequence[Entered], fact: str) -> None:
    """BenchmarkError unless all that tell this fact tell the same."""
    known = [one for one in entered if fact in one.facts]
    for one in known[1:]:
        if one.facts[fact] != known[0].facts[fact]:
            raise BenchmarkError(
                f"{known[0].name} and {one.name} differ in {fact}: {known[0].facts[fact]} and {one.facts[fact]}; "
                "compare the same work"
            )


def largest_difference(entered: Sequence[Entered]) -> tuple[float, str]:
    """Of all answers from those of the first who tells any, as a share of their largest, and whose it is.

    Infinite where a number is none, or there are more of them.
    """
    told = {one.name: [n for row in one.facts["answers"] for n in row] for one in entered if "answers" in one.facts}
    first = next(iter(told.values()), [])
    largest = max(map(abs, first), default=1.0) or 1.0
    found = [(0.0, "")]
    for name, other in told.items():
        comparable = len(other) == len(first) and all(map(math.isfinite, (*first, *other)))
        pairs = zip(first, other, strict=False)
        found.append((max(abs(a - b) for a, b in pairs) / largest if comparable else math.inf, name))
    return max(found)


def _on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
