"""skipway's side of signs_vs_keras: the steps of `skipway train DATA --model resnet_v1_50.signs --recipe signs`."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

import torch
from stretch import Stretch, leave, run_side, side_options

from skipway.errors import SkipwayError
from skipway.machine import versions
from skipway.training.console import Silent
from skipway.training.job import request_of
from skipway.training.run import build_loop, prepared
from skipway.training.world import World, joined_world


class _EnoughError(Exception):
    """All steps are measured."""


class _Timer(Silent):
    """A reporter that times the steps of a run and ends it when there are enough."""

    def __init__(self, stretch: Stretch) -> None:
        self.stretch, self.loss = stretch, float("nan")

    def step(self, epoch: int, done: int, total: int, figures: dict[str, float]) -> None:  # noqa: ARG002
        self.stretch.step()
        self.loss = figures["loss"]
        if self.stretch.full:
            raise _EnoughError


def train(options: argparse.Namespace, world: World) -> None:
    """Train in the run folder `options.out` until enough steps are measured, and tell."""
    stretch = Stretch("skipway", warmup=options.warmup, steps=options.steps)
    timer = _Timer(stretch)
    request, recipe = request_of(
        options.data, model="resnet_v1_50.signs", recipe="signs", device="cpu", out=str(options.out)
    )
    loop = build_loop(prepared(request, recipe, timer, overwrite=False), world, timer)
    if loop.updater.precision != torch.float32:
        leave(f"skipway would train in {loop.updater.precision}; the comparison is of float32")
    stretch.plan(loop.plan.length, loop.plan.batch_size, loop.plan.steps_per_epoch)
    options.out.mkdir(parents=True, exist_ok=True)
    with suppress(_EnoughError):
        loop.run()
    stretch.tell(
        parameters=sum(one.numel() for one in loop.updater.network.parameters() if one.requires_grad),
        loss=timer.loss,
        threads=torch.get_num_threads(),
        versions={name: value for name, value in versions(world.device).items() if name != "device"},
        decoders=loop.workers,
    )


def main() -> None:
    """Measure one stretch."""
    parser = side_options("Time skipway's training of the hand-signs ResNet50.")
    parser.add_argument("--out", type=Path, required=True, help="new run folder")
    options = parser.parse_args()
    try:
        with joined_world("cpu") as world:
            train(options, world)
    except SkipwayError as error:
        leave(str(error))


if __name__ == "__main__":
    run_side(main)
