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
from skipway.training.folder import BAD_FILES, CONFIG, PICTURES, put_back, put_back_message, refuse_existing, replacing
from skipway.training.job import (
    Start,
    adapt_recipe,
    balanced_weights,
    gather,
    require_readable,
    settle,
    starting_network,
)
from skipway.training.loop import EVALUATION_BATCH, Loop, total_steps
from skipway.training.progress import Progress
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
from skipway.training.state import checkpoints, newest_checkpoint
from skipway.training.stopping import StoppedError, resume_command
from skipway.training.updater import Updater
from skipway.weights.agreement import require_agreement, require_short_lists
from skipway.world.holding import held
from skipway.world.ranks import World, joined_world, local_size, on_main


@starting_workers()
def train(
    data: str | Path, *, overwrite: bool = False, reporter: Reporter | None = None, **options: Unpack[Options]
) -> RunResult:
    """Train a network on a data set and leave a run folder: model file, report, metrics, events, checkpoints.

    `data` is a folder of class folders or any other form that `open_source` reads; see TrainOptions for the rest.
    `overwrite` replaces an older run in the folder once the new one has a checkpoint after its first step.

    Raises SkipwayError's children for anything wrong with the input, and StoppedError after Ctrl-C.
    """
    request, recipe = request_of(data, **options)
    with joined_world(request.device) as world:
        voice = heard(world, reporter)
        start = prepared(request, recipe, voice, overwrite=overwrite)
        loop = build_loop(start, world, voice)
        world.advise(f"{resume_command(start.folder, world.size)} continues from the last checkpoint")
        with held(start.folder, world), _advice_when_stopped(start.folder, world):
            # Again: another process may have begun a run there since `prepared`.
            on_main(world, lambda: refuse_existing(start.folder, overwrite=overwrite))
            on_main(world, lambda: require_readable(start.folder, start.material))
            with replacing(start.folder, voice.say) if world.main else nullcontext():
                on_main(world, lambda: _write_start(start))
                loop.save()  # a run killed in its first epoch can be resumed, too
                _announce(loop)
                loop.run()
                return finish(loop)


@contextmanager
def _advice_when_stopped(folder: Path, world: World) -> Iterator[None]:
    """Turn Ctrl-C without a message into a StoppedError that says how to continue, where there is a checkpoint."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if str(stop) or not checkpoints(folder):
            raise
        command = resume_command(folder, world.size)
        raise StoppedError(f"stopped; {command} continues from the last checkpoint") from None


def _write_start(start: Start) -> None:
    """Write what a resume and a reader need beside checkpoints: the recipe with the request, and the pictures."""
    config = recipe_to_toml(start.recipe, start.request.to_dict())
    write_text(start.folder / CONFIG, config)
    start.material.pictures.write(start.folder / PICTURES)
    if start.material.bad:
        write_text(start.folder / BAD_FILES, bad_files_csv(start.material.bad))


@starting_workers()
def resume(
    run: str | Path, *, data: str | Path = "", workers: int | None = None, reporter: Reporter | None = None
) -> RunResult:
    """Continue a run from its newest whole checkpoint to the end, as if it had never stopped.

    `data` says where the pictures lie now, if they have moved. Without `workers` there are as many as the run began
    with; the result does not depend on them.

    Raises NoCheckpointError where no checkpoint is whole, and RunError where there is no run, where another process
    holds the folder, or where the pictures have changed since.
    """
    folder = require_folder(run)
    with joined_world(device_of(folder)) as world, held(folder, world), _advice_when_stopped(folder, world):
        world.advise(f"{resume_command(folder, world.size)} continues from the last checkpoint")
        voice = heard(world, reporter)
        if on_main(world, lambda: put_back(folder)):
            voice.say(put_back_message(folder))
        loop = _continued(folder, data, workers, world, voice)
        if data:  # the next resume finds them, too
            settled = recipe_to_toml(loop.recipe, loop.start.request.to_dict())
            on_main(world, lambda: write_text(folder / CONFIG, settled))
        voice.say(_resumed_message(loop))
        loop.run()
        return finish(loop)


def _resumed_message(loop: Loop) -> str:
    """The line for the user on where a run continues."""
    progress = loop.progress
    is_finished = progress.step >= loop.total or progress.stopped_early
    if not is_finished:
        return f"{loop.folder}: continuing after step {progress.step:,} of {loop.total:,}"
    model = shlex.quote(str(loop.folder / "model.safetensors"))
    return f"{loop.folder}: this run is finished, and its result follows; `skipway train DATA --from {model}` trains on"


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
    spec = checked_spec(contents["spec"], contents["network"], folder)
    network = spec.build()
    preprocessing = Preprocessing.from_dict(
        contents["preprocessing"], contents.get("mean_image"), "the checkpoint's preprocessing"
    )
    earlier = earlier_pictures(checkpoint)
    start = Start(folder, request, recipe, material, network, preprocessing, checkpoint.progress, earlier)
    loop = build_loop(start, world, voice)
    require_possible(loop, checkpoint)
    restore(loop.updater, checkpoint)
    return loop


def checked_spec(plain: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path) -> Spec:
    """The spec of a checkpoint, compared with its weights before it is built. Raises RunError."""
    try:
        require_short_lists(plain, len(weights))
        spec = spec_from_dict(plain)
        declared = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in weights.items()}
        require_agreement(spec, declared)
    except (SkipwayError, TypeError, ValueError, AttributeError) as error:
        words = str(error).split()
        cause = " ".join(words)[:300]
        raise RunError(f"the checkpoint of {folder} is damaged ({cause}); begin a new run") from None
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
    """The loop of a new run or a resumed one, put together in the same way. Raises RecipeError, UnknownNameError."""
    recipe, material, network = start.recipe, start.material, start.network
    seed = start.request.seed
    plan = Plan(len(material.train), recipe.batch_size, seed, recipe.drop_last, world.rank, world.size)
    _require_trainable(start, plan, world)
    if recipe.norm_momentum:
        set_norm_momentum(network, recipe.norm_momentum)
    frozen = freeze_stages(network, recipe.freeze)
    class_weights = None
    if recipe.class_weights == "auto":
        class_weights = balanced_weights(material.train, len(material.labels))
    colours = None
    if recipe.augmentation.lighting > 0:
        colours = principal_colours(material.train, start.preprocessing)
    updater = Updater(
        network,
        recipe,
        start.preprocessing,
        world,
        seed=seed,
        total_steps=total_steps(recipe, plan),
        frozen=frozen,
        class_weights=class_weights,
        colours=colours,
    )
    workers = _worker_count(start, world, reporter)
    return Loop(start, updater, plan, reporter, workers)


def _require_trainable(start: Start, plan: Plan, world: World) -> None:
    """Raises RecipeError for a recipe that these pictures, this network or these processes do not allow."""
    recipe, material = start.recipe, start.material
    if plan.steps_per_epoch < 1:
        count = len(material.train)
        verb = agreeing(count, "leaves", "leave")
        processes = counted(world.size, "process")
        raise RecipeError(f"{counted(count, 'picture')} {verb} no batch for {processes}; add pictures")
    if recipe.batch_size < 2 * world.size:
        has_norms = any(isinstance(module, nn.BatchNorm2d) for module in start.network.modules())
        if has_norms:
            raise RecipeError(
                f"batch normalization needs 2 pictures a process or more; raise --batch-size {recipe.batch_size}"
            )
    if recipe.early_stopping and material.val is None:
        raise RecipeError("early_stopping has no held-out pictures to judge by; hold some out or set it to 0")


def _worker_count(start: Start, world: World, reporter: Reporter) -> int:
    """Worker processes of this rank, for training and at the same time for validation."""
    material = start.material
    judged = material.train if material.val is None else material.val
    training_batch = -(-start.recipe.batch_size // world.size)
    evaluation_batch = min(EVALUATION_BATCH, len(judged))
    bytes_of_batches = batch_bytes(start.preprocessing, training_batch)
    bytes_of_batches += batch_bytes(start.preprocessing, evaluation_batch)
    return pick_workers(
        start.request.workers,
        material.train,
        bytes_of_batches,
        reporter.say,
        cuda=world.device.type == "cuda",
        processes=min(world.size, local_size()),
    )


def heard(world: World, reporter: Reporter | None) -> Reporter:
    """The reporter on the main rank; the others, and a library call without one, are silent."""
    if reporter is None or not world.main:
        return Silent()
    return reporter


def _announce(loop: Loop) -> None:
    """Report the network, the pictures, the recipe and what is doubtful about the pictures."""
    material = loop.material
    network = loop.updater.network
    spec = network.spec
    say = loop.reporter.say
    held_out = "none held out" if material.val is None else f"{len(material.val):,} held out"
    parameters = sum(parameter.numel() for parameter in network.parameters())
    pictures = counted(len(material.train), "picture")
    classes = counted(len(material.labels), "class")
    say(
        f"{spec.name} ({parameters:,} parameters, {spec.input_size} pixels) on {material.name}: "
        f"{pictures} to train, {held_out}, {classes}"
    )
    steps = counted(loop.total, "step")
    batch = counted(loop.recipe.batch_size, "picture")
    epochs = counted(loop.epochs, "epoch")
    say(f"recipe {loop.recipe.name}: {steps} of {batch}, {epochs}, on {loop.world.device} -> {loop.folder}")
    for line in loop.start.identity.leaks():
        say(f"warning: {line}")
    bad_count = len(material.bad)
    if bad_count:
        bad_pictures = counted(bad_count, "unreadable picture")
        verb = agreeing(bad_count, "is", "are")
        say(f"{bad_pictures} {verb} left out: {loop.folder / 'bad_files.csv'}")
