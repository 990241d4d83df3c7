"""AlexNet, section 3.1 and figure 1: networks of rectified units learn several times sooner."""

from __future__ import annotations

from typing import Any

import numpy as np

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.contrasts import small_recipe
from skipway.claims.figures import COLOURS, INK, MUTED, SPREAD, annotate_above, bars, curve, footed, panels
from skipway.claims.networks import four_layers
from skipway.claims.results import Measure, Outcome, Results, judged, measure
from skipway.claims.statistics import ratio_interval, steps_to
from skipway.reporting import counted

TARGET = 0.25
# Each kind's own, as in the paper ("chosen independently"): of rates a factor of three apart the one with the smallest
# training error after five epochs (docs/log.md).
RATES = {"relu": 0.0003, "tanh": 0.003, "sigmoid": 0.01}
LABELS = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid"}


def arms(budget: Budget) -> tuple[Arm, ...]:
    """The four-layer network with each kind of unit, at the rate that suits it best."""
    if budget == "quick":
        epochs, batch_size, pictures, test_pictures = 12, 64, 20_000, 1_000
    else:
        epochs, batch_size, pictures, test_pictures = 100, 128, 0, 0
    found = []
    for kind, rate in RATES.items():
        network = four_layers().replaced({"conv_activation": kind})
        recipe = small_recipe(
            epochs=epochs, batch_size=batch_size, learning_rate=rate, schedule="constant", weight_decay=0.0
        )
        arm = Arm(kind, LABELS[kind], network, recipe, pictures=pictures, test_pictures=test_pictures)
        found.append(arm)
    return tuple(found)


def steps_needed(results: Results, arm: str) -> np.ndarray:
    """Updates until the training error first is 25 %, for each seed; NaN where it never is."""
    steps, errors = results.curves(arm, "train_error")
    needed = [steps_to(steps, error, TARGET) for error in errors]
    return np.array(needed)


def judge(results: Results) -> Outcome:
    """Judges how many times the updates of ReLU the tanh units need."""
    rows: list[Measure] = []
    for arm, label in LABELS.items():
        rows.append(measure(f"{label}: updates to 25 % training error", "updates", steps_needed(results, arm)))
    for arm, label in LABELS.items():
        last_error = 100 * results.last(arm, "train_error")
        rows.append(measure(f"{label}: last training error", "%", last_error))
    tanh = ratio(results, "tanh")
    rows += [tanh, ratio(results, "sigmoid")]
    word, reason = judged(tanh, margin=1.0)
    return Outcome(word, reason, tuple(rows))


def ratio(results: Results, arm: str) -> Measure:
    """How many times the updates of ReLU an arm needs.

    A run that never gets there counts with all the updates it had: its ratio is too small, never too large.
    """
    relu = steps_needed(results, "relu")
    needed = steps_needed(results, arm)
    never = np.isnan(needed)
    steps, _ = results.curves(arm, "train_error")
    counted = np.where(never, steps[-1], needed)
    name = f"{LABELS[arm]}: times the updates of ReLU"
    if never.any():
        name += ", at least"
    plain = measure(name, "times", counted / relu)
    if plain.interval is None:
        return plain
    return Measure(name, "times", plain.values, ratio_interval(counted, relu))


def draw(results: Results) -> Any:
    """Left the training errors, as in figure 1; right the updates that each kind of unit needs."""
    figure, (left, right) = panels(2, gridspec_kw={"width_ratios": [1.35, 1]})
    for (arm, label), colour in zip(LABELS.items(), COLOURS, strict=False):
        steps, errors = results.curves(arm, "train_error")
        curve(left, steps, 100 * errors, label, colour=colour, thick=True, dashed=arm != "relu")
    left.axhline(100 * TARGET, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    left.annotate("25 %", (0, 100 * TARGET), xytext=(3, 3), textcoords="offset points", color=INK, fontsize=9)
    left.set(xlabel="updates of the weights", ylabel="training error, %", title="A four-layer CNN on CIFAR-10")
    left.set_xlim(left=0)
    left.set_ylim(0, 92)
    left.legend()
    needed = {label: steps_needed(results, arm) for arm, label in LABELS.items()}
    bars(right, needed, form="{:,.0f}")
    _draw_open_ends(right, results)
    right.set(ylabel="updates to 25 % training error", title="How long it takes")
    right.set_xlim(-0.6, len(LABELS) - 0.4)
    footed(
        figure,
        f"n = {counted(len(results.seeds), 'seed')}. {SPREAD}; dots are seeds. Dashed: not reached within the run.",
    )
    return figure


def _draw_open_ends(axes: Any, results: Results) -> None:
    """A dashed bar up to the run's end for arms of which no seed gets to the target."""
    for place, arm in enumerate(LABELS):
        if np.isfinite(steps_needed(results, arm)).any():
            continue
        steps, _ = results.curves(arm, "train_error")
        end = steps[-1]
        axes.bar(place, end, 0.62, fill=False, edgecolor=COLOURS[place], linestyle=(0, (4, 2)), linewidth=1.4)
        annotate_above(axes, f"> {end:,.0f}", place, end)


CLAIM = Claim(
    name="relu-vs-tanh",
    sentence="A convolutional network of rectified linear units reaches 25 % training error on CIFAR-10 sooner than "
    "the same network of tanh units; in the paper, several times sooner.",
    source="Krizhevsky, Sutskever, Hinton 2012, section 3.1 and figure 1",
    reported="six times sooner, with a four-layer network, the rates chosen for each network, no regularization",
    rule="Held when the 95 % interval of the ratio of updates (tanh to ReLU, paired by seed, on a logarithmic scale) "
    "lies above 1; failed when it lies below; undecided when ReLU never reaches 25 % or the interval has 1 inside. A "
    "run "
    "of tanh or sigmoid units that never reaches 25 % counts with all its updates.",
    said={
        "quick": "20,000 training pictures, 12 epochs, batches of 64",
        "full": "all 50,000 training pictures, 100 epochs, batches of 128",
    },
    seeds={"quick": 3, "full": 5},
    arms=arms,
    judge=judge,
    draw=draw,
)
