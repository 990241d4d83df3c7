"""AlexNet, section 7: without any one of its convolutions it does worse."""

from __future__ import annotations

from typing import Any

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import gain, small_recipe
from skipway.claims.figures import COLOURS, MUTED, dots, footed, panels
from skipway.claims.networks import eight_layers, without_conv
from skipway.claims.results import Measure, Outcome, Results, decided
from skipway.reporting import counted

# No two widths are alike: else networks without one layer or another would be the same.
NETWORK = eight_layers((24, 40, 64, 56, 48))
LAYERS = tuple(range(1, len(NETWORK.convs) + 1))


def arms(budget: Budget) -> tuple[Arm, ...]:
    """The whole network, then the network without each of its convolutions."""
    if budget == "quick":
        epochs, batch_size, pictures, test_pictures = 10, 32, 5_000, 2_000
    else:
        epochs, batch_size, pictures, test_pictures = 120, 128, 0, 0
    recipe = small_recipe(epochs=epochs, batch_size=batch_size, learning_rate=0.01)
    found = [Arm("whole", "whole", NETWORK, recipe, pictures=pictures, test_pictures=test_pictures)]
    for number in LAYERS:
        name, label = f"without-conv{number}", f"no conv{number}"
        network = without_conv(NETWORK, number)
        arm = Arm(name, label, network, recipe, pictures=pictures, test_pictures=test_pictures)
        found.append(arm)
    return tuple(found)


def judge(results: Results) -> Outcome:
    """Judges the error that the removal of each convolution adds."""
    rows: list[Measure] = []
    for arm in results.labels:
        rows += results.errors(arm)
    added = []
    for number in LAYERS:
        name = f"error that removing conv{number} adds"
        added.append(gain(results, f"without-conv{number}", "whole", name))
    return decided(added, (*rows, *added))


def draw(results: Results) -> Any:
    """The last test errors, and the last training errors, each beside those of the whole network."""
    figure, (left, right) = panels(2, width=5.0)
    colours = ("#7a7a7a", *COLOURS[:1] * len(LAYERS))
    for axes, name, title in ((left, "test_error", "Test"), (right, "train_error", "Training")):
        heights = {}
        for arm, label in results.labels.items():
            wrapped_label = label.replace("no ", "no\n")
            heights[wrapped_label] = 100 * results.last(arm, name)
        dots(axes, heights, colours=colours)
        axes.axhline(heights["whole"].mean(), color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.set(title=title, ylabel=f"{title.lower()} error, %")
    marks = "dots are seeds, thick lines means, upright ones their 95 % intervals; dashed: the whole network"
    footed(figure, f"n = {counted(len(results.seeds), 'seed')}: {marks}.")
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
