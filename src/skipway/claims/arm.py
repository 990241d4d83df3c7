"""One side of a comparison: a network, its recipe, its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skipway.models.network import Spec
from skipway.training.recipe import Recipe

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

    def describe_pictures(self) -> str:
        """How many pictures it trains on and is tested with, for a person."""
        train = f"{self.pictures:,}" if self.pictures else "all"
        test = f"{self.test_pictures:,}" if self.test_pictures else "all"
        return f"{train} pictures to train on, {test} to test with"
