"""What a person sees during a run: a live line on a terminal, one line for each epoch elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from skipway.reporting import escaped

if TYPE_CHECKING:
    from rich.progress import TaskID


class Reporter(Protocol):
    """Receives what a run reports."""

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

    def say(self, text: str) -> None:
        """Drop a line."""

    def counting(self, what: str, done: int, total: int) -> None:
        """Drop a count."""

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
        """Drop a step."""

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        """Drop an epoch."""


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
        self._tasks: dict[str, TaskID] = {}
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
        """Print a line."""
        self.terminal.print(escaped(text), markup=False)

    def counting(self, what: str, done: int, total: int) -> None:
        """Show how far something is; at its end the live line goes."""
        complete = done == total
        self._show(what, done, total, "", force=complete)
        if not complete:
            return
        task = self._tasks.pop(what, None)
        if task is not None:
            self.progress.remove_task(task)

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:
        """Show how far the training is, with the figures of the last step."""
        loss = figures["loss"]
        rate = figures["learning_rate"]
        speed = figures["images_per_second"]
        text = f"epoch {epoch}  loss {loss:.3f}  rate {rate:.2e}  {speed:,.0f} pictures/s"
        self._show("training", done, total, text, force=False)

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        """Print the figures of a finished epoch."""
        parts = [f"epoch {row['epoch']:.0f}/{epochs}"]
        parts.append(f"loss {row['train_loss']:.4f}")
        parts.append(f"top-1 {row['train_top1']:.2%}")
        if "val_top1" in row:
            parts.append(f"val loss {row['val_loss']:.4f}")
            parts.append(f"val top-1 {row['val_top1']:.2%}")
        parts.append(f"rate {row['learning_rate']:.2e}")
        parts.append(f"{row['images_per_second']:,.0f} pictures/s")
        parts.append(f"{row['seconds']:.0f} s")
        self.say("  ".join(parts))

    def _show(self, what: str, done: int, total: int, figures: str, *, force: bool) -> None:
        """Draw the live line, at most ten times a second unless `force` is set."""
        if not self.live:
            return
        now = time.monotonic()
        too_soon = now - self._last < 0.1
        if too_soon and not force:
            return
        self._last = now
        task = self._tasks.get(what)
        if task is None:
            task = self.progress.add_task(what, total=total, figures=figures)
            self._tasks[what] = task
        self.progress.update(task, completed=done, figures=figures)
