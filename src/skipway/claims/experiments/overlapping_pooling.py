"""AlexNet, section 3.4: pooling windows that overlap lower the error."""

from __future__ import annotations

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import RULE, draw_errors, judge_gain, small_recipe
from skipway.claims.networks import four_layers, pace
from skipway.models.alexnet import Pool


def arms(budget: Budget) -> tuple[Arm, ...]:
    """The four-layer network with windows that do not overlap, and with windows that do."""
    if budget == "quick":
        epochs, pictures, test_pictures = 12, 5_000, 2_000
    else:
        epochs, pictures, test_pictures = 120, 0, 0
    recipe = small_recipe(epochs=epochs, **pace(budget))
    network = four_layers()
    # Padded so that both make maps of the same size.
    apart = network.replaced({"pool": Pool(2, 2, "same")})
    overlapping = network.replaced({"pool": Pool(3, 2, "same")})
    return (
        Arm("apart", "2x2, stride 2", apart, recipe, pictures=pictures, test_pictures=test_pictures),
        Arm("overlapping", "3x3, stride 2", overlapping, recipe, pictures=pictures, test_pictures=test_pictures),
    )


CLAIM = Claim(
    name="overlapping-pooling",
    sentence="Max pooling over windows of 3 pixels at a stride of 2, which overlap, gives a lower error than windows "
    "of 2.",
    source="Krizhevsky, Sutskever, Hinton 2012, section 3.4",
    reported="0.4 points of top-1 and 0.3 of top-5 error on ImageNet",
    rule=RULE.format(without="with windows of 2", with_="with windows of 3"),
    said={
        "quick": "the four-layer network, 5,000 training and 2,000 test pictures of CIFAR-10, 12 epochs, batches of 32",
        "full": "the four-layer network, all of CIFAR-10, 120 epochs, batches of 128",
    },
    seeds={"quick": 5, "full": 5},
    arms=arms,
    judge=judge_gain("apart", "overlapping"),
    draw=draw_errors,
)
