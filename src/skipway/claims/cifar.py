"""What the claims about residual networks on CIFAR-10 share: recipes, smaller maps, late errors, their drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipway.claims.arm import Arm, Budget
from skipway.claims.figures import COLOURS, INK, bars, curve
from skipway.claims.results import Measure, Results, measure
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.models.rows.depths import CIFAR_STEM
from skipway.training.recipe import Recipe
from skipway.training.recipes import find_recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUICK_PICTURES, QUICK_TEST_PICTURES, QUICK_EPOCHS = 2_000, 1_000, 12
LATE = "the mean over the last quarter of the epochs, after the learning rate's second drop"

# 400 updates, as the paper warms up its 110 layers; here the rate rises instead of staying at a tenth (section 4.2).
_WARMUP = 400 / 64_000


def measured_row(name: str) -> Spec:
    """A row of the catalog, with the zeros of its shortcuts half on either side.

    Every row stood so when the results in docs/claims.md were measured.
    """
    spec = find_spec(name)
    if isinstance(spec, ResNetV1Spec | ResNetV2Spec):
        spec = spec.replaced({"pad": "both"})
    return spec


def full_recipe(*, warm: bool = False) -> Recipe:
    """The paper's recipe, 64,000 updates of 128 pictures; `warm` with its warm-up."""
    recipe = find_recipe("cifar_resnet")
    return recipe.replaced(warmup=_WARMUP if warm else 0.0)


def quick_recipe(*, epochs: int = QUICK_EPOCHS, warm: bool = False) -> Recipe:
    """The paper's recipe, its schedule squeezed into a few epochs; small batches make many updates of few pictures."""
    recipe = find_recipe("cifar_resnet")
    warmup = 0.05 if warm else 0.0
    return recipe.replaced(pictures=0, epochs=epochs, batch_size=32, learning_rate=0.02, warmup=warmup)


def full_or_quick_arm(name: str, label: str, spec: Spec, budget: Budget) -> Arm:
    """An arm of a residual or plain network: the paper's recipe on all pictures, or few epochs of few smaller maps."""
    if budget == "full":
        return Arm(name, label, spec, full_recipe())
    return Arm(
        name,
        label,
        on_smaller_maps(spec),
        quick_recipe(),
        pictures=QUICK_PICTURES,
        test_pictures=QUICK_TEST_PICTURES,
    )


def on_smaller_maps(spec: Spec) -> Spec:
    """The network with a stride of 2 in its first convolution.

    Its maps have 16, 8 and 4 pixels instead of 32, 16 and 8, for a quarter of the work. Units and depth stay.
    """
    stem = replace(CIFAR_STEM, stride=2)
    return spec.replaced({"stem": stem})


def late(results: Results, arm: str, name: str) -> np.ndarray:
    """A curve's mean over the last quarter of the epochs, in percent, for each seed: float64 (seeds,).

    One epoch's error on few pictures is noisy; after the learning rate's second drop the curve is flat.
    """
    _, values = results.curves(arm, name)
    quarter = max(values.shape[1] // 4, 1)
    means = values[:, -quarter:].mean(1)
    return np.asarray(100 * means)


def late_errors(results: Results) -> list[Measure]:
    """Rows of every arm's late training and test error."""
    rows = []
    for arm, label in results.labels.items():
        for name in ("train", "test"):
            errors = late(results, arm, f"{name}_error")
            rows.append(measure(f"{_on_one_line(label)}: {name} error", "%", errors))
    return rows


def draw_curves(axes: Axes, results: Results, colours: Mapping[str, str]) -> None:
    """Both errors of the arms that have a colour, over the updates."""
    for arm, colour in colours.items():
        label = _on_one_line(results.labels[arm])
        steps, train = results.curves(arm, "train_error")
        curve(axes, steps, 100 * train, colour=colour, dashed=True)
        _, test = results.curves(arm, "test_error")
        curve(axes, steps, 100 * test, label, colour=colour, thick=True)
    axes.set(xlabel="updates", ylabel="error (%)")
    axes.margins(x=0.01)
    axes.legend(title="bold: test, dashed: training", title_fontsize=9)


def draw_ends(axes: Axes, results: Results, labels: Mapping[str, str], colours: Sequence[str] = COLOURS) -> None:
    """Late test errors as bars, the mean training errors as black ticks on them."""
    test_errors = {label: late(results, arm, "test_error") for arm, label in labels.items()}
    bars(axes, test_errors, colours=colours)
    for place, arm in enumerate(labels):
        train_error = late(results, arm, "train_error").mean()
        axes.plot(place, train_error, "_", color=INK, markersize=24, markeredgewidth=1.6)
    axes.set(ylabel="error (%)")
    axes.tick_params(axis="x", labelsize=8)


def _on_one_line(label: str) -> str:
    """A label without the line breaks that it has for figures."""
    return " ".join(label.split())
