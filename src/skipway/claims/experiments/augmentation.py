"""AlexNet, section 4.1: translations, reflections and PCA colour against overfitting."""

from __future__ import annotations

from itertools import pairwise

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import draw_errors, gain, small_recipe
from skipway.claims.networks import four_layers, pace
from skipway.claims.results import Measure, Outcome, Results, judged
from skipway.data.augmentation import Augmentation

STEPS = {
    "none": ("none", Augmentation()),
    "crops": ("crops", Augmentation(crop="padded", crop_padding=4)),
    "mirrors": ("+ mirrors", Augmentation(crop="padded", crop_padding=4, mirror=0.5)),
    "colour": ("+ PCA colour", Augmentation(crop="padded", crop_padding=4, mirror=0.5, lighting=0.1)),
}


def arms(budget: Budget) -> tuple[Arm, ...]:
    """The four-layer network without augmentation, then with one kind more in each arm."""
    if budget == "quick":
        epochs, pictures, test_pictures = 32, 2_500, 2_000
    else:
        epochs, pictures, test_pictures = 120, 0, 0
    found = []
    for name, (label, augmentation) in STEPS.items():
        recipe = small_recipe(epochs=epochs, augmentation=augmentation, **pace(budget))
        arm = Arm(name, label, four_layers(), recipe, pictures=pictures, test_pictures=test_pictures)
        found.append(arm)
    return tuple(found)


def judge(results: Results) -> Outcome:
    """Judges the gain of all three kinds; each one's own gain is a row of the table."""
    names = list(STEPS)
    rows: list[Measure] = []
    for name in names:
        rows += results.errors(name)
    for before, after in pairwise(names):
        rows.append(gain(results, before, after))
    whole = gain(results, "none", "colour", "gain of all three")
    rows.append(whole)
    word, reason = judged(whole)
    return Outcome(word, reason, tuple(rows))


CLAIM = Claim(
    name="augmentation",
    sentence="Random crops, mirrored pictures and PCA colour lower the test error.",
    source="Krizhevsky, Sutskever, Hinton 2012, section 4.1",
    reported="PCA colour alone: over 1 point of top-1 error on ImageNet; without crops and mirrors, substantial "
    "overfitting",
    rule="Held when the 95 % interval of the test error with none minus the test error with all three, paired by seed, "
    "lies above 0; failed when it lies below; undecided otherwise. The table has each step's own gain.",
    said={
        "quick": "the four-layer network; 2,500 training and 2,000 test pictures of CIFAR-10, 32 epochs; crops from 4 "
        "pixels of padding",
        "full": "the four-layer network; all of CIFAR-10, 120 epochs; crops from 4 pixels of padding",
    },
    seeds={"quick": 3, "full": 5},
    arms=arms,
    judge=judge,
    draw=draw_errors,
)
