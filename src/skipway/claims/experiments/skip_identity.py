"""A residual block whose weights are near 0 is the identity: shown on weights and outputs of trained networks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skipway.claims.arm import Arm, Budget
from skipway.claims.cifar import measured_row
from skipway.claims.claim import Claim
from skipway.claims.figures import COLOURS, SPREAD, curve, footed, panels
from skipway.claims.finished import Finished
from skipway.claims.results import Measure, Outcome, Results, judged, measure
from skipway.models.network import Network
from skipway.models.plain import PlainUnit
from skipway.reporting import counted
from skipway.training.recipes import CIFAR_RESNET

SCALES = (1.0, 0.5, 0.1, 0.01, 0.0)
STRONG = 0.03
RESIDUAL = ("v1", "v1_decay", "v2", "v2_decay")
_BLOCKS = ("1.1", "1.2", "1.3", "2.2", "2.3", "3.2", "3.3")  # stage and unit; the others change the shape
_PICTURES = 200  # that blocks are looked at with
_NETWORKS = {"v1": "resnet_v1_20.cifar", "v2": "resnet_v2_20.cifar", "plain": "plain_20.cifar"}
_LABELS = {"v1": "ResNet-20 v1", "v2": "ResNet-20 v2", "plain": "plain 20"}


def arms(budget: Budget) -> tuple[Arm, ...]:
    """Residual networks of both versions, without and with a strong weight decay, and the plain network."""
    recipe = CIFAR_RESNET
    pictures = test_pictures = 0
    if budget == "quick":
        recipe = CIFAR_RESNET.replaced(pictures=0, epochs=5, batch_size=32, learning_rate=0.05)
        pictures, test_pictures = 2_000, 500
    found = []
    for name in (*RESIDUAL, "plain"):
        kind, _, strong = name.partition("_")
        decay = STRONG if strong else 0.0
        label = _LABELS[kind]
        if kind != "plain":
            label += f", weight decay {decay:g}"
        spec = measured_row(_NETWORKS[kind])
        own_recipe = recipe.replaced(weight_decay=decay)
        found.append(Arm(name, label, spec, own_recipe, pictures=pictures, test_pictures=test_pictures))
    return tuple(found)


def look(finished: Finished) -> dict[str, Any]:
    """For every block that keeps its input's shape: how far it is from the identity with its last weights scaled, the
    branch's share, and the network's test error with the block's weights at 0.
    """
    network = finished.trained()
    pictures, targets = finished.batch("test", _PICTURES)
    distances = []
    shares = []
    errors_without = []
    with torch.inference_mode():
        blocks = {name: unit for name, unit in network.named_modules() if keeps_shape(unit)}
        inputs = _inputs(network, blocks, pictures)
        for name, unit in blocks.items():
            distances.append([distance(unit, inputs[name], scale) for scale in SCALES])
            shares.append(share(unit, inputs[name]))
        error = _error(network, pictures, targets)
        for unit in blocks.values():
            with scaled(unit, 0.0):
                errors_without.append(_error(network, pictures, targets))
    return {
        "blocks": list(blocks),
        "distance": distances,
        "share": shares,
        "error": error,
        "error_without": errors_without,
    }


def keeps_shape(module: nn.Module) -> bool:
    """Whether a module is a block with an identity shortcut, or a plain one that could have one."""
    if isinstance(module, PlainUnit):
        same_size = module.conv1.stride == (1, 1)
        same_depth = module.conv1.in_channels == module.conv2.out_channels
        return same_size and same_depth
    if not isinstance(getattr(module, "shortcut", None), nn.Identity):
        return False
    # The first of v2 adds the pre-activation instead of its input: no identity, whatever its weights.
    return not getattr(module, "shared", False)


def last_linear(unit: Any) -> nn.Module:
    """What holds the W and b of a branch's last layer, z = W a + b.

    In v2 it is the convolution. In v1 and the plain block the convolution is followed by normalization, which undoes
    any scaling of W. There it is the normalization, whose scale and bias are those of the two taken as one.
    """
    if hasattr(unit, "preact"):
        return unit.conv2
    return unit.norm2


@contextlib.contextmanager
def scaled(unit: nn.Module, scale: float) -> Iterator[None]:
    """The block with its branch's last weights and biases times `scale` while the context lasts."""
    layer = last_linear(unit)
    before = {name: value.clone() for name, value in layer.named_parameters()}
    try:
        for value in layer.parameters():
            value.mul_(scale)
        yield
    finally:
        for name, value in layer.named_parameters():
            value.copy_(before[name])


def distance(unit: nn.Module, x: Tensor, scale: float) -> float:
    """||unit(x) - x|| / ||x|| with the branch's last weights scaled."""
    with scaled(unit, scale):
        difference = unit(x) - x
        return float(difference.norm() / x.norm())


def share(unit: nn.Module, x: Tensor) -> float:
    """||F(x)|| / ||x||: what the branch gives, before it meets the shortcut, over what the block is given."""
    norms: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, value: Tensor) -> None:  # noqa: ARG001 (torch's signature of a hook)
        """Keeps the norm of what the branch gives."""
        norms.append(value.norm())

    handle = last_linear(unit).register_forward_hook(keep)
    try:
        unit(x)
    finally:
        handle.remove()
    return float(norms[0] / x.norm())


def _inputs(network: Network, blocks: dict[str, nn.Module], pictures: Tensor) -> dict[str, Tensor]:
    """What each block is given, by its name, in a forward pass of these pictures."""
    found: dict[str, Tensor] = {}

    def keep_as(name: str) -> Callable[[nn.Module, Any], None]:
        """A hook that keeps the input of the block of that name."""

        def keep(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001 (torch's signature of a hook)
            """Keeps the input."""
            found[name] = inputs[0].clone()

        return keep

    handles = [unit.register_forward_pre_hook(keep_as(name)) for name, unit in blocks.items()]
    try:
        network(pictures)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _error(network: Network, pictures: Tensor, targets: Tensor) -> float:
    """The share of these pictures that the network gets wrong."""
    answers = network(pictures).argmax(1)
    return float((answers != targets).float().mean())


def rise(results: Results, arm: str) -> np.ndarray:
    """Points of test error that zeroing one block's weights costs, mean over the blocks, for each seed."""
    without = results.looked(arm, "error_without").mean(1)
    return 100 * (without - results.looked(arm, "error"))


def judge(results: Results) -> Outcome:
    """Judges that zeroed residual blocks are the identity, and what a zeroed plain block costs more than these."""
    rows: list[Measure] = []
    for arm, label in results.labels.items():
        distances = results.looked(arm, "distance").mean(1)  # over the blocks
        for place, scale in enumerate(SCALES):
            if scale in (1.0, 0.01, 0.0):
                name = f"{label}: distance from the identity, weights times {scale:g}"
                rows.append(measure(name, "", distances[:, place]))
    for arm in RESIDUAL:
        shares = results.looked(arm, "share").mean(1)
        rows.append(measure(f"{results.labels[arm]}: share of the branch", "", shares))
    for arm, label in results.labels.items():
        rows.append(measure(f"{label}: test error", "%", 100 * results.looked(arm, "error")))
        rows.append(measure(f"{label}: rise of the test error, one block at 0", "points", rise(results, arm)))
    more = rise(results, "plain") - rise(results, "v1")
    effect = measure("rise of the test error with one block at 0, plain minus residual v1", "points", more)
    rows.append(effect)
    at_zero = [results.looked(arm, "distance")[:, :, -1] for arm in RESIDUAL]
    furthest = max(float(distances.max()) for distances in at_zero)
    if furthest != 0:
        reason = f"a residual block with weights of 0 is {furthest:.2g} away from the identity"
        return Outcome("failed", reason, tuple(rows))
    word, reason = judged(effect)
    return Outcome(word, f"every residual block with weights of 0 is exactly the identity; {reason}", tuple(rows))


def draw(results: Results) -> Any:
    """Left the distance from the identity, in the middle the cost of one block at 0, right the branch's share."""
    figure, (left, middle, right) = panels(3, width=4.5, height=4.0)
    colours = {"plain": COLOURS[1], "v1": COLOURS[0], "v2": COLOURS[2]}
    for arm, colour in colours.items():
        _draw_distances(left, results, arm, colour)
        errors = 100 * results.looked(arm, "error_without")
        curve(middle, _places(results, arm), errors, _LABELS[arm], colour=colour, thick=True)
        whole = 100 * results.looked(arm, "error").mean()
        middle.axhline(whole, color=colour, linewidth=1, linestyle=(0, (2, 2)))
    highest = 0.0
    for arm in RESIDUAL:
        version, _, strong = arm.partition("_")
        shares = results.looked(arm, "share")
        highest = max(highest, shares.max())
        label, colour = results.labels[arm], colours[version]
        curve(right, _places(results, arm), shares, label, colour=colour, thick=True, dashed=bool(strong))
    # A linear piece below 0.01 makes room for 0 on a logarithmic axis.
    left.set_xscale("symlog", linthresh=0.01, linscale=0.5)
    left.set_yscale("symlog", linthresh=0.001, linscale=0.5)
    left.set(xlabel="factor on the last weights of the block", ylabel="||block(x) - x|| / ||x||")
    left.set_xticks(SCALES, [f"{scale:g}" for scale in SCALES])
    left.set(title="Distance from the identity", ylim=(-0.0002, None))
    middle.set(
        xlabel="block (stage.unit) whose weights are 0", ylabel="test error, %", title="One block at 0", ylim=(0, 100)
    )
    right.set(xlabel="block (stage.unit)", ylabel="||F(x)|| / ||x||", title="Share of the branch")
    right.set_ylim(0, 1.4 * highest)  # room for the legend
    for axes in (middle, right):
        axes.set_xticks(range(len(_BLOCKS)), _BLOCKS)
    for axes, place in ((left, "lower right"), (middle, "lower left"), (right, "upper right")):
        axes.legend(fontsize=9, loc=place)
    footed(
        figure,
        f"Blocks that keep the shape of their input, {_PICTURES} test pictures, after training; n = "
        f"{counted(len(results.seeds), 'seed')}.\n{SPREAD}; left, thin lines are single blocks; middle, dotted "
        "lines are the whole networks.",
    )
    return figure


def _places(results: Results, arm: str) -> np.ndarray:
    """Where an arm's blocks stand on the axis of all blocks."""
    places = []
    for name in results.of(arm)[0].looked["blocks"]:
        short_name = name.replace("stage", "").replace("unit", "")
        places.append(_BLOCKS.index(short_name))
    return np.array(places)


def _draw_distances(axes: Any, results: Results, arm: str, colour: str) -> None:
    """The distances of an arm's blocks over the scale of their weights, and their mean."""
    values = results.looked(arm, "distance").mean(0)  # (blocks, scales)
    axes.plot(SCALES, values.T, color=colour, linewidth=0.7, alpha=0.45)
    axes.plot(SCALES, values.mean(0), "o-", color=colour, linewidth=2.2, markersize=4, label=_LABELS[arm])


CLAIM = Claim(
    name="skip-identity",
    sentence="With its weights near 0 a residual block is the identity, so that a network can skip it; a plain "
    "block is not.",
    source="deeplearning.ai's course on convolutional networks (why ResNets work): a[l+2] = g(z[l+2] + a[l]) = a[l] "
    "where W[l+2] and b[l+2] are 0; He et al. 2015, section 3.1",
    reported="an argument, no number",
    rule="Held when every residual block with an identity shortcut, v1 and v2, gives exactly its input once the last "
    "weights and biases of its branch are 0, in every seed, and the 95 % interval of what that costs in test error "
    "(mean over the blocks, one at 0 at a time), plain network minus residual v1, lies above 0. Failed when a block is "
    "not the identity or the interval lies below 0; undecided otherwise.",
    said={
        "quick": "2,000 training pictures of CIFAR-10, 5 epochs, batches of 32; blocks are looked at with 200 test "
        "pictures",
        "full": "all of CIFAR-10 with the recipe of He et al. 2015; blocks are looked at with 200 test pictures",
    },
    seeds={"quick": 3, "full": 3},
    arms=arms,
    judge=judge,
    draw=draw,
    look=look,
)
