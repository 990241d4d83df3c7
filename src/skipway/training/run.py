"""`train` and `resume`: from a request to a finished run folder."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from torch import nn

from skipway.data.augmentation import principal_colours
from skipway.data.loading import Plan
from skipway.data.preprocessing import Preprocessing
from skipway.errors import RecipeError, RunError
from skipway.models.catalog import spec_from_dict
from skipway.training.console import Reporter, Silent
from skipway.training.finish import RunResult, finish
from skipway.training.job import (
    Options,
    Request,
    Start,
    adapt_recipe,
    balanced_weights,
    claim_folder,
    gather,
    refuse_existing,
    request_of,
    settle,
    starting_network,
    worker_count,
)
from skipway.training.loop import Loop, restore, total_steps
from skipway.training.recipe import Recipe, read_toml, recipe_from_dict, recipe_to_toml
from skipway.training.start import freeze_stages, set_norm_momentum
from skipway.training.state import Progress, load_checkpoint
from skipway.training.updater import Updater
from skipway.training.world import World, joined_world
from skipway.values import from_plain
from skipway.files import write_text


def train(
    data: str | Path, *, overwrite: bool = False, reporter: Reporter | None = None, **options: Unpack[Options]
) -> RunResult:
    """Train a network on a data set and leave a run folder: model file, report, metrics, events, checkpoints.

    `data` is a folder of class folders or any other form that `open_source` reads; see Options for the rest.

    Raises SkipwayError's children for anything wrong with the input, and StoppedError after Ctrl-C.
    """
    request, recipe = request_of(data, **options)
    with joined_world(request.device) as world:
        voice = heard(world, reporter)
        start = prepared(request, recipe, voice, overwrite=overwrite)
        loop = build_loop(start, world, voice)
        world.barrier()  # every rank has looked whether the folder is free before one of them takes it
        if world.main:
            claim_folder(start.folder, start.material)
            write_text(start.folder / "config.toml", recipe_to_toml(start.recipe, start.request.to_dict()))
        world.barrier()
        _announce(loop)
        loop.run()
        return finish(loop)


def resume(run: str | Path, *, data: str | Path = "", reporter: Reporter | None = None) -> RunResult:
    """Continue a run from its newest checkpoint to the end, as if it had never stopped.

    `data` says where the pictures lie now, if they have moved.

    Raises RunError when there is nothing to resume or the pictures have changed since.
    """
    folder = Path(run)
    config = folder / "config.toml"
    if not config.is_file():
        raise RunError(f"{folder} is no run folder (it has no config.toml); `skipway train` makes one")
    plain = read_toml(config)
    recipe = recipe_from_dict(plain, str(config))
    request: Request = from_plain(Request, plain.get("run", {}), f"{config}: run")
    request = replace(request, data=str(data)) if data else request
    progress, tensors = load_checkpoint(folder)
    if recipe != recipe_from_dict(tomllib.loads(tensors["recipe"]), "of the checkpoint"):
        raise RunError(f"{config} was edited since the run began; undo that, or begin a new run with --recipe {config}")
    with joined_world(request.device) as world:
        voice = heard(world, reporter)
        material = gather(request, recipe, voice)
        if material.fingerprint != tensors["fingerprint"]:
            raise RunError(
                f"the pictures of {request.data} have changed since {folder} began; put them back to resume, "
                "or begin a new run with --overwrite"
            )
        network = spec_from_dict(tensors["spec"]).build()
        plain_rule, mean_image = tensors["preprocessing"], tensors.get("mean_image")
        preprocessing = Preprocessing.from_dict(plain_rule, mean_image, "the checkpoint's preprocessing")
        start = Start(folder, request, recipe, material, network, preprocessing, progress)
        loop = build_loop(start, world, voice)
        restore(loop.updater, progress, tensors)
        voice.say(f"{folder}: continuing after step {progress.step:,} of {loop.total:,}")
        loop.run()
        return finish(loop)


def prepared(request: Request, recipe: Recipe, reporter: Reporter, *, overwrite: bool) -> Start:
    """Data checked, model settled, network drawn; nothing written yet. Raises SkipwayError's children."""
    if request.out:
        refuse_existing(Path(request.out), overwrite=overwrite)
    material = gather(request, recipe, reporter)
    request = settle(request, material, reporter)
    recipe = adapt_recipe(recipe, material, reporter)
    network, preprocessing = starting_network(request, recipe, material, reporter.say)
    folder = Path(request.out or f"runs/{material.name}-{network.spec.name}")
    refuse_existing(folder, overwrite=overwrite)
    return Start(folder, replace(request, out=str(folder)), recipe, material, network, preprocessing, Progress())


def build_loop(start: Start, world: World, reporter: Reporter) -> Loop:
    """Everything a run consists of, put together the same way for a new run and a resumed one."""
    recipe, material, network, seed = start.recipe, start.material, start.network, start.request.seed
    plan = Plan(len(material.train), recipe.batch_size, seed, recipe.drop_last, world.rank, world.size)
    if plan.steps_per_epoch < 1:
        raise RecipeError(f"{len(material.train)} pictures leave no batch for {world.size} processes; add pictures")
    if recipe.batch_size < 2 * world.size and any(isinstance(one, nn.BatchNorm2d) for one in network.modules()):
        raise RecipeError(
            f"batch normalization needs 2 pictures a process or more; raise --batch-size {recipe.batch_size}"
        )
    if recipe.early_stopping and material.val is None:
        raise RecipeError("early_stopping has no held-out pictures to judge by; hold some out or set it to 0")
    if recipe.norm_momentum:
        set_norm_momentum(network, recipe.norm_momentum)
    lit, weighed = recipe.augmentation.lighting > 0, recipe.class_weights == "auto"
    updater = Updater(
        network,
        recipe,
        start.preprocessing,
        world,
        seed=seed,
        total_steps=total_steps(recipe, plan),
        frozen=freeze_stages(network, recipe.freeze),
        class_weights=balanced_weights(material.train, len(material.labels)) if weighed else None,
        colours=principal_colours(material.train, start.preprocessing) if lit else None,
    )
    return Loop(start, updater, plan, reporter, worker_count(start.request, material.train, world.device))


def heard(world: World, reporter: Reporter | None) -> Reporter:
    """The reporter on the main rank; the others, and a library call without one, are silent."""
    return reporter if reporter is not None and world.main else Silent()


def _announce(loop: Loop) -> None:
    material, spec, say = loop.material, loop.updater.network.spec, loop.reporter.say
    held = f"{len(material.val):,} held out" if material.val is not None else "none held out"
    parameters = sum(one.numel() for one in loop.updater.network.parameters())
    say(
        f"{spec.name} ({parameters:,} parameters, {spec.input_size} pixels) on {material.name}: "
        f"{len(material.train):,} pictures to train, {held}, {len(material.labels)} classes"
    )
    say(
        f"recipe {loop.recipe.name}: {loop.total:,} steps of {loop.recipe.batch_size} pictures, "
        f"{loop.epochs} epochs, on {loop.world.device} -> {loop.folder}"
    )
    if material.bad:
        say(f"{len(material.bad)} unreadable pictures are left out: {loop.folder / 'bad_files.csv'}")
