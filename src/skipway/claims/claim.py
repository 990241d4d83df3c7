"""What a claim is: a sentence of a paper, the runs that test it, and the rule that judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from skipway.claims.results import Outcome, Results
from skipway.models.network import Spec
from skipway.training.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skipway.claims.finished import Finished

Budget = Literal["quick", "full"]
Data = Literal["cifar10", "mnist", "signs"]


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a network, a recipe, and how many pictures it trains on and is tested with (0: all).

    Arms of one claim differ in what the claim is about and in nothing else; each is run once a seed. `label` is what
    tables and figures call it.
    """

    name: str
    label: str
    spec: Spec
    recipe: Recipe
    data: Data = "cifar10"
    pictures: int = 0
    test_pictures: int = 0


@dataclass(frozen=True)
class Claim:
    """One classic experiment.

    `sentence` says what is claimed, `source` where, `reported` the numbers printed there. `rule` is how the verdict is
    reached, in words; `judge` follows it. `said` tells, for each budget, what differs from the source; `seeds` how
    many runs each arm gets. `look` measures more on each finished run, in the process that trained it.
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
    """What a user may change about a claim: the budget, the number of seeds and the first one, the epochs of each run
    (0: the claim's own)."""

    budget: Budget = "quick"
    seeds: int = 0
    seed: int = 0
    epochs: int = 0

    def seeds_of(self, claim: Claim) -> tuple[int, ...]:
        """The seeds of the runs."""
        return tuple(range(self.seed, self.seed + (self.seeds or claim.seeds[self.budget])))

    def arms_of(self, claim: Claim) -> tuple[Arm, ...]:
        """The claim's arms, as long as asked for."""
        arms = claim.arms(self.budget)
        if not self.epochs:
            return arms
        return tuple(replace(one, recipe=one.recipe.replaced(epochs=self.epochs, pictures=0)) for one in arms)
