"""Gradients on their way back through deep networks, with and without shortcuts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from skipway.claims.arm import Arm, Budget
from skipway.claims.cifar import measured_row
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, MUTED, SPREAD, curve, footed, panels
from skipway.claims.finished import Finished
from skipway.claims.mnist import MNIST
from skipway.claims.results import Measure, Outcome, Results, decided, measure
from skipway.models.catalog import find_spec
from skipway.models.network import Network
from skipway.reporting import counted
from skipway.training.recipes import CIFAR_RESNET

PICTURES = 64  # of the fixed batch
DENSE = {"plain_mlp_50": "plain 50", "highway_mlp_50": "highway 50"}
CONVOLUTIONAL = {
    "plain_56.cifar": "plain 56",
    "resnet_v1_56.cifar": "ResNet-56 v1",
    "resnet_v2_56.cifar": "ResNet-56 v2",
}
FIRST_WEIGHTS = {"glorot_uniform": "Glorot", "he": "He"}
# What is judged: a plain network and the same with shortcuts.
PAIRS = (
    ("plain_mlp_50-glorot_uniform", "highway_mlp_50-glorot_uniform"),
    ("plain_56.cifar", "resnet_v1_56.cifar"),
    ("plain_56.cifar", "resnet_v2_56.cifar"),
)
SHOWN = (("plain_mlp_50-he", "highway_mlp_50-he"),)
MOMENTS = {"initial": "at initialization", "trained": "after training"}


def arms(budget: Budget) -> tuple[Arm, ...]:
    """Fully connected networks with two kinds of first weights on MNIST, convolutional ones on CIFAR-10."""
    quick = budget == "quick"
    found = []
    for first_weights, weights_label in FIRST_WEIGHTS.items():
        for name, label in DENSE.items():
            spec = find_spec(name).replaced({"initialization": first_weights})
            recipe = MNIST.replaced(epochs=4 if quick else 40, learning_rate=0.01, clip_norm=1.0)
            arm = Arm(f"{name}-{first_weights}", f"{label}, {weights_label}", spec, recipe, data="mnist")
            if quick:
                arm = replace(arm, pictures=5_000, test_pictures=500)
            found.append(arm)
    for name, label in CONVOLUTIONAL.items():
        arm = Arm(name, label, measured_row(name), CIFAR_RESNET)
        if quick:
            recipe = CIFAR_RESNET.replaced(pictures=0, epochs=2, batch_size=64, learning_rate=0.02)
            arm = replace(arm, recipe=recipe, pictures=2_000, test_pictures=200)
        found.append(arm)
    return tuple(found)


def look(finished: Finished) -> dict[str, Any]:
    """Gradient norms by unit on one batch of training pictures, before and after training."""
    pictures, targets = finished.batch("train", PICTURES)
    looked: dict[str, Any] = {}
    for moment, network in (("initial", finished.initial()), ("trained", finished.trained())):
        names, outputs, weights = gradient_norms(network, pictures, targets)
        looked["units"] = names
        looked[f"{moment}_outputs"] = outputs
        looked[f"{moment}_weights"] = weights
    return looked


def gradient_norms(network: Network, pictures: Tensor, targets: Tensor) -> tuple[list[str], list[float], list[float]]:
    """The stem and the units, in forward order, with two norms of the loss's gradient for each.

    The first is with respect to what the unit gives, a picture's, root mean square over the batch. The second is with
    respect to all of the unit's weights, of the mean loss. Batch normalization uses the batch's statistics, as in
    training. The network's gradients are overwritten.
    """
    network.train()
    network.zero_grad(set_to_none=True)
    endpoints = network.forward_endpoints(pictures)
    units = {name: value for name, value in endpoints.items() if _is_unit(name)}
    for value in units.values():
        value.retain_grad()
    loss = F.cross_entropy(endpoints["logits"], targets)
    loss.backward()  # type: ignore[no-untyped-call]
    outputs = []
    weights = []
    for name, value in units.items():
        # The mean loss has a picture's gradient divided by their number.
        outputs.append(_norm([value.grad]) * math.sqrt(len(targets)))
        parameters = network.get_submodule(name).parameters()
        weights.append(_norm([parameter.grad for parameter in parameters]))
    return list(units), outputs, weights


def _is_unit(name: str) -> bool:
    """Whether an endpoint is the stem or a unit, by its name."""
    last_part = name.rpartition(".")[2]
    return name == "stem" or last_part.startswith("unit")


def _norm(gradients: list[Tensor | None]) -> float:
    """The norm of all gradients together, with five digits."""
    sums = []
    for gradient in gradients:
        if gradient is not None:
            # In float64: squares of what has vanished are below fp32's smallest numbers.
            squares = gradient.double().square()
            sums.append(float(squares.sum()))
    norm = math.sqrt(sum(sums))
    return float(f"{norm:.5g}")


def decades(results: Results, arm: str, name: str) -> np.ndarray:
    """log10 of the gradient at the first layer over that at the last, for each seed; NaN where it is 0."""
    norms = results.looked(arm, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(norms[:, 0] / norms[:, -1])
    return np.where(np.isfinite(found), found, np.nan)


def gap(results: Results, plain: str, shortcut: str, moment: str = "initial") -> Measure:
    """How many decades further from even the plain network's gradient is."""
    plain_decades = decades(results, plain, f"{moment}_outputs")
    shortcut_decades = decades(results, shortcut, f"{moment}_outputs")
    name = f"unevenness {MOMENTS[moment]}, {results.labels[plain]} minus {results.labels[shortcut]}"
    return measure(name, "decades", np.abs(plain_decades) - np.abs(shortcut_decades))


def judge(results: Results) -> Outcome:
    """Judges the gaps of the three pairs before training."""
    rows = []
    for moment, words in MOMENTS.items():
        for arm, label in results.labels.items():
            values = decades(results, arm, f"{moment}_outputs")
            rows.append(measure(f"{label}: first layer to last, {words}", "decades", values))
    effects = [gap(results, plain, shortcut) for plain, shortcut in PAIRS]
    shown = [gap(results, plain, shortcut) for plain, shortcut in SHOWN]
    return decided(effects, (*rows, *effects, *shown))


def draw(results: Results) -> Any:
    """The gradients over the layers: fully connected networks above, convolutional ones below; left before training,
    right after it.
    """
    figure, grid = panels(2, 2, width=5.4, height=3.3, sharex="row", sharey="row")
    dense_row, convolutional_row = grid
    for arm in results.labels:
        if "_mlp_" in arm:
            _draw_gradients(dense_row, results, arm, layers_a_unit=1)
        else:
            _draw_gradients(convolutional_row, results, arm, layers_a_unit=2)
    for row, networks in zip(grid, ("Fully connected, MNIST", "Convolutional, CIFAR-10"), strict=True):
        for axes, moment in zip(row, MOMENTS.values(), strict=True):
            axes.set(title=f"{networks}: {moment}", xlabel="layer (the gradient comes from the right)")
            axes.axhline(1, color=MUTED, linewidth=0.8)
        row[0].set(yscale="log", ylabel="gradient, relative to the last unit's")
        row[0].legend(fontsize=9)
    footed(
        figure,
        f"Norm of the loss's gradient with respect to the output of each unit, {PICTURES} training pictures; n = "
        f"{counted(len(results.seeds), 'seed')}.\n{SPREAD}.",
    )
    return figure


def _draw_gradients(row: Any, results: Results, arm: str, *, layers_a_unit: int) -> None:
    """An arm's gradients, relative to the last unit's, at both moments."""
    colour = _colour(arm)
    for axes, moment in zip(row, MOMENTS, strict=True):
        norms = results.looked(arm, f"{moment}_outputs")
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = norms / norms[:, -1:]
        layers = 1 + np.arange(norms.shape[1]) * layers_a_unit
        curve(axes, layers, relative, results.labels[arm], colour=colour, thick=True, dashed=arm.endswith("-he"))


def _colour(arm: str) -> str:
    """The colour of an arm, by the kind of its network."""
    if arm.startswith("plain"):
        return COLOURS[1]
    if arm.startswith("resnet_v2"):
        return COLOURS[2]
    return COLOURS[0]


CLAIM = Claim(
    name="vanishing-gradients",
    sentence="In deep plain networks gradients vanish or explode on their way back to the first layers; through "
    "shortcuts, gated or not, they arrive.",
    source="the usual reason given for residual networks, as in deeplearning.ai's course; Srivastava et al. 2015, "
    "section 1; He et al. 2015, sections 1 and 4.1; He et al. 2016, section 2",
    reported="no number; He et al. 2015 find that batch normalization keeps plain networks' gradients healthy",
    rule="Held when, before training, log10 of the gradient's norm at the first unit over that at the last is "
    "further from 0 in the plain network than in its counterpart with shortcuts, the 95 % interval of the difference "
    "above 0, in each of three pairs: fully connected with Glorot's weights, plain against highway; convolutional with "
    "He's weights and batch normalization, plain against ResNet v1 and against v2. Failed when one of the intervals "
    "lies below 0; undecided otherwise. The fully connected pair with He's weights, which were made to keep "
    "gradients even, is shown beside them and not judged.",
    said={
        "quick": "training is short: 5,000 pictures of MNIST for 4 epochs, 2,000 of CIFAR-10 for 2; the verdict rests "
        "on the first weights, which it does not change",
        "full": "all pictures; 40 epochs of MNIST, the 64,000 updates of He et al. 2015 on CIFAR-10",
    },
    seeds={"quick": 3, "full": 3},
    arms=arms,
    judge=judge,
    draw=draw,
    look=look,
)
