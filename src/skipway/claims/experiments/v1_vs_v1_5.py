"""Where a bottleneck has its stride: in its first 1x1 (v1) or in its 3x3 (v1.5)."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from skipway.claims.arm import Arm, Budget
from skipway.claims.cifar import (
    LATE,
    QUICK_EPOCHS,
    QUICK_PICTURES,
    draw_curves,
    full_or_quick_arm,
    late,
    late_errors,
)
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, MUTED, SPREAD, dots, footed, panels
from skipway.claims.results import Outcome, Results, decided, measure
from skipway.models.blocks import stage
from skipway.models.catalog import find_spec
from skipway.models.network import Network, Spec
from skipway.reporting import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skipway.claims.finished import Finished

_VERSIONS = {"v1": ("v1: stride in the 1x1", "first"), "v1.5": ("v1.5: stride in the 3x3", "middle")}
# Units in each of the four stages, and the width of the first: 26 layers, or the 50 of ResNet-50.
_SHAPE: dict[Budget, tuple[tuple[int, ...], int]] = {"quick": ((2, 2, 2, 2), 16), "full": ((3, 4, 6, 3), 64)}
_TIMED_BATCH, _TIMED_ROUNDS = 32, 15


def _arms(budget: Budget) -> tuple[Arm, ...]:
    """The same network with its strides in one place and in the other."""
    found = []
    for name, (label, place) in _VERSIONS.items():
        spec = _network(budget, place)
        found.append(full_or_quick_arm(name, label, spec, budget))
    return tuple(found)


def _network(budget: Budget, place: str) -> Spec:
    """ResNet-50's four stages of bottlenecks behind the CIFAR networks' stem, with projections where depths differ."""
    units, width = _SHAPE[budget]
    stages = []
    for number, count in enumerate(units, 1):
        stride = 1 if number == 1 else 2
        stages.append(stage(f"stage{number}", "bottleneck", width, count, stride=stride))
        width *= 2
    layers = 3 * sum(units) + 2
    fields = {
        "name": f"resnet_v1_{layers}.cifar",
        "blocks": tuple(stages),
        "shortcut": "projection",
        "stride_in": place,
    }
    return find_spec("resnet_v1_20.cifar").replaced(fields)


def _look(finished: Finished) -> dict[str, Any]:
    """Pictures a second in training for both places of the stride, in turns, beside the run of v1.5."""
    if finished.arm.name != "v1.5":
        return {}
    x, targets = finished.batch("train", _TIMED_BATCH)
    x = x.contiguous(memory_format=torch.channels_last)
    networks = {}
    seconds: dict[str, list[float]] = {}
    for name, (_, place) in _VERSIONS.items():
        spec = finished.arm.spec.replaced({"stride_in": place})
        network = spec.build().to(finished.device)
        networks[name] = network.to(memory_format=torch.channels_last).train()
        seconds[name] = []
    for number in range(_TIMED_ROUNDS + 2):
        for name, network in networks.items():
            taken = _step_seconds(network, x, targets)
            if number >= 2:  # the first rounds fill caches
                seconds[name].append(taken)
    times = {name: len(targets) / float(np.median(taken)) for name, taken in seconds.items()}
    # Round by round, so that what else the machine does falls on both alike.
    ratios = np.divide(seconds["v1"], seconds["v1.5"])
    times["ratio"] = float(np.median(ratios))
    return {"times": times}


def _step_seconds(network: Network, x: torch.Tensor, targets: torch.Tensor) -> float:
    """How long a forward and a backward pass take."""
    begun = time.perf_counter()
    loss = F.cross_entropy(network(x), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - begun


def _judge(results: Results) -> Outcome:
    """Judges the test errors; the speeds are rows of the table."""
    v1 = late(results, "v1", "test_error")
    v1_5 = late(results, "v1.5", "test_error")
    effect = measure("test error of v1 minus that of v1.5", "points", v1 - v1_5)
    rows = [*late_errors(results), effect]
    for arm in _VERSIONS:
        rows.append(measure(f"{arm}: pictures trained on a second", "pictures/s", _timed(results, arm)))
    rows.append(measure("speed of v1.5 over that of v1", "speed", _timed(results, "ratio")))
    return decided((effect,), rows)


def _timed(results: Results, name: str) -> list[float]:
    """A figure of `_look` for each seed, NaN where it was not measured."""
    return [trial.times.get(name, math.nan) for trial in results.of("v1.5")]


def _draw(results: Results) -> Figure:
    """The curves, the test errors at the end, the speeds."""
    figure, (left, middle, right) = panels(3, height=4.0, width=4.0, gridspec_kw={"width_ratios": [1.5, 1, 1]})
    colours = (COLOURS[1], COLOURS[0])
    draw_curves(left, results, dict(zip(_VERSIONS, colours, strict=True)))
    errors = {arm: late(results, arm, "test_error") for arm in _VERSIONS}
    dots(middle, errors, colours=colours)
    ratio = np.array(_timed(results, "ratio"))
    known = ratio[np.isfinite(ratio)]
    dots(right, {"v1.5 over v1": known}, colours=colours[1:], form="{:.2f}")
    right.axhline(1, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    left.set(title="Curves")
    middle.set(title="Test error at the end", ylabel="test error (%)")
    right.set(title="Training speed", ylabel="ratio of pictures a second")
    marks = "dots are seeds, thick lines means, upright ones their 95 % intervals"
    footed(figure, f"CIFAR-10, n = {counted(len(results.seeds), 'seed')}. {SPREAD}; {marks}.")
    return figure


CLAIM = Claim(
    name="v1-vs-v1.5",
    sentence="A bottleneck with its stride in the 3x3 convolution (v1.5) is more accurate than with it in the first "
    "1x1 (v1), and a little slower.",
    source="fb.resnet.torch and torchvision against He et al. 2015, table 1; NVIDIA's notes on its ResNet-50 v1.5",
    reported="ImageNet, ResNet-50: about 0.5 points of top-1 accuracy more, about 5 % fewer pictures a second",
    rule=f"The test error is {LATE}. Held when the 95 % interval, paired by seed, of v1 minus v1.5 lies above 0; "
    "failed when it lies below; else undecided. The speed, a median of training steps of both in turns, is told and "
    "judges nothing.",
    said={
        "quick": "CIFAR-10 with 26 layers behind a 3x3 stem, strides in stages 2 to 4, instead of ImageNet with 50; "
        f"{QUICK_PICTURES:,} pictures an epoch and {QUICK_EPOCHS} epochs; a stride of 2 in the first "
        "convolution of both networks, which quarters their work; batches of 32 instead of 128",
        "full": "CIFAR-10 with ResNet-50's stages behind a 3x3 stem instead of ImageNet; the CIFAR networks' recipe",
    },
    seeds={"quick": 5, "full": 5},
    arms=_arms,
    judge=_judge,
    draw=_draw,
    look=_look,
)
