"""AlexNet, section 4.1: translations, reflections and PCA colour against overfitting."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import draw_errors, gain, small_recipe
from skipway.claims.networks import four_layers, pace
from skipway.claims.results import Outcome, Results, judged
from skipway.data.augmentation import Augmentation

STEPS = {
    "none": ("none", Augmentation()),
    "crops": ("crops", Augmentation(crop="padded", crop_padding=4)),
    "mirrors": ("+ mirrors", Augmentation(crop="padded", crop_padding=4, mirror=0.5)),
    "colour": ("+ PCA colour", Augmentation(crop="padded", crop_padding=4, mirror=0.5, lighting=0.1)),
}


def arms(budget: Budget) -> tuple[Arm, ...]:
    quick = budget == "quick"
    size: dict[str, Any] = {"pictures": 2_500, "test_pictures": 2_000} if quick else {}
    epochs = 32 if quick else 120
    return tuple(
        Arm(
            name,
            label,
            four_layers(),
            small_recipe(epochs=epochs, augmentation=augmentation, **pace(budget)),
            **size,
        )
        for name, (label, augmentation) in STEPS.items()
    )


def judge(results: Results) -> Outcome:
    whole = gain(results, "none", "colour", "gain of all three")
    names = list(STEPS)
    steps = [gain(results, before, after) for before, after in pairwise(names)]
    word, reason = judged(whole)
    errors = [row for name in names for row in results.errors(name)]
    return Outcome(word, reason, (*errors, *steps, whole))


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
