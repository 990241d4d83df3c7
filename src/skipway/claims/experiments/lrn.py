"""AlexNet, section 3.3: local response normalization lowers the error."""

from __future__ import annotations

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import RULE, draw_errors, judge_gain, small_recipe
from skipway.claims.networks import four_layers, pace


def arms(budget: Budget) -> tuple[Arm, ...]:
    """The four-layer network without and with local response normalization before its first two pools."""
    if budget == "quick":
        epochs, pictures, test_pictures = 12, 5_000, 2_000
    else:
        epochs, pictures, test_pictures = 120, 0, 0
    recipe = small_recipe(epochs=epochs, **pace(budget))
    without = Arm("without", "no LRN", four_layers(), recipe, pictures=pictures, test_pictures=test_pictures)
    normalized = four_layers(("norm", "pool"))
    with_norm = Arm("with", "LRN", normalized, recipe, pictures=pictures, test_pictures=test_pictures)
    return without, with_norm


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
