"""What a claim is: a sentence of a paper, the runs that test it, and the rule that judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skipway.claims.arm import Arm, Budget
from skipway.claims.finished import Finished
from skipway.claims.results import Outcome, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Claim:
    """One classic experiment.

    `sentence` says what is claimed, `source` where, `reported` the numbers printed there. `rule` is how the verdict is
    reached, in words; `judge` follows it. `said` is, for each budget, what differs from the source; `seeds` how many
    runs each arm gets. `draw` makes the figure. `look` measures more on each finished run, in the process that trained
    it.
    """

    name: str
    sentence: str
    source: str
    reported: str
    rule: str
    said: Mapping[Budget, str]
    seeds: Mapping[Budget, int]
    arms: Callable[[Budget], tuple[Arm, ...]]
    judge: Callable[[Results], Outcome]
    draw: Callable[[Results], Figure]
    look: Callable[[Finished], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Settings:
    """What a user may change about a claim.

    The budget, the number of seeds and the first one, and the epochs of each run; 0 seeds or epochs are the claim's
    own number.
    """

    budget: Budget = "quick"
    seeds: int = 0
    seed: int = 0
    epochs: int = 0

    def seeds_of(self, claim: Claim) -> tuple[int, ...]:
        """The seeds of the runs."""
        count = self.seeds or claim.seeds[self.budget]
        return tuple(range(self.seed, self.seed + count))

    def arms_of(self, claim: Claim) -> tuple[Arm, ...]:
        """The claim's arms, with as many epochs as asked for."""
        arms = claim.arms(self.budget)
        if not self.epochs:
            return arms
        changed = []
        for arm in arms:
            recipe = arm.recipe.replaced(epochs=self.epochs, pictures=0)
            changed.append(replace(arm, recipe=recipe))
        return tuple(changed)
