"""AlexNet, section 4.2: dropout narrows the gap between training and test."""

from __future__ import annotations

from typing import Any

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import draw_errors, small_recipe
from skipway.claims.finished import Finished
from skipway.claims.networks import eight_layers
from skipway.claims.results import Measure, Outcome, Results, judged, measure


def arms(budget: Budget) -> tuple[Arm, ...]:
    """The eight-layer network without dropout, and with half of the hidden units dropped."""
    if budget == "quick":
        epochs, batch_size, pictures, test_pictures = 25, 32, 3_000, 2_000
    else:
        epochs, batch_size, pictures, test_pictures = 120, 128, 0, 0
    found = []
    for name, label, share in (("without", "no dropout", 0.0), ("with", "dropout 0.5", 0.5)):
        recipe = small_recipe(epochs=epochs, batch_size=batch_size, learning_rate=0.01, dropout=share)
        arm = Arm(name, label, eight_layers(), recipe, pictures=pictures, test_pictures=test_pictures)
        found.append(arm)
    return tuple(found)


def look(finished: Finished) -> dict[str, Any]:
    """The training error of the finished network with nothing dropped: while training, half the units were."""
    return {"train_error": finished.error("train")}


def gap(results: Results, arm: str) -> Measure:
    """Test minus training error of the finished networks."""
    train_error = results.looked(arm, "train_error")
    test_error = results.last(arm, "test_error")
    return measure(f"{results.labels[arm]}: test minus training error", "points", 100 * (test_error - train_error))


def judge(results: Results) -> Outcome:
    """Judges by how much dropout narrows the gap."""
    rows: list[Measure] = []
    for arm, label in results.labels.items():
        train_error = 100 * results.looked(arm, "train_error")
        test_error = 100 * results.last(arm, "test_error")
        rows.append(measure(f"{label}: train error", "%", train_error))
        rows.append(measure(f"{label}: test error", "%", test_error))
    wide = gap(results, "without")
    narrow = gap(results, "with")
    narrowing = []
    for without, with_ in zip(wide.values, narrow.values, strict=True):
        if without is not None and with_ is not None:
            narrowing.append(without - with_)
    effect = measure("narrowing of that gap", "points", narrowing)
    rows += [wide, narrow, effect]
    word, reason = judged(effect)
    return Outcome(word, reason, tuple(rows))


CLAIM = Claim(
    name="dropout",
    sentence="Dropping half of the hidden units while training keeps a network from overfitting.",
    source="Krizhevsky, Sutskever, Hinton 2012, section 4.2",
    reported="substantial overfitting without it, about twice the iterations with it; no number",
    rule="Held when the 95 % interval of the gap (test minus training error, nothing dropped) without dropout minus "
    "the "
    "gap with it, paired by seed, lies above 0; failed when it lies below; undecided otherwise.",
    said={
        "quick": "an AlexNet of eight layers for 32 pixels, 3,000 training and 2,000 test pictures of CIFAR-10, 25 "
        "epochs",
        "full": "an AlexNet of eight layers for 32 pixels, all of CIFAR-10, 120 epochs",
    },
    seeds={"quick": 3, "full": 5},
    arms=arms,
    judge=judge,
    draw=draw_errors,
    look=look,
)
