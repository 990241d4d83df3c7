"""Checks that a run can continue as it began: config, processes, pictures, progress; and its tensors put back."""

from __future__ import annotations

from pathlib import Path

from skipway.data.identity import NONE_SEEN, Seen
from skipway.errors import ModelFileError, RunError
from skipway.reporting import agreeing, counted
from skipway.training.console import Reporter
from skipway.training.folder import CONFIG, PICTURES, place_of_run
from skipway.training.job import Material
from skipway.training.loop import Loop
from skipway.training.optimizer import restore_optimizer
from skipway.training.progress import Progress
from skipway.training.recipe import Recipe, parse_toml, read_toml, recipe_from_dict
from skipway.training.request import Request
from skipway.training.state import Checkpoint
from skipway.training.stopping import resume_command
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
    except OSError:  # for a name that the system does not allow
        there = False
    if not there:
        raise RunError(f"no run folder {folder}; `skipway train` makes one")
    return folder


def device_of(folder: Path) -> str:
    """The name of the device that the run was begun on. Raises what `read_config` raises."""
    request, _ = read_config(place_of_run(folder))
    return request.device


def read_config(folder: Path) -> tuple[Request, Recipe]:
    """What config.toml says. Raises RunError, RecipeError, UnknownNameError, ValueMismatchError."""
    file = folder / CONFIG
    if not file.is_file():
        raise RunError(f"{folder} is no run folder (it has no {CONFIG}); `skipway train` makes one")
    plain = read_toml(file)
    request = from_plain(Request, plain.get("run", {}), f"{file}: run")
    recipe = recipe_from_dict(plain, str(file))
    return request, recipe


def require_same_config(config: Path, request: Request, recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Raises RunError unless config.toml says the same as when the run began."""
    plain = parse_toml(checkpoint.contents["recipe"], f"the recipe in {checkpoint.file}")
    first_recipe = recipe_from_dict(plain, "of the checkpoint")
    edited = recipe.differences_from(first_recipe)
    first_request = checkpoint.contents.get("request")  # checkpoints of format 1 have none
    if isinstance(first_request, dict):
        edited += request.differences_from(first_request)
    if edited:
        names = ", ".join(edited)
        raise RunError(
            f"{config} was edited since the run began ({names}); undo that, or begin a new run with --recipe {config}"
        )


def require_same_world(folder: Path, noted: object, progress: Progress, voice: Reporter) -> None:
    """Raises RunError when the run was trained by another number of processes than there are now.

    The parts of a batch, the draws of dropout and the order of the sums depend on it. `noted` is the number in the
    checkpoint, None in checkpoints of older versions.
    """
    if noted is None:
        if progress.seen:
            voice.say(
                f"{folder} was begun by an older skipway, which did not note its number of processes: if there was "
                "more than one, the training loss of the epoch under way lacks the others' pictures"
            )
        return
    if type(noted) is not int or noted < 1:
        shown = str(noted)[:40]
        raise RunError(f"{folder} was trained by {shown} processes, says its checkpoint; restore it from a copy")
    now = world_size()
    if noted != now:
        processes = counted(noted, "process")
        verb = agreeing(now, "is", "are")
        raise RunError(
            f"{folder} was trained by {processes}, and now there {verb} {now}, which would give other weights; "
            f"{resume_command(folder, noted)}"
        )


def require_place(folder: Path, request: Request) -> None:
    """Raises RunError where the folder or file that the pictures came from is gone."""
    _, _, text = request.data.rpartition(":")  # a form such as `mnist:` may stand before the folder
    place = Path(text)
    is_pattern = "{" in place.name  # of several files
    if not place.is_absolute() or is_pattern or place.exists():
        return
    raise RunError(
        f"the pictures of {folder} lay in {place}, which is not there; say where they lie now with --data DIR"
    )


def require_same_pictures(folder: Path, request: Request, material: Material, checkpoint: Checkpoint) -> None:
    """Raises RunError, with the names of the first that differ, unless the run began with these pictures."""
    fingerprint = material.fingerprint if checkpoint.sealed else material.name_fingerprint
    if fingerprint == checkpoint.contents["fingerprint"]:
        return
    differences = material.pictures.differences_from(folder / PICTURES)
    shown = f" ({differences})" if differences else ""
    raise RunError(
        f"the pictures of {request.data} have changed since {folder} began{shown}; put them back, say where they lie "
        "now with --data DIR, or begin a new run in another --out"
    )


def require_possible(loop: Loop, checkpoint: Checkpoint) -> None:
    """Raises RunError for progress that this run cannot have made."""
    progress = checkpoint.progress
    if _is_possible(loop, progress):
        return
    epochs = counted(len(progress.history), "epoch")
    pictures = counted(progress.seen, "picture")
    raise RunError(
        f"{checkpoint.file} says step {progress.step:,} of {loop.total:,}, {epochs} and {pictures}, which do not "
        "agree; restore it from a copy, or begin a new run"
    )


def _is_possible(loop: Loop, progress: Progress) -> bool:
    """Whether steps, epochs and pictures agree with each other."""
    if progress.step > loop.total or progress.seen > loop.plan.length:
        return False
    if progress.stopped_early:
        return True
    epochs, steps_of_next = divmod(progress.step, loop.plan.steps_per_epoch)
    at_end = progress.step == loop.total
    if at_end and steps_of_next:
        epochs += 1  # the last epoch may be cut short
    if len(progress.history) == epochs:
        return True
    # The last step of an epoch may have been saved before the epoch's validation.
    before_validation = at_end or steps_of_next == 0
    return before_validation and len(progress.history) == epochs - 1


def earlier_pictures(checkpoint: Checkpoint) -> Seen | None:
    """The pictures that a run's first weights were trained on, None for unknown ones. Raises RunError."""
    plain = checkpoint.contents.get("earlier")  # checkpoints of format 1 have none
    if not isinstance(plain, dict):
        return NONE_SEEN
    try:
        identity = identity_of(plain)
    except (ModelFileError, AttributeError, TypeError) as error:
        raise RunError(f"{checkpoint.file} is damaged ({error}); restore it from a copy") from None
    if identity is None:
        return NONE_SEEN
    if not identity.complete:
        return None
    return identity.trained


def restore(updater: Updater, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's tensors back into an updater.

    The checkpoint's sums are those of all ranks: the main rank takes them, and the others begin at 0. Raises RunError
    where the tensors are not of the updater's network.
    """
    contents = checkpoint.contents
    progress = checkpoint.progress
    try:
        updater.network.load_state_dict(contents["network"])
        restore_optimizer(updater.optimizer, contents["optimizer"])
        updater.scaler.load_state_dict(contents["scaler"])
        if updater.average is not None:
            updater.average.shadow.load_state_dict(contents["average"])
        if not updater.world.main:
            progress.loss_sum = 0.0
            progress.right = 0
            progress.seen = 0
        updater.loss_sum.fill_(progress.loss_sum)
        updater.right.fill_(progress.right)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        words = str(error).split()
        cause = " ".join(words)[:200]
        raise RunError(
            f"{checkpoint.file} does not fit its own network ({cause}); restore it from a copy, or begin a new run"
        ) from None
