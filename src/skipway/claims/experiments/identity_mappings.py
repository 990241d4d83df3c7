"""A clean shortcut trains best: pre-activation when very deep, and what was tried on the shortcut (He et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skipway.claims.arm import Arm, Budget
from skipway.claims.cifar import (
    LATE,
    QUICK_TEST_PICTURES,
    draw_curves,
    draw_ends,
    full_recipe,
    late,
    late_errors,
    measured_row,
    on_smaller_maps,
    quick_recipe,
)
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, SPREAD, footed, panels
from skipway.claims.results import Outcome, Results, decided, measure
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.rows.depths import cifar_blocks
from skipway.reporting import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FULL_DEPTHS = (110, 164, 1001)
_QUICK_DEPTH, _QUICK_VARIANTS_DEPTH = 110, 20
_PICTURES, _EPOCHS = 1_500, 10

# Table 1: what stands in the place of the identity. The gates' first bias is the paper's best.
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "scale": ("scaled by 0.5", {"carry": "scale"}),
    "exclusive_gate": ("exclusive\ngate", {"carry": "exclusive_gate", "gate_bias": -6.0}),
    "shortcut_gate": ("shortcut\ngate", {"carry": "shortcut_gate", "gate_bias": -6.0}),
    "projection": ("1x1 conv", {"shortcut": "projection_all"}),
    "dropout": ("dropout", {"carry": "dropout"}),
}


def _arms(budget: Budget) -> tuple[Arm, ...]:
    """v1 and v2 of each depth, then v1 with each of the other shortcuts."""
    depths: tuple[int, ...] = (_QUICK_DEPTH,)
    variants_depth = _QUICK_VARIANTS_DEPTH
    if budget == "full":
        depths = _FULL_DEPTHS
        variants_depth = 110  # those of table 1, whose original is there already
    found = []
    for depth in depths:
        for version in (1, 2):
            spec = _network(version, depth)
            found.append(_arm(f"v{version}_{depth}", f"v{version}-{depth}", spec, budget))
    row = find_spec(f"resnet_v1_{variants_depth}.cifar")
    if budget == "quick":
        found.append(_arm("original", "identity", row, budget))
    for name, (label, fields) in _VARIANTS.items():
        found.append(_arm(name, label, row.replaced(fields), budget))
    return tuple(found)


def _network(version: int, depth: int) -> Spec:
    """The catalog's row, or, for v1 of bottlenecks, which it lacks, that of 110 layers with the units of v2's."""
    if version == 2 or depth == 110:
        return measured_row(f"resnet_v{version}_{depth}.cifar")
    fields = {"name": f"resnet_v1_{depth}.cifar", "blocks": cifar_blocks(depth), "shortcut": "projection"}
    return find_spec("resnet_v1_110.cifar").replaced(fields)


def _arm(name: str, label: str, spec: Spec, budget: Budget) -> Arm:
    """An arm with the paper's recipe and its warm-up; with the quick budget few epochs of few smaller maps."""
    if budget == "full":
        return Arm(name, label, spec, full_recipe(warm=True))
    recipe = quick_recipe(epochs=_EPOCHS, warm=True)
    return Arm(name, label, on_smaller_maps(spec), recipe, pictures=_PICTURES, test_pictures=QUICK_TEST_PICTURES)


def _depths(results: Results) -> list[int]:
    """The depths of which there are v1 and v2."""
    depths = []
    for arm in results.labels:
        if arm.startswith("v1_"):
            depths.append(int(arm.removeprefix("v1_")))
    return sorted(depths)


def _original(results: Results) -> str:
    """The arm that the variants are compared with."""
    if "original" in results.labels:
        return "original"
    return "v1_110"


def _judge(results: Results) -> Outcome:
    """Judges v1 minus v2 at the greatest depth, and the mean of the other shortcuts minus the identity."""
    errors = {arm: late(results, arm, "test_error") for arm in results.labels}
    by_depth = []
    for depth in _depths(results):
        difference = errors[f"v1_{depth}"] - errors[f"v2_{depth}"]
        by_depth.append(measure(f"v1 minus v2 with {depth} layers", "points", difference))
    identity = errors[_original(results)]
    variants = []
    better = []
    for arm, (label, _) in _VARIANTS.items():
        name = " ".join(label.split())
        row = measure(f"{name} minus identity", "points", errors[arm] - identity)
        variants.append(row)
        if row.interval is not None and row.interval.high < 0:
            better.append(name)
    mean_error = np.mean([errors[arm] for arm in _VARIANTS], axis=0)
    mean = measure("the mean of the five shortcuts minus identity", "points", mean_error - identity)
    outcome = decided((by_depth[-1], mean), (*late_errors(results), *by_depth, *variants, mean))
    if not better:
        return outcome
    verdict = outcome.verdict
    if verdict == "held":
        verdict = "undecided"
    return Outcome(verdict, f"{outcome.reason}; better than the identity here: {', '.join(better)}", outcome.measures)


def _draw(results: Results) -> Figure:
    """Curves of v1 and v2 as in figure 6, a panel for each depth; then table 1 as bars."""
    depths = _depths(results)
    ratios = {"width_ratios": [1.0] * len(depths) + [1.5]}
    figure, axes = panels(len(depths) + 1, height=4.2, width=5.0, gridspec_kw=ratios)
    for panel, depth in zip(axes, depths, strict=False):
        draw_curves(panel, results, {f"v1_{depth}": COLOURS[1], f"v2_{depth}": COLOURS[0]})
        panel.set(title=f"Original and pre-activation, {depth} layers")
    labels = {_original(results): "identity"}
    for arm, (label, _) in _VARIANTS.items():
        labels[arm] = label
    colours = (COLOURS[2], *[COLOURS[6]] * len(_VARIANTS))
    draw_ends(axes[-1], results, labels, colours)
    layers = 110
    if "original" in results.labels:
        layers = _QUICK_VARIANTS_DEPTH
    axes[-1].set(title=f"What stands on the shortcut (v1, {layers} layers): test error")
    seeds = counted(len(results.seeds), "seed")
    text = f"CIFAR-10, n = {seeds}, dots on the right; bars: means, black ticks: mean training error"
    footed(figure, f"{text}. {SPREAD}.")
    return figure


CLAIM = Claim(
    name="identity-mappings",
    sentence="Very deep residual networks train better when nothing stands on the shortcut: with pre-activation, and "
    "with the identity rather than scaling, gates, 1x1 convolutions or dropout.",
    source="He, Zhang, Ren, Sun 2016, Identity mappings in deep residual networks, figs. 2 and 6, tables 1 and 3",
    reported="CIFAR-10 test error, v1 and v2: 6.61 and 6.37 % with 110 layers, 5.93 and 5.46 % with 164, 7.61 and "
    "4.92 % with 1001; v1-110 with other shortcuts: scaled 12.35 %, exclusive gate 8.70 %, shortcut gate 6.91 %, 1x1 "
    "convolution 12.22 %, dropout above 20 %",
    rule=f"The test error is {LATE}. Held when the 95 % intervals, paired by seed, of (1) v1 minus v2 at the greatest "
    "depth and (2) the mean of the five other shortcuts minus the identity both lie above 0 and no single one of the "
    "five has its interval below 0; failed when (1) or (2) lies below 0; else undecided.",
    said={
        "quick": f"110 layers only, and the shortcuts with {_QUICK_VARIANTS_DEPTH}; {_PICTURES:,} pictures an epoch "
        f"and {_EPOCHS} epochs; a stride of 2 in the first convolution of all networks, which quarters their work; "
        "batches of 32 instead of 128: far too little training for the paper's errors",
        "full": "all 50,000 training pictures; the warm-up rises over the paper's 400 updates; v1 of 164 and 1001 "
        "layers has the projections of v2's where depths differ",
    },
    seeds={"quick": 3, "full": 3},
    arms=_arms,
    judge=_judge,
    draw=_draw,
)
