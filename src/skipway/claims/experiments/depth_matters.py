"""AlexNet, section 7: without any one of its convolutions it does worse."""

from __future__ import annotations

from typing import Any

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import gain, small_recipe
from skipway.claims.figures import COLOURS, MUTED, dots, footed, panels
from skipway.claims.networks import eight_layers, without_conv
from skipway.claims.results import Outcome, Results, decided

# No two widths are alike: else networks without one layer or another would be the same.
NETWORK = eight_layers((24, 40, 64, 56, 48))
LAYERS = tuple(range(1, len(NETWORK.convs) + 1))


def arms(budget: Budget) -> tuple[Arm, ...]:
    quick = budget == "quick"
    size: dict[str, Any] = {"pictures": 5_000, "test_pictures": 2_000} if quick else {}
    recipe = small_recipe(epochs=10 if quick else 120, batch_size=32 if quick else 128, learning_rate=0.01)
    whole = Arm("whole", "whole", NETWORK, recipe, **size)
    return (
        whole,
        *(
            Arm(f"without-conv{number}", f"no conv{number}", without_conv(NETWORK, number), recipe, **size)
            for number in LAYERS
        ),
    )


def judge(results: Results) -> Outcome:
    losses = [
        gain(results, f"without-conv{number}", "whole", f"error that removing conv{number} adds") for number in LAYERS
    ]
    errors = [row for name in results.labels for row in results.errors(name)]
    return decided(losses, (*errors, *losses))


def draw(results: Results) -> Any:
    figure, (left, right) = panels(2, width=5.0)
    colours = ("#7a7a7a", *COLOURS[:1] * len(LAYERS))
    for axes, name, title in ((left, "test_error", "Test"), (right, "train_error", "Training")):
        heights = {label.replace("no ", "no\n"): 100 * results.last(arm, name) for arm, label in results.labels.items()}
        dots(axes, heights, colours=colours)
        axes.axhline(heights["whole"].mean(), color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.set(title=title, ylabel=f"{title.lower()} error, %")
    marks = "dots are seeds, thick lines means, upright ones their 95 % intervals; dashed: the whole network"
    footed(figure, f"n = {len(results.seeds)} seeds: {marks}.")
    return figure


CLAIM = Claim(
    name="depth-matters",
    sentence="Removing any one convolution of AlexNet makes it worse.",
    source="Krizhevsky, Sutskever, Hinton 2012, sections 1 and 7",
    reported="about 2 points of top-1 error on ImageNet for any middle layer",
    rule="Held when for every layer the 95 % interval of the test error without it minus that of the whole network, "
    "paired "
    "by seed, lies above 0; failed when one of them lies below; undecided otherwise.",
    said={
        "quick": "an AlexNet of eight layers for 32 pixels, 5,000 training and 2,000 test pictures of CIFAR-10, 10 "
        "epochs",
        "full": "an AlexNet of eight layers for 32 pixels, all of CIFAR-10, 120 epochs",
    },
    seeds={"quick": 3, "full": 5},
    arms=arms,
    judge=judge,
    draw=draw,
)
