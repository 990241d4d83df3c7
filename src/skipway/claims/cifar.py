"""What the claims about residual networks on CIFAR-10 share: recipes, smaller maps, late errors, their drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

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
    """A row of the catalog, with the zeros of its shortcuts half on either side: so stood they in every row when the
    results in docs/claims.md were measured."""
    spec = find_spec(name)
    return spec.replaced({"pad": "both"}) if isinstance(spec, ResNetV1Spec | ResNetV2Spec) else spec


def full_recipe(*, warm: bool = False) -> Recipe:
    """The paper's recipe: 64,000 updates of 128 pictures."""
    return find_recipe("cifar_resnet").replaced(warmup=_WARMUP if warm else 0.0)


def quick_recipe(*, epochs: int = QUICK_EPOCHS, warm: bool = False) -> Recipe:
    """The paper's recipe, its schedule squeezed into a few epochs; small batches make many updates of few pictures."""
    return find_recipe("cifar_resnet").replaced(
        pictures=0, epochs=epochs, batch_size=32, learning_rate=0.02, warmup=0.05 if warm else 0.0
    )


def on_smaller_maps(spec: Spec) -> Spec:
    """The network with a stride of 2 in its first convolution: maps of 16, 8 and 4 pixels instead of 32, 16 and 8, for
    a quarter of the work. Units and depth stay."""
    return spec.replaced({"stem": replace(CIFAR_STEM, stride=2)})


def late(results: Results, arm: str, name: str) -> np.ndarray:
    """A curve's mean over the last quarter of the epochs, in percent, for each seed: float64 (seeds,).

    One epoch's error on few pictures is noisy; after the learning rate's second drop the curve is flat.
    """
    _, values = results.curves(arm, name)
    return np.asarray(100 * values[:, -max(values.shape[1] // 4, 1) :].mean(1))


def late_errors(results: Results) -> list[Measure]:
    """Rows of every arm's late training and test error."""
    return [
        measure(f"{_line(label)}: {name} error", "%", late(results, arm, f"{name}_error"))
        for arm, label in results.labels.items()
        for name in ("train", "test")
    ]


def draw_curves(axes: Axes, results: Results, colours: Mapping[str, str]) -> None:
    """Both errors of the arms that have a colour, over the updates."""
    for arm, colour in colours.items():
        for name in ("train_error", "test_error"):
            steps, errors = results.curves(arm, name)
            test = name == "test_error"
            label = _line(results.labels[arm]) if test else ""
            curve(axes, steps, 100 * errors, label, colour=colour, dashed=not test, thick=test)
    axes.set(xlabel="updates", ylabel="error (%)")
    axes.margins(x=0.01)
    axes.legend(title="bold: test, dashed: training", title_fontsize=9)


def draw_ends(axes: Axes, results: Results, labels: Mapping[str, str], colours: Sequence[str] = COLOURS) -> None:
    """Late test errors as bars, the mean training errors as black ticks on them."""
    bars(axes, {label: late(results, arm, "test_error") for arm, label in labels.items()}, colours=colours)
    for place, arm in enumerate(labels):
        axes.plot(place, late(results, arm, "train_error").mean(), "_", color=INK, markersize=24, markeredgewidth=1.6)
    axes.set(ylabel="error (%)")
    axes.tick_params(axis="x", labelsize=8)


def _line(label: str) -> str:
    return " ".join(label.split())
