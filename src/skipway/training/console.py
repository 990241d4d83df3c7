"""What a person sees while a run goes on: a live line on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from skipway.reporting import escaped


class Reporter(Protocol):
    """Receives what a run has to tell."""

    def say(self, text: str) -> None:
        """One line of plain text; names in it may hold anything."""
        ...

    def counting(self, what: str, done: int, total: int) -> None:
        """Progress of preparation."""
        ...

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
        """`done` of `total` steps of the run; `figures` holds loss, learning_rate and images_per_second."""
        ...

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        """A finished epoch."""
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None: ...

    def counting(self, what: str, done: int, total: int) -> None: ...

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None: ...

    def epoch(self, row: dict[str, float], epochs: int) -> None: ...


class Console:
    """Prints on stderr, so that stdout is free for answers. A context manager: leaving it ends the live line."""

    def __init__(self) -> None:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.terminal = Terminal(file=sys.stderr, highlight=False, soft_wrap=True)
        self.live = self.terminal.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.terminal,
            transient=True,
        )
        self._tasks: dict[str, int] = {}
        self._last = 0.0

    def __enter__(self) -> Self:
        if self.live:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.progress.stop()

    def say(self, text: str) -> None:
        self.terminal.print(escaped(text), markup=False)

    def counting(self, what: str, done: int, total: int) -> None:
        self._show(what, done, total, "", force=done == total)
        if self.live and done == total and what in self._tasks:
            self.progress.remove_task(self._tasks.pop(what))  # type: ignore[arg-type]

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
        text = (
            f"epoch {epoch}  loss {figures['loss']:.3f}  rate {figures['learning_rate']:.2e}  "
            f"{figures['images_per_second']:,.0f} pictures/s"
        )
        self._show("training", done, total, text, force=False)

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        judged = f"val loss {row['val_loss']:.4f}  val top-1 {row['val_top1']:.2%}  " if "val_top1" in row else ""
        self.say(
            f"epoch {row['epoch']:.0f}/{epochs}  loss {row['train_loss']:.4f}  top-1 {row['train_top1']:.2%}  "
            f"{judged}rate {row['learning_rate']:.2e}  {row['images_per_second']:,.0f} pictures/s  "
            f"{row['seconds']:.0f} s"
        )

    def _show(self, what: str, done: int, total: int, figures: str, *, force: bool) -> None:
        now = time.monotonic()
        if not self.live or (now - self._last < 0.1 and not force):
            return
        self._last = now
        if what not in self._tasks:
            self._tasks[what] = self.progress.add_task(what, total=total, figures=figures)
        self.progress.update(self._tasks[what], completed=done, figures=figures)  # type: ignore[arg-type]
