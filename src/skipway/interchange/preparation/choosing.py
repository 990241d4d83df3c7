"""What the statistics of a file are asked about, and what came of it: preparations, figures, the choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from skipway.data.preprocessing import Preprocessing
from skipway.interchange.doubt import Doubt
from skipway.models.network import Spec

_REVERSED = ", channels reversed"


@dataclass(frozen=True)
class Preparation:
    """A convention by name, and the rule that it is for a network. `reversed` gives the channels in the other order."""

    name: str
    rule: Callable[[Spec], Preprocessing]
    reversed: bool = False

    @property
    def words(self) -> str:
        """The name, with the order where it is not the convention's."""
        if self.reversed:
            return self.name + _REVERSED
        return self.name

    def of(self, spec: Spec) -> Preprocessing:
        """The rule for a network's pictures."""
        rule = self.rule(spec)
        if not self.reversed or rule.channels == "L":
            return rule
        order: Literal["RGB", "BGR"] = "RGB" if rule.channels == "BGR" else "BGR"
        return replace(rule, channels=order, mean=rule.mean[::-1], std=rule.std[::-1])


@dataclass(frozen=True)
class Tried:
    """A candidate in words, its figure, and the figure of each normalization."""

    network: str
    preparation: str
    figure: float
    layers: Mapping[str, float]

    @property
    def words(self) -> str:
        """Network and preparation."""
        parts = [self.network, self.preparation]
        return ", ".join(part for part in parts if part)

    @property
    def is_reversed(self) -> bool:
        """Whether the channels were given in the other order."""
        return self.preparation.endswith(_REVERSED)


@dataclass(frozen=True)
class Choice:
    """What was taken, and why.

    Attributes:
        spec: The network.
        preparation: How its pictures are prepared.
        taken: The candidate that was taken; None where nothing was tried, because the file has no normalizations or
            untouched ones.
        tried: All candidates, the best first.
        doubts: What the user should know.
        pictures: How many crops each candidate was compared on.
        every: Whether the user wants to see all candidates.
        ranked: The networks, the best first, with figures over the layers in which they differ.
    """

    spec: Spec
    preparation: Preparation
    taken: Tried | None
    tried: tuple[Tried, ...]
    doubts: tuple[Doubt, ...]
    pictures: int = 0
    every: bool = False
    ranked: tuple[tuple[float, str], ...] = ()

    def next_preparation(self) -> Tried | None:
        """The best other preparation of the network that was taken.

        The same preparation with reversed channels does not count: it shows too little.
        """
        assert self.taken is not None
        same = {self.taken.preparation, self.taken.preparation + _REVERSED}
        for candidate in self.tried:
            if candidate.network == self.taken.network and candidate.preparation not in same:
                return candidate
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; {} where nothing was tried."""
        if self.taken is None:
            return {}
        tried = []
        for candidate in self.tried:
            values = {"network": candidate.network, "preprocessing": candidate.preparation, "figure": candidate.figure}
            tried.append(values)
        return {"figure": self.taken.figure, "pictures": self.pictures, "tried": tried}

    def describe(self) -> list[str]:
        """A line, or one for each candidate."""
        if self.taken is None:
            return []
        line = f"fit       {self.taken.figure:.3f} by its own statistics ({self.taken.words})"
        if len(self.ranked) > 1:
            (figure, words), (next_figure, next_words) = self.ranked[:2]
            line += f"; where networks differ, {figure:.3f} ({words}), next network {next_figure:.3f} ({next_words})"
        rival = self.next_preparation()
        if rival is not None:
            line += f"; next preparation {rival.figure:.3f} ({rival.preparation})"
        lines = [line]
        if self.every:
            for candidate in self.tried:
                lines.append(f"tried     {candidate.figure:10.3f}  {candidate.words}")
        return lines
