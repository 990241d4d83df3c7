"""What a run folder says is held against the run that goes on in it, and put back into it: config, processes, pictures,
progress, tensors."""

from __future__ import annotations

from pathlib import Path

from skipway.data.identity import NONE_SEEN, Seen
from skipway.errors import ModelFileError, RunError
from skipway.reporting import agreeing, counted
from skipway.training.console import Reporter
from skipway.training.folder import CONFIG, PICTURES, place_of_run
from skipway.training.job import Material
from skipway.training.loop import Loop, resume_command
from skipway.training.optimizer import restore_optimizer
from skipway.training.recipe import Recipe, parse_toml, read_toml, recipe_from_dict
from skipway.training.request import Request
from skipway.training.state import Checkpoint, Progress
from skipway.training.updater import Updater
from skipway.values import from_plain
from skipway.weights.identity import identity_of
from skipway.world.ranks import world_size


def require_folder(run: Path | str) -> Path:
    """The run folder of that name. Raises RunError where there is none."""
    if not isinstance(run, Path | str):
        raise RunError(f"the run folder is of type {type(run).__name__}; give its path")
    folder = Path(run)
    try:
        there = folder.is_dir()
    except OSError:  # a name that cannot be
        there = False
    if not there:
        raise RunError(f"no run folder {folder}; `skipway train` makes one")
    return folder


def device_of(folder: Path) -> str:
    """The device that the run was begun on; it may lie aside, for one that came to nothing."""
    return read_config(place_of_run(folder))[0].device


def read_config(folder: Path) -> tuple[Request, Recipe]:
    """What config.toml says. Raises RunError, RecipeError, UnknownNameError, ValueMismatchError."""
    file = folder / CONFIG
    if not file.is_file():
        raise RunError(f"{folder} is no run folder (it has no {CONFIG}); `skipway train` makes one")
    plain = read_toml(file)
    return from_plain(Request, plain.get("run", {}), f"{file}: run"), recipe_from_dict(plain, str(file))


def require_same_config(config: Path, request: Request, recipe: Recipe, checkpoint: Checkpoint) -> None:
    """RunError unless config.toml asks for what the checkpoint's run was asked for."""
    begun = parse_toml(checkpoint.contents["recipe"], f"the recipe in {checkpoint.file}")
    edited = recipe.differences_from(recipe_from_dict(begun, "of the checkpoint"))
    asked = checkpoint.contents.get("request")  # checkpoints of format 1 have none
    if isinstance(asked, dict):
        edited += request.differences_from(asked)
    if edited:
        raise RunError(
            f"{config} was edited since the run began ({', '.join(edited)}); undo that, or begin a new run with "
            f"--recipe {config}"
        )


def require_same_world(folder: Path, noted: object, progress: Progress, voice: Reporter) -> None:
    """RunError when the run was trained by another number of processes than there are now.

    The parts of a batch, the draws of dropout and the order of the sums depend on it. `noted` is None in checkpoints
    of older versions.
    """
    if noted is None:
        if progress.seen:
            voice.say(
                f"{folder} was begun by an older skipway, which did not note its number of processes: if there was "
                "more than one, the training loss of the epoch under way lacks the others' pictures"
            )
        return
    if type(noted) is not int or noted < 1:
        raise RunError(
            f"{folder} was trained by {str(noted)[:40]} processes, says its checkpoint; restore it from a copy"
        )
    now = world_size()
    if noted != now:
        raise RunError(
            f"{folder} was trained by {counted(noted, 'process')}, and now there {agreeing(now, 'is', 'are')} {now}, "
            f"which would give other weights; {resume_command(folder, noted)}"
        )


def require_place(folder: Path, request: Request) -> None:
    """RunError where the folder or file that the pictures came from is gone."""
    place = Path(request.data.rpartition(":")[2])
    if place.is_absolute() and "{" not in place.name and not place.exists():
        raise RunError(
            f"the pictures of {folder} lay in {place}, which is not there; say where they lie now with --data DIR"
        )


def require_same_pictures(folder: Path, request: Request, material: Material, checkpoint: Checkpoint) -> None:
    """RunError, naming the first pictures that differ, unless these are the pictures that the run began with."""
    now = material.fingerprint if checkpoint.sealed else material.name_fingerprint
    if now == checkpoint.contents["fingerprint"]:
        return
    differences = material.pictures.differences_from(folder / PICTURES)
    shown = f" ({differences})" if differences else ""
    raise RunError(
        f"the pictures of {request.data} have changed since {folder} began{shown}; put them back, say where they lie "
        "now with --data DIR, or begin a new run in another --out"
    )


def require_possible(loop: Loop, checkpoint: Checkpoint) -> None:
    """RunError for progress that this run cannot have made."""
    progress, per_epoch = checkpoint.progress, loop.plan.steps_per_epoch
    epochs = -(-progress.step // per_epoch) if progress.step == loop.total else progress.step // per_epoch
    # The last step of an epoch may have been saved before its validation.
    due = {epochs, epochs - 1} if progress.step % per_epoch == 0 or progress.step == loop.total else {epochs}
    possible = progress.step <= loop.total and (progress.stopped_early or len(progress.history) in due)
    if not possible or progress.seen > loop.plan.length:
        history, seen = counted(len(progress.history), "epoch"), counted(progress.seen, "picture")
        raise RunError(
            f"{checkpoint.file} says step {progress.step:,} of {loop.total:,}, {history} and {seen}, which "
            "do not agree; restore it from a copy, or begin a new run"
        )


def earlier_pictures(checkpoint: Checkpoint) -> Seen | None:
    """The pictures that a run's first weights had met, None for unknown ones. Raises RunError."""
    plain = checkpoint.contents.get("earlier")  # checkpoints of format 1 have none
    try:
        found = identity_of(plain) if isinstance(plain, dict) else None
    except (ModelFileError, AttributeError, TypeError) as error:
        raise RunError(f"{checkpoint.file} is damaged ({error}); restore it from a copy") from None
    if found is None:
        return NONE_SEEN
    return found.trained if found.complete else None


def restore(updater: Updater, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's tensors back into an updater. Its sums are those of all ranks: the main one
    takes them. Raises RunError where they are not of its network."""
    contents, progress = checkpoint.contents, checkpoint.progress
    try:
        updater.network.load_state_dict(contents["network"])
        restore_optimizer(updater.optimizer, contents["optimizer"])
        updater.scaler.load_state_dict(contents["scaler"])
        if updater.average is not None:
            updater.average.shadow.load_state_dict(contents["average"])
        if not updater.world.main:
            progress.loss_sum, progress.right, progress.seen = 0.0, 0, 0
        updater.loss_sum.fill_(progress.loss_sum)
        updater.right.fill_(progress.right)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        short = " ".join(str(error).split())[:200]
        raise RunError(
            f"{checkpoint.file} does not fit its own network ({short}); restore it from a copy, or begin a new run"
        ) from None
