"""Whether a model is given its pictures as in its training: what its normalizations stored tells."""

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
    """The `figure` of the model's own preparation over some of the pictures, and the convention that fits best of the
    others, "" where none was compared or none fits clearly better.
    """

    figure: float
    pictures: int
    better: str = ""
    better_figure: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told: dict[str, Any] = {"figure": self.figure, "pictures": self.pictures}
        return told | ({"better": self.better, "better_figure": self.better_figure} if self.better else {})

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
    """How a model's statistics fit some pictures of a split, evenly chosen; None for one without normalizations, or one
    that normalizes with the statistics of the batch. It takes as long as a few dozen pictures more.
    """
    norm = getattr(classifier.spec, "norm", None)
    if getattr(norm, "statistics", "") != "running":
        return None
    counts = _counts(classifier, split)
    if counts is None:
        return None
    own = fit_of_counts(classifier.network, classifier.preprocessing, counts)
    if own is None:
        return None
    found = Feeding(own.figure, own.pictures)
    if own.figure <= WELL_FED or not is_quick(classifier.spec):
        return found
    others = {name: _figure(classifier, rule, counts) for name, rule in _other_values(classifier.preprocessing).items()}
    best = min(others, key=lambda name: others[name])
    if others[best] > POOR or CLOSE * others[best] > own.figure:
        return found
    return replace(found, better=best, better_figure=others[best])


def _counts(classifier: Classifier, split: Split) -> Tensor | None:
    """Pictures cut to size, (N, C, size, size); None where none of them can be read."""
    number = min(len(split), pictures_for(classifier.spec))
    found = []
    for index in np.linspace(0, len(split) - 1, number).astype(int):
        try:
            found.append(classifier.preprocessing.pixels(split.pictures[int(index)]))
        except PictureError:
            continue
    return torch.stack(found).to(classifier.device) if found else None


def _other_values(rule: Preprocessing) -> dict[str, Preprocessing]:
    """The values of the usual conventions for pictures cut as they are."""
    found = {}
    for name in CONVENTIONS:
        usual = preset(name, rule.size, grey=rule.depth == 1)
        values = {part: getattr(usual, part) for part in ("channels", "scale", "mean", "std")}
        found[name] = replace(rule, mean_image=None, **values)
    return found


def _figure(classifier: Classifier, rule: Preprocessing, counts: Tensor) -> float:
    fit = fit_of_counts(classifier.network, rule, counts)
    assert fit is not None
    return fit.figure
