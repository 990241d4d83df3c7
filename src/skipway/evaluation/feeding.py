"""Whether a model gets its pictures prepared as in its training: its normalizations stored what they saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipway.data.dataset import Split
from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import PictureError
from skipway.inference.classifier import Classifier
from skipway.weights.statistics_fit import CLOSE, CONVENTIONS, POOR, fit_of_counts, is_quick, pictures_for

# Ten networks had 0.011 to 0.065 on the test pictures of their data set, eight of them below this (docs/weights.md):
# above it other preparations are compared.
WELL_FED = 0.04


@dataclass(frozen=True)
class Feeding:
    """How a model's own statistics fit some pictures.

    Attributes:
        figure: Misfit of the statistics to pictures as the model prepares them; 0 is a perfect fit.
        pictures: How many pictures were looked at.
        better: The convention that fits best of the others; "" where none was compared or none fits clearly better.
        better_figure: The misfit with that convention.
    """

    figure: float
    pictures: int
    better: str = ""
    better_figure: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        facts: dict[str, Any] = {"figure": self.figure, "pictures": self.pictures}
        if self.better:
            facts["better"] = self.better
            facts["better_figure"] = self.better_figure
        return facts

    def warnings(self) -> list[str]:
        """What the user should know."""
        if self.better:
            return [
                f"the model's own statistics fit these pictures badly as it prepares them ({self.figure:.3g}) and "
                f"better as by {self.better} ({self.better_figure:.3g}): import or train it with that --preprocessing"
            ]
        if self.figure > POOR:
            return [
                f"the model's own statistics do not fit these pictures ({self.figure:.3g}; below {POOR} they would): "
                "they are of another kind than those of its training, or prepared otherwise, or its statistics lag "
                "behind its weights"
            ]
        return []


def feeding(classifier: Classifier, split: Split) -> Feeding | None:
    """How a model's statistics fit some pictures of a split, evenly chosen.

    None for a model without normalizations, and for one that normalizes with the statistics of the batch. It takes as
    long as a few dozen pictures more.
    """
    norm = getattr(classifier.spec, "norm", None)
    statistics = getattr(norm, "statistics", "")
    if statistics != "running":
        return None
    counts = _counts(classifier, split)
    if counts is None:
        return None
    own_rule = classifier.preprocessing
    own = fit_of_counts(classifier.network, own_rule, counts)
    if own is None:
        return None
    result = Feeding(own.figure, own.pictures)
    if own.figure <= WELL_FED or not is_quick(classifier.spec):
        return result
    figures: dict[str, float] = {}
    for name in CONVENTIONS:
        rule = _with_values_of(name, own_rule)
        fit = fit_of_counts(classifier.network, rule, counts)
        assert fit is not None  # as the model's own preparation had a fit
        figures[name] = fit.figure
    best = min(figures, key=figures.__getitem__)
    best_figure = figures[best]
    is_clearly_better = CLOSE * best_figure <= own.figure
    if best_figure > POOR or not is_clearly_better:
        return result
    return replace(result, better=best, better_figure=best_figure)


def _counts(classifier: Classifier, split: Split) -> Tensor | None:
    """Pictures cut to size, (N, C, size, size); None where none of them can be read."""
    number = min(len(split), pictures_for(classifier.spec))
    places = np.linspace(0, len(split) - 1, number).astype(int)
    pictures = []
    for place in places:
        try:
            pixels = classifier.preprocessing.pixels(split.pictures[int(place)])
        except PictureError:
            continue
        pictures.append(pixels)
    if not pictures:
        return None
    return torch.stack(pictures).to(classifier.device)


def _with_values_of(convention: str, rule: Preprocessing) -> Preprocessing:
    """A preparation that cuts pictures as `rule` does and gives them the values of a usual convention."""
    is_grey = rule.depth == 1
    usual = preset(convention, rule.size, grey=is_grey)
    return replace(rule, mean_image=None, channels=usual.channels, scale=usual.scale, mean=usual.mean, std=usual.std)
