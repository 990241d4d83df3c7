"""The step under the clock: one batch through an engine, or one update of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skipway.benchmark.subject import Subject
from skipway.data.loading import Batch
from skipway.drawing.tracing import on_meta, trace
from skipway.errors import SkipwayError
from skipway.inference.engines import Precision, open_engine, pick_engine
from skipway.models.network import Spec
from skipway.training.recipe import Recipe
from skipway.training.start import freeze_stages
from skipway.training.updater import Updater, compiles
from skipway.world.ranks import World

Say = Callable[[str], None]
CALIBRATION = 32  # pictures for int8


@dataclass(frozen=True)
class Workload:
    """`step` does the work once; `engine` is the name of what does it."""

    engine: str
    step: Callable[[], object]


def forward_work(
    subject: Subject, *, engine: str, precision: Precision, batch_size: int, device: torch.device, seed: int, say: Say
) -> Workload:
    """A forward pass of a batch of random pictures, which lies on the device already.

    `engine` is a name of `inference.engines`, or `auto` for the fastest; `say` hears which one it is. Raises
    SkipwayError where this machine lacks the engine.
    """
    network = subject.build()
    calibration: list[Tensor] = []
    if precision == "int8":  # the ranges change its answers, not its speed
        calibration.append(random_pictures(subject.spec, CALIBRATION, seed))
    if engine == "auto":
        opened = pick_engine(
            network, batch_size=batch_size, precision=precision, device=device, calibration=calibration, tell=say
        )
    else:
        opened = open_engine(
            engine, network, batch_size=batch_size, precision=precision, device=device, calibration=calibration
        )
    inputs = random_pictures(subject.spec, batch_size, seed).to(device)
    return Workload(opened.name, lambda: opened(inputs))


def random_pictures(spec: Spec, batch_size: int, seed: int) -> Tensor:
    """fp32 (N, C, S, S) uniform from 0 to 1, as standardization leaves them in memory, a function of the seed."""
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(batch_size, *_shape(spec), generator=draws)


def training_work(
    subject: Subject,
    recipe: Recipe,
    *,
    engine: str = "auto",
    precision: Precision,
    batch_size: int,
    device: torch.device,
    seed: int,
    steps: int,
) -> Workload:
    """Updates number 0 to `steps` as `skipway train` makes them, on one uint8 batch that is decoded already.

    What `recipe` asks of an update is in it: augmentation on the device, the optimizer, the average of the weights.
    Reading, decoding and cropping pictures is not. `engine` is `eager`, `compile`, or `auto` for the recipe's own way.
    Raises SkipwayError.
    """
    _require_classifier(subject.spec)
    parts = min(recipe.accumulation, batch_size)
    recipe = recipe.replaced(precision=precision, batch_size=batch_size, accumulation=parts)
    if engine != "auto":
        compiled = "on" if engine == "compile" else "off"
        recipe = recipe.replaced(compile=compiled)
    network = copy.deepcopy(subject.build())  # a model file's weights stay as they are
    normalizes = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if normalizes and batch_size < 2:
        raise SkipwayError(f"batch normalization trains on 2 pictures or more; raise --batch-size {batch_size}")
    colours = None
    if recipe.augmentation.lighting:
        colours = torch.eye(subject.spec.in_channels)
    updater = Updater(
        network,
        recipe,
        subject.preprocessing,
        World(0, 1, device),
        seed=seed,
        total_steps=steps,
        frozen=freeze_stages(network, recipe.freeze),
        class_weights=None,
        colours=colours,
    )
    updater.train_mode()
    batch = _random_batch(subject.spec, batch_size, seed)
    if device.type == "cuda":  # as the loader hands it over
        batch = batch._replace(pixels=batch.pixels.pin_memory(), targets=batch.targets.pin_memory())
    name = "compile" if compiles(recipe, device, steps) else "eager"
    numbers = iter(range(steps))
    return Workload(name, lambda: updater.update(batch, next(numbers)))


def _require_classifier(spec: Spec) -> None:
    """Raises SkipwayError for a network that does not end in one number a class for the whole picture."""
    outputs = list(trace(on_meta(spec)).values())
    last_shape = outputs[-1].shape
    if not spec.num_classes or len(last_shape) != 1:
        raise SkipwayError(f"{spec.name} has no classifier of whole pictures to train; measure --mode forward")


def _random_batch(spec: Spec, batch_size: int, seed: int) -> Batch:
    """uint8 pictures with classes, a function of the seed."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (batch_size, *_shape(spec)), dtype=torch.uint8, generator=draws)
    targets = torch.randint(0, spec.num_classes, (batch_size,), generator=draws)
    numbers = torch.arange(batch_size)
    return Batch(pixels, targets, numbers, 0, 0)


def _shape(spec: Spec) -> tuple[int, int, int]:
    """The shape of a picture: channels, height, width."""
    side = spec.input_size
    return spec.in_channels, side, side
