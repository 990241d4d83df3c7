"""Gradients on their way back through deep networks, with and without shortcuts."""

from __future__ import annotations

import math
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
    quick = budget == "quick"
    dense = tuple(
        Arm(
            f"{name}-{first}",
            f"{label}, {told}",
            find_spec(name).replaced({"initialization": first}),
            MNIST.replaced(epochs=4 if quick else 40, learning_rate=0.01, clip_norm=1.0),
            data="mnist",
            pictures=5_000 if quick else 0,
            test_pictures=500 if quick else 0,
        )
        for first, told in FIRST_WEIGHTS.items()
        for name, label in DENSE.items()
    )
    recipe = CIFAR_RESNET.replaced(pictures=0, epochs=2, batch_size=64, learning_rate=0.02) if quick else CIFAR_RESNET
    size: dict[str, Any] = {"pictures": 2_000, "test_pictures": 200} if quick else {}
    return (*dense, *(Arm(name, label, measured_row(name), recipe, **size) for name, label in CONVOLUTIONAL.items()))


def look(finished: Finished) -> dict[str, Any]:
    """Gradient norms by unit on one batch of training pictures, before and after training."""
    pictures, targets = finished.batch("train", PICTURES)
    looked: dict[str, Any] = {}
    for moment, network in (("initial", finished.initial()), ("trained", finished.trained())):
        names, outputs, weights = gradient_norms(network, pictures, targets)
        looked |= {"units": names, f"{moment}_outputs": outputs, f"{moment}_weights": weights}
    return looked


def gradient_norms(network: Network, pictures: Tensor, targets: Tensor) -> tuple[list[str], list[float], list[float]]:
    """The stem and the units, in forward order, with the norms of the loss's gradient with respect to what each gives
    (a picture's, root mean square over the batch) and with respect to all of its weights (of the mean loss).

    Batch normalization uses the batch's statistics, as in training. The network's gradients are overwritten.
    """
    network.train()
    network.zero_grad(set_to_none=True)
    endpoints = {
        name: value for name, value in network.forward_endpoints(pictures).items() if name == "logits" or _is_unit(name)
    }
    for value in endpoints.values():
        value.retain_grad()
    loss = F.cross_entropy(endpoints.pop("logits"), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    # The mean loss has a picture's gradient divided by their number.
    outputs = [_norm([value.grad]) * math.sqrt(len(targets)) for value in endpoints.values()]
    weights = [_norm([one.grad for one in network.get_submodule(name).parameters()]) for name in endpoints]
    return list(endpoints), outputs, weights


def _is_unit(name: str) -> bool:
    return name == "stem" or name.rpartition(".")[2].startswith("unit")


def _norm(gradients: list[Tensor | None]) -> float:
    # In float64: squares of what has vanished are below fp32's smallest numbers.
    squares = sum(float(one.double().square().sum()) for one in gradients if one is not None)
    return float(f"{math.sqrt(squares):.5g}")


def decades(results: Results, arm: str, name: str) -> np.ndarray:
    """log10 of the gradient at the first layer over that at the last, for each seed; NaN where it is 0."""
    norms = results.looked(arm, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(norms[:, 0] / norms[:, -1])
    return np.where(np.isfinite(found), found, np.nan)


def gap(results: Results, plain: str, shortcut: str, moment: str = "initial") -> Measure:
    """How many decades further from even the plain network's gradient is."""
    values = np.abs(decades(results, plain, f"{moment}_outputs")) - np.abs(
        decades(results, shortcut, f"{moment}_outputs")
    )
    name = f"unevenness {MOMENTS[moment]}, {results.labels[plain]} minus {results.labels[shortcut]}"
    return measure(name, "decades", values)


def judge(results: Results) -> Outcome:
    rows = [
        measure(f"{label}: first layer to last, {told}", "decades", decades(results, arm, f"{moment}_outputs"))
        for moment, told in MOMENTS.items()
        for arm, label in results.labels.items()
    ]
    effects = [gap(results, *pair) for pair in PAIRS]
    rows += [*effects, *(gap(results, *pair) for pair in SHOWN)]
    return decided(effects, rows)


def draw(results: Results) -> Any:
    figure, grid = panels(2, 2, width=5.4, height=3.3, sharex="row", sharey="row")
    colours = {"plain": COLOURS[1], "highway": COLOURS[0], "resnet_v1": COLOURS[0], "resnet_v2": COLOURS[2]}
    for arm, label in results.labels.items():
        dense = "_mlp_" in arm
        kind = next(one for one in colours if arm.startswith(one))
        for axes, moment in zip(grid[0 if dense else 1], MOMENTS, strict=True):
            norms = results.looked(arm, f"{moment}_outputs")
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = norms / norms[:, -1:]
            # A unit of the convolutional networks has two layers.
            layers = 1 + np.arange(norms.shape[1]) * (1 if dense else 2)
            curve(axes, layers, relative, label, colour=colours[kind], thick=True, dashed=arm.endswith("-he"))
    for row, told in zip(grid, ("Fully connected, MNIST", "Convolutional, CIFAR-10"), strict=True):
        for axes, moment in zip(row, MOMENTS.values(), strict=True):
            axes.set(title=f"{told}: {moment}", xlabel="layer (the gradient comes from the right)")
            axes.axhline(1, color=MUTED, linewidth=0.8)
        row[0].set(yscale="log", ylabel="gradient, relative to the last unit's")
        row[0].legend(fontsize=9)
    footed(
        figure,
        f"Norm of the loss's gradient with respect to the output of each unit, {PICTURES} training pictures; n = "
        f"{len(results.seeds)} seeds.\n{SPREAD}.",
    )
    return figure


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
