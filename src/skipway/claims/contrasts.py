"""What claims share that ask whether one part of a network, or of its training, lowers the error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skipway.claims.figures import COLOURS, SPREAD, curve, dots, footed, panels
from skipway.claims.results import Measure, Outcome, Results, judged, measure
from skipway.data.augmentation import Augmentation
from skipway.reporting import counted
from skipway.training.recipe import Recipe
from skipway.training.recipes import ALEXNET

RULE = (
    "Held when the 95 % interval of the test error {without} minus the test error {with_}, paired by seed, lies above "
    "0; failed when it lies below; undecided otherwise."
)


def small_recipe(*, epochs: int, batch_size: int, learning_rate: float, **changes: Any) -> Recipe:
    """The AlexNet recipe for pictures of 32 pixels: its optimizer and schedule, no augmentation, no dropout."""
    settings: dict[str, Any] = {"augmentation": Augmentation(), "dropout": 0.0, "keep": "last"} | changes
    return ALEXNET.replaced(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, **settings)


def gain(results: Results, without: str, with_: str, name: str = "") -> Measure:
    """Test error that the second arm is better by, in points, for each seed."""
    points = 100 * (results.last(without, "test_error") - results.last(with_, "test_error"))
    return measure(name or f"gain of {results.labels[with_]}", "points", points)


def judge_gain(without: str, with_: str) -> Callable[[Results], Outcome]:
    """The verdict of two arms, by RULE."""

    def judge(results: Results) -> Outcome:
        effect = gain(results, without, with_)
        word, reason = judged(effect)
        return Outcome(word, reason, (*results.errors(without), *results.errors(with_), effect))

    return judge


def draw_errors(results: Results) -> Any:
    """Left the errors over the steps, test thick and training thin; right each arm's last test error."""
    figure, (left, right) = panels(2, gridspec_kw={"width_ratios": [1.25, 1]})
    for (arm, label), colour in zip(results.labels.items(), COLOURS, strict=False):
        for name, options in (("train_error", {"dashed": True}), ("test_error", {"thick": True})):
            steps, values = results.curves(arm, name)
            curve(left, steps, 100 * values, label if name == "test_error" else "", colour=colour, **options)
    left.set(title="While training", xlabel="updates of the weights", ylabel="error, %")
    left.set_xlim(left=0)
    left.legend(title="thick: test, dashed: training", title_fontsize=9)
    dots(right, {wrapped(results.labels[arm]): 100 * results.last(arm, "test_error") for arm in results.labels})
    right.set(title="At the end", ylabel="test error, %")
    marks = "right: dots are seeds, thick lines means, upright ones their 95 % intervals"
    footed(figure, f"n = {counted(len(results.seeds), 'seed')}. {SPREAD};\n{marks}.")
    return figure


def wrapped(label: str) -> str:
    """A label on two lines where it is long."""
    words = label.split(" ")
    if len(label) < 14 or len(words) < 2:
        return label
    middle = min(range(1, len(words)), key=lambda cut: abs(len(" ".join(words[:cut])) - len(label) / 2))
    return f"{' '.join(words[:middle])}\n{' '.join(words[middle:])}"
