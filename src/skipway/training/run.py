"""`train` and `resume`: from a request to a finished run folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor, nn

from skipway.data.augmentation import principal_colours
from skipway.data.checking import bad_files_csv
from skipway.data.loading import Plan
from skipway.data.preprocessing import Preprocessing
from skipway.data.workers import batch_bytes, pick_workers, starting_workers
from skipway.errors import RecipeError, RunError, SkipwayError
from skipway.files import write_text
from skipway.models.catalog import spec_from_dict
from skipway.models.network import Spec
from skipway.reporting import agreeing, counted
from skipway.training.console import Reporter, Silent
from skipway.training.finish import RunResult, finish
from skipway.training.folder import BAD_FILES, CONFIG, PICTURES, put_back, refuse_existing, replacing, told_back
from skipway.training.job import (
    Start,
    adapt_recipe,
    balanced_weights,
    gather,
    require_readable,
    settle,
    starting_network,
)
from skipway.training.loop import (
    EVALUATION_BATCH,
    Loop,
    StoppedError,
    resume_command,
    total_steps,
)
from skipway.training.recipe import Recipe, recipe_to_toml
from skipway.training.request import Options, Request, absolute, request_of
from skipway.training.resuming import (
    device_of,
    earlier_pictures,
    read_config,
    require_folder,
    require_place,
    require_possible,
    require_same_config,
    require_same_pictures,
    require_same_world,
    restore,
)
from skipway.training.start import freeze_stages, set_norm_momentum
from skipway.training.state import Progress, checkpoints, newest_checkpoint
from skipway.training.updater import Updater
from skipway.weights.agreement import require_agreement, require_short_lists
from skipway.world.holding import held
from skipway.world.ranks import World, joined_world, local_size, on_main


@starting_workers()
def train(
    data: str | Path, *, overwrite: bool = False, reporter: Reporter | None = None, **options: Unpack[Options]
) -> RunResult:
    """Train a network on a data set and leave a run folder: model file, report, metrics, events, checkpoints.

    `data` is a folder of class folders or any other form that `open_source` reads; see Options for the rest.
    `overwrite` replaces an older run in the folder once the new one has a checkpoint after its first step.

    Raises SkipwayError's children for anything wrong with the input, and StoppedError after Ctrl-C.
    """
    request, recipe = request_of(data, **options)
    with joined_world(request.device) as world:
        voice = heard(world, reporter)
        start = prepared(request, recipe, voice, overwrite=overwrite)
        loop = build_loop(start, world, voice)
        world.advise(f"{resume_command(start.folder, world.size)} continues from the last checkpoint")
        with held(start.folder, world), _stopped_with_a_way_on(start.folder, world):
            on_main(world, lambda: refuse_existing(start.folder, overwrite=overwrite))  # another may have been faster
            on_main(world, lambda: require_readable(start.folder, start.material))
            with replacing(start.folder, voice.say) if world.main else nullcontext():
                on_main(world, lambda: _write_start(start))
                loop.save()  # a run killed in its first epoch can be resumed, too
                _announce(loop)
                loop.run()
                return finish(loop)


@contextmanager
def _stopped_with_a_way_on(folder: Path, world: World) -> Iterator[None]:
    """Ctrl-C anywhere, not only between two steps, says how to go on where there is a checkpoint."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if str(stop) or not checkpoints(folder):
            raise
        again = resume_command(folder, world.size)
        raise StoppedError(f"stopped; {again} continues from the last checkpoint") from None


def _write_start(start: Start) -> None:
    """What a resume needs beside checkpoints, and a reader: the recipe with the request, and the pictures."""
    write_text(start.folder / CONFIG, recipe_to_toml(start.recipe, start.request.to_dict()))
    start.material.pictures.write(start.folder / PICTURES)
    if start.material.bad:
        write_text(start.folder / BAD_FILES, bad_files_csv(start.material.bad))


@starting_workers()
def resume(
    run: str | Path, *, data: str | Path = "", workers: int | None = None, reporter: Reporter | None = None
) -> RunResult:
    """Continue a run from its newest whole checkpoint to the end, as if it had never stopped.

    `data` says where the pictures lie now, if they have moved. `workers` are as many as the run began with if
    left out; the result does not depend on them.

    Raises NoCheckpointError where no checkpoint is whole, and RunError where there is no run, where another process has
    it, or where the pictures have changed since.
    """
    folder = require_folder(run)
    with joined_world(device_of(folder)) as world, held(folder, world), _stopped_with_a_way_on(folder, world):
        world.advise(f"{resume_command(folder, world.size)} continues from the last checkpoint")
        voice = heard(world, reporter)
        if on_main(world, lambda: put_back(folder)):
            voice.say(told_back(folder))
        loop = _continued(folder, data, workers, world, voice)
        if data:  # the next resume finds them, too
            settled = recipe_to_toml(loop.recipe, loop.start.request.to_dict())
            on_main(world, lambda: write_text(folder / CONFIG, settled))
        voice.say(_where_it_stands(loop))
        loop.run()
        return finish(loop)


def _where_it_stands(loop: Loop) -> str:
    progress = loop.progress
    if progress.step < loop.total and not progress.stopped_early:
        return f"{loop.folder}: continuing after step {progress.step:,} of {loop.total:,}"
    model = loop.folder / "model.safetensors"
    return (
        f"{loop.folder}: this run is finished, and its result follows; "
        f"`skipway train DATA --from {shlex.quote(str(model))}` trains on"
    )


def _continued(folder: Path, data: str | Path, workers: int | None, world: World, voice: Reporter) -> Loop:
    """The loop of a run as its newest whole checkpoint left it."""
    request, recipe = read_config(folder)
    if data:
        request = replace(request, data=absolute(str(data)))
    if workers is not None:
        request = replace(request, workers=workers)
    checkpoint = newest_checkpoint(folder, voice.say)
    contents = checkpoint.contents
    require_same_config(folder / CONFIG, request, recipe, checkpoint)
    require_same_world(folder, contents.get("world"), checkpoint.progress, voice)
    require_place(folder, request)
    material = gather(request, recipe, voice)
    require_same_pictures(folder, request, material, checkpoint)
    network = checked_spec(contents["spec"], contents["network"], folder).build()
    rule, mean_image = contents["preprocessing"], contents.get("mean_image")
    preprocessing = Preprocessing.from_dict(rule, mean_image, "the checkpoint's preprocessing")
    earlier = earlier_pictures(checkpoint)
    start = Start(folder, request, recipe, material, network, preprocessing, checkpoint.progress, earlier)
    loop = build_loop(start, world, voice)
    require_possible(loop, checkpoint)
    restore(loop.updater, checkpoint)
    return loop


def checked_spec(plain: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path) -> Spec:
    """The network of a checkpoint, held against its weights before it is built. Raises RunError."""
    try:
        require_short_lists(plain, len(weights))
        spec = spec_from_dict(plain)
        require_agreement(spec, {name: (tuple(one.shape), str(one.dtype)) for name, one in weights.items()})
    except (SkipwayError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"the checkpoint of {folder} is damaged ({' '.join(str(error).split())[:300]}); begin a new run"
        ) from None
    return spec


def prepared(request: Request, recipe: Recipe, reporter: Reporter, *, overwrite: bool) -> Start:
    """Data checked, model settled, network drawn; nothing written yet. Raises SkipwayError's children."""
    if request.out:
        refuse_existing(Path(request.out), overwrite=overwrite)
    material = gather(request, recipe, reporter)
    request = settle(request, material, reporter)
    recipe = adapt_recipe(recipe, material, reporter)
    network, preprocessing, earlier = starting_network(request, recipe, material, reporter.say)
    folder = Path(request.out or f"runs/{material.name}-{network.spec.name}")
    refuse_existing(folder, overwrite=overwrite)
    request = replace(request, out=str(folder))
    return Start(folder, request, recipe, material, network, preprocessing, Progress(), earlier)


def build_loop(start: Start, world: World, reporter: Reporter) -> Loop:
    """Everything a run consists of, put together the same way for a new run and a resumed one."""
    recipe, material, network, seed = start.recipe, start.material, start.network, start.request.seed
    plan = Plan(len(material.train), recipe.batch_size, seed, recipe.drop_last, world.rank, world.size)
    if plan.steps_per_epoch < 1:
        count = len(material.train)
        raise RecipeError(
            f"{counted(count, 'picture')} {agreeing(count, 'leaves', 'leave')} no batch for "
            f"{counted(world.size, 'process')}; add pictures"
        )
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
    return Loop(start, updater, plan, reporter, _worker_count(start, world, reporter))


def _worker_count(start: Start, world: World, reporter: Reporter) -> int:
    """Worker processes of this rank, for training and at the same time for validation."""
    judged = start.material.train if start.material.val is None else start.material.val
    batch = batch_bytes(start.preprocessing, -(-start.recipe.batch_size // world.size))
    batch += batch_bytes(start.preprocessing, min(EVALUATION_BATCH, len(judged)))
    return pick_workers(
        start.request.workers,
        start.material.train,
        batch,
        reporter.say,
        cuda=world.device.type == "cuda",
        processes=min(world.size, local_size()),
    )


def heard(world: World, reporter: Reporter | None) -> Reporter:
    """The reporter on the main rank; the others, and a library call without one, are silent."""
    return reporter if reporter is not None and world.main else Silent()


def _announce(loop: Loop) -> None:
    material, spec, say = loop.material, loop.updater.network.spec, loop.reporter.say
    held = f"{len(material.val):,} held out" if material.val is not None else "none held out"
    parameters = sum(one.numel() for one in loop.updater.network.parameters())
    say(
        f"{spec.name} ({parameters:,} parameters, {spec.input_size} pixels) on {material.name}: "
        f"{counted(len(material.train), 'picture')} to train, {held}, {counted(len(material.labels), 'class')}"
    )
    say(
        f"recipe {loop.recipe.name}: {counted(loop.total, 'step')} of {counted(loop.recipe.batch_size, 'picture')}, "
        f"{counted(loop.epochs, 'epoch')}, on {loop.world.device} -> {loop.folder}"
    )
    for line in loop.start.identity.leaks():
        say(f"warning: {line}")
    if material.bad:
        bad = len(material.bad)
        left_out = f"{counted(bad, 'unreadable picture')} {agreeing(bad, 'is', 'are')} left out"
        say(f"{left_out}: {loop.folder / 'bad_files.csv'}")
