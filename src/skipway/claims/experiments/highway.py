"""Srivastava, Greff, Schmidhuber 2015, figures 1 and 2: highway networks train at depths where plain ones fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skipway.claims.arm import Arm, Budget
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, SPREAD, curve, footed
from skipway.claims.finished import Finished
from skipway.claims.mnist import MNIST
from skipway.claims.results import Outcome, Results, judged, measure
from skipway.models.catalog import find_spec
from skipway.models.network import Network
from skipway.reporting import counted

DEPTHS = (10, 20, 50, 100)
KINDS = ("plain", "highway")
GATED = "highway_50"  # whose gates are drawn
# Activation and peak rate of each network: the best of one grid for all, ReLU and tanh with rates from 0.001 to 1 in
# threefold steps, after eight epochs with a seed that the claim does not use (docs/log.md).
SETTINGS: dict[str, tuple[str, float]] = {
    "plain_10": ("tanh", 0.03),
    "plain_20": ("tanh", 0.01),
    "plain_50": ("tanh", 0.001),
    "plain_100": ("relu", 0.003),
    "highway_10": ("tanh", 0.1),
    "highway_20": ("tanh", 0.3),
    "highway_50": ("tanh", 0.3),
    "highway_100": ("tanh", 0.3),
}


def arms(budget: Budget) -> tuple[Arm, ...]:
    """Plain and highway networks of each depth, each with the settings that suit it best."""
    if budget == "quick":
        epochs, pictures, test_pictures = 10, 10_000, 1_000
    else:
        epochs, pictures, test_pictures = 400, 0, 0
    found = []
    for kind in KINDS:
        for depth in DEPTHS:
            name = f"{kind}_{depth}"
            activation, rate = SETTINGS[name]
            spec = find_spec(f"{kind}_mlp_{depth}").replaced({"activation": activation})
            recipe = MNIST.replaced(epochs=epochs, learning_rate=rate)
            label = f"{kind}, {depth} layers"
            arm = Arm(name, label, spec, recipe, data="mnist", pictures=pictures, test_pictures=test_pictures)
            found.append(arm)
    return tuple(found)


def growth(results: Results, kind: str) -> np.ndarray:
    """log10 of the last training loss with 100 layers over that with 10, for each seed."""
    deep = results.last(f"{kind}_{DEPTHS[-1]}", "train_loss")
    shallow = results.last(f"{kind}_{DEPTHS[0]}", "train_loss")
    return np.log10(deep / shallow)


def judge(results: Results) -> Outcome:
    """Judges by how much more the loss of plain networks grows with the depth."""
    rows = []
    for arm, label in results.labels.items():
        rows.append(measure(f"{label}: training loss", "nats", results.last(arm, "train_loss")))
    grown = {kind: growth(results, kind) for kind in KINDS}
    for kind, values in grown.items():
        rows.append(measure(f"{kind}: growth of the loss from 10 to 100 layers", "decades", values))
    effect = measure("growth of the loss, plain minus highway", "decades", grown["plain"] - grown["highway"])
    rows.append(effect)
    word, reason = judged(effect)
    return Outcome(word, reason, tuple(rows))


def look(finished: Finished) -> dict[str, Any]:
    """The gates of one network, (units, width) each: biases, mean outputs over the test pictures, outputs and the
    units' outputs for the first of them.
    """
    if finished.arm.name != GATED:
        return {}
    pictures, _ = finished.batch("test", 1_000)
    network = finished.trained()
    gates, outputs = gate_outputs(network, pictures)
    biases = [unit.gate.bias for unit in _units(network)]
    return {
        "gate_bias": _rounded(torch.stack(biases)),
        "gate_mean": _rounded(gates.mean(1)),
        "gate_one": _rounded(gates[:, 0]),
        "output_one": _rounded(outputs[:, 0]),
    }


def gate_outputs(network: Network, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """What every transform gate and every unit of a fully connected highway network gives, (units, N, width) each."""
    gates: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, value: Tensor) -> None:  # noqa: ARG001 (torch's signature of a hook)
        """Keeps what a gate gives."""
        gates.append(torch.sigmoid(value))

    handles = [unit.gate.register_forward_hook(keep) for unit in _units(network)]
    try:
        with torch.inference_mode():
            endpoints = network.forward_endpoints(pictures)
    finally:
        for handle in handles:
            handle.remove()
    outputs = [value for name, value in endpoints.items() if name.startswith("unit")]
    return torch.stack(gates), torch.stack(outputs)


def _units(network: Network) -> list[Any]:
    """The highway units, in forward order."""
    return [module for name, module in network.named_children() if name.startswith("unit")]


def _rounded(values: Tensor) -> list[list[float]]:
    """A matrix as lists, with the digits that a figure shows."""
    rows: list[list[float]] = []
    for row in values.tolist():
        rows.append([round(value, 4) for value in row])
    return rows


def draw(results: Results) -> Any:
    """Above the losses of all networks, a panel for each depth; below the gates of one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.2, 7.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    above, below = parts
    _draw_losses(above, results)
    _draw_gates(below, results)
    losses = f"Above: mean loss over the updates of each epoch; n = {counted(len(results.seeds), 'seed')}. {SPREAD}."
    gates = f"Below: seed {results.seeds[0]}, a square a gate; means over 1,000 test pictures."
    footed(figure, f"{losses}\n{gates}")
    return figure


def _draw_losses(figure: Any, results: Results) -> None:
    """The training losses over the epochs, a panel for each depth."""
    colours = {"plain": COLOURS[1], "highway": COLOURS[0]}
    panels = figure.subplots(1, len(DEPTHS), sharey=True)
    for axes, depth in zip(panels, DEPTHS, strict=True):
        for kind in KINDS:
            _, values = results.curves(f"{kind}_{depth}", "train_loss")
            epochs = np.arange(1, values.shape[1] + 1)
            curve(axes, epochs, values, kind, colour=colours[kind], thick=True)
        axes.set(yscale="log", xlabel="epochs", title=f"{depth} layers")
    first = figure.axes[0]
    first.set_ylabel("training loss, nats")
    first.legend()


_MAPS = {
    "gate_bias": "Biases of the gates",
    "gate_mean": "Gates, mean over pictures",
    "gate_one": "Gates, one picture",
    "output_one": "Outputs, same picture",
}


def _draw_gates(figure: Any, results: Results) -> None:
    """The gates of one network as pictures, a row for each layer, a column for each unit of the layer."""
    looked = results.of(GATED)[0].looked
    panels = figure.subplots(1, len(_MAPS), sharey=True)
    for axes, (name, title) in zip(panels, _MAPS.items(), strict=True):
        values = np.array(looked[name])
        layers, width = values.shape
        extent = (0.5, width + 0.5, layers + 1.5, 1.5)
        image = axes.imshow(values, extent=extent, aspect="auto", **_colour_scale(name, values))
        axes.set(title=title, xlabel="unit of the layer")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
    figure.axes[0].set_ylabel("layer of the 50-layer highway network")


def _colour_scale(name: str, values: np.ndarray) -> dict[str, Any]:
    """The colours of a map, and the values that the ends of their scale stand for."""
    if name == "gate_one":
        return {"cmap": "viridis", "vmin": 0, "vmax": 1}
    if name == "gate_mean":
        # Means lie close together: a scale of their own shows where the gates open at all.
        return {"cmap": "viridis", "vmin": 0, "vmax": values.max()}
    # Biases around where they began, outputs around 0.
    middle = 0.0
    if name == "gate_bias":
        spec = find_spec("highway_mlp_50")
        middle = float(spec.to_dict()["gate_bias"])
    reach = float(np.abs(values - middle).max()) or 1.0
    return {"cmap": "RdBu_r", "vmin": middle - reach, "vmax": middle + reach}


CLAIM = Claim(
    name="highway",
    sentence="Plain fully connected networks become much harder to train from 10 to 100 layers, highway networks "
    "with as many parameters far less.",
    source="Srivastava, Greff, Schmidhuber 2015, section 3.1 and figures 1 and 2",
    reported="plain networks of 10 and 20 layers fall below a mean cross-entropy of 1e-4 and deeper ones stay far "
    "above it; with 100 layers the highway network ends more than two orders of magnitude below the plain one",
    rule="Held when the 95 % interval of the growth of log10 of the last epoch's training loss from 10 to 100 layers, "
    "plain minus highway, paired by seed, lies above 0; failed when it lies below; undecided otherwise.",
    said={
        "quick": "10,000 training pictures of MNIST, 10 epochs, batches of 50; activation and learning rate by a grid "
        "of 14 settings a network instead of 100 random ones, gate biases by depth; all seeds of one setting instead "
        "of the best 10 settings",
        "full": "all 60,000 training pictures of MNIST, 400 epochs, batches of 50; the settings of the quick budget "
        "instead of a search",
    },
    seeds={"quick": 3, "full": 5},
    arms=arms,
    judge=judge,
    draw=draw,
    look=look,
)
