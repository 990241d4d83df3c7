"""A line of the table that `make parity` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Line:
    """What one comparison found: the worst array, and what failed."""

    ours: str
    theirs: str
    cases: int = 0
    arrays: int = 0
    worst: float = 0.0
    where: str = ""
    failed: tuple[str, ...] = ()

    def saw(self, relative: float, where: str) -> None:
        """Keep the largest difference and where it was."""
        if relative > self.worst or not self.where:
            self.worst, self.where = relative, where
