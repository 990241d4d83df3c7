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
    quick = budget == "quick"
    size: dict[str, Any] = {"pictures": 3_000, "test_pictures": 2_000} if quick else {}
    epochs, batch, rate = (25, 32, 0.01) if quick else (120, 128, 0.01)
    return tuple(
        Arm(
            name,
            label,
            eight_layers(),
            small_recipe(epochs=epochs, batch_size=batch, learning_rate=rate, dropout=share),
            **size,
        )
        for name, label, share in (("without", "no dropout", 0.0), ("with", "dropout 0.5", 0.5))
    )


def look(finished: Finished) -> dict[str, Any]:
    """The training error of the finished network with nothing dropped: while training, half the units were."""
    return {"train_error": finished.error("train")}


def gap(results: Results, arm: str) -> Measure:
    """Test minus training error of the finished networks."""
    values = 100 * (results.last(arm, "test_error") - results.looked(arm, "train_error"))
    return measure(f"{results.labels[arm]}: test minus training error", "points", values)


def judge(results: Results) -> Outcome:
    wide, narrow = gap(results, "without"), gap(results, "with")
    pairs = zip(wide.values, narrow.values, strict=True)
    effect = measure("narrowing of that gap", "points", [a - b for a, b in pairs if a is not None and b is not None])
    word, reason = judged(effect)
    errors = [
        measure(f"{results.labels[arm]}: {name} error", "%", 100 * values)
        for arm in results.labels
        for name, values in (
            ("train", results.looked(arm, "train_error")),
            ("test", results.last(arm, "test_error")),
        )
    ]
    return Outcome(word, reason, (*errors, wide, narrow, effect))


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
