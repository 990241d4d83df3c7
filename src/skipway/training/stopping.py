"""How a signal ends a run, and the command that continues it."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SAME_SIGNAL_SECONDS = 3.0


class StoppedError(KeyboardInterrupt):
    """Training that a signal ended, after it saved what a resume needs."""


class StopRequest:
    """Notes Ctrl-C (SIGINT) and SIGTERM, so that the run can end after the step under way. `asked` says that one came.

    A second Ctrl-C ends the run at once, with KeyboardInterrupt.
    """

    def __init__(self, folder: Path, processes: int) -> None:
        self.asked = False
        self._asked_at = 0.0
        self._folder = folder
        self._processes = processes

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals until the end of the block."""
        try:
            before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # outside the main thread Python lets nobody handle signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signature is Python's)
        now = time.monotonic()
        if not self.asked:
            self.asked = True
            self._asked_at = now
            return
        # The terminal sends Ctrl-C to every process, and torchrun sends the same one again a moment later.
        is_same_signal = self._processes > 1 and now - self._asked_at <= _SAME_SIGNAL_SECONDS
        if not is_same_signal:
            command = resume_command(self._folder, self._processes)
            raise KeyboardInterrupt(f"stopped at once; {command} continues from the last checkpoint")


def resume_command(folder: Path, processes: int) -> str:
    """The command that continues a run of so many processes, between backquotes."""
    command = f"skipway resume {shlex.quote(str(folder))}"
    if processes > 1:
        command = f"torchrun --nproc-per-node {processes} -m {command}"
    return f"`{command}`"
