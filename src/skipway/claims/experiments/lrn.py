"""AlexNet, section 3.3: local response normalization lowers the error."""

from __future__ import annotations

from typing import Any

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import RULE, draw_errors, judge_gain, small_recipe
from skipway.claims.networks import four_layers, pace


def arms(budget: Budget) -> tuple[Arm, ...]:
    quick = budget == "quick"
    size: dict[str, Any] = {"pictures": 5_000, "test_pictures": 2_000} if quick else {}
    recipe = small_recipe(epochs=12 if quick else 120, **pace(budget))
    return (
        Arm("without", "no LRN", four_layers(), recipe, **size),
        Arm("with", "LRN", four_layers(("norm", "pool")), recipe, **size),
    )


CLAIM = Claim(
    name="lrn",
    sentence="Local response normalization after the rectified units lowers the error of a convolutional network.",
    source="Krizhevsky, Sutskever, Hinton 2012, section 3.3",
    reported="1.4 points of top-1 and 1.2 of top-5 error on ImageNet; a four-layer network on CIFAR-10 has 13 % test "
    "error "
    "without and 11 % with it",
    rule=RULE.format(without="without normalization", with_="with it"),
    said={
        "quick": "5,000 training and 2,000 test pictures, 12 epochs, batches of 32",
        "full": "all of CIFAR-10, 120 epochs, batches of 128",
    },
    seeds={"quick": 5, "full": 5},
    arms=arms,
    judge=judge_gain("without", "with"),
    draw=draw_errors,
)
