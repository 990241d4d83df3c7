"""A run folder: what a run writes there, and an older run in it, kept until the new one has trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skipway.errors import RunError
from skipway.files import write_text
from skipway.training.state import checkpoints, passed_first_step

CONFIG = "config.toml"
PICTURES = "pictures.csv.gz"
MODEL = "model.safetensors"
BAD_FILES = "bad_files.csv"
NEW_BAD_FILES = "bad_files_new.csv"  # of a run that could not begin in the place of an older one
_ASIDE = ".replaced"
_MOVED = "moved"  # a mark in it: all files of the old run are here
_DISCARDED = ".discarded"
_NAMES = (CONFIG, PICTURES, BAD_FILES, NEW_BAD_FILES, "metrics.csv", MODEL, "report.html")


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Raises RunError where the folder holds a run, or files of one, and they may not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; give another --out")
    if overwrite:
        return
    config = folder / CONFIG
    aside = folder / _ASIDE
    if config.exists() or aside.exists():
        raise RunError(f"{folder} holds a run already; `skipway resume {folder}`, another --out, or --overwrite")
    for file in written_by_a_run(folder):
        if file.name not in {BAD_FILES, NEW_BAD_FILES}:
            raise RunError(f"{folder} holds {file.name}, which a run would replace; give another --out, or --overwrite")


def written_by_a_run(folder: Path) -> list[Path]:
    """The files of a run, as far as they are there. Nothing else in the folder is ever changed."""
    found: list[Path] = []
    for name in _NAMES:
        file = folder / name
        if file.is_file():
            found.append(file)
    found += folder.glob("events.out.tfevents.*")
    found += checkpoints(folder)
    return found


def place_of_run(folder: Path) -> Path:
    """Where the files of the run lie that a resume continues: aside while the new one has no trained weights."""
    aside = folder / _ASIDE
    if old_run_waits(folder) and (aside / CONFIG).is_file():
        return aside
    return folder


def old_run_waits(folder: Path) -> bool:
    """Whether an older run lies aside and is to be put back unless the new one gets trained weights."""
    if not _is_real_folder(folder / _ASIDE):
        return False
    return not _new_run_counts(folder)


def _is_real_folder(path: Path) -> bool:
    """Whether a path is a folder and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _new_run_counts(folder: Path) -> bool:
    """Whether the run in the folder takes the place of the one aside.

    It does once it has trained weights. Where the one aside has none either, a first checkpoint is enough.
    """
    aside = folder / _ASIDE
    if not (aside / _MOVED).exists():
        return False  # what is in the folder may be the old run's
    if passed_first_step(folder):
        return True
    old_has_weights = passed_first_step(aside) or (aside / MODEL).is_file()
    if old_has_weights:
        return False
    return len(checkpoints(folder)) > 0


@contextmanager
def replacing(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Set the run in `folder` aside while the block trains a new one there.

    `drop_replaced` deletes the old run once the new one has a checkpoint after its first step, and so does the end of
    the block. An error before that puts the old run back as it was, with a line to `say`. Where the process is killed
    inside the block, `put_back` does the same later. Raises RunError where the folder cannot be changed.
    """
    put_back(folder)
    old = written_by_a_run(folder)
    if not old:
        yield
        return
    aside = folder / _ASIDE
    _move(old, folder, aside)
    try:
        write_text(aside / _MOVED, "")
        yield
    except BaseException as error:
        if put_back(folder):
            message = put_back_message(folder)
            say(message)
            if isinstance(error, KeyboardInterrupt):  # the text of `error` is about the new run
                raise KeyboardInterrupt(f"stopped; {message}") from None
        raise
    _discard(folder)


def drop_replaced(folder: Path) -> None:
    """Delete the run that was set aside, if the new one takes its place by now. Call it after a checkpoint."""
    if _is_real_folder(folder / _ASIDE) and _new_run_counts(folder):
        _discard(folder)


def put_back(folder: Path) -> bool:
    """Bring back a run that was set aside, unless the new one takes its place; True where there was one.

    Call it while this process holds the folder.
    """
    discarded = folder / _DISCARDED
    if _is_real_folder(discarded):
        shutil.rmtree(discarded, ignore_errors=True)
    if old_run_waits(folder):
        _restore(folder)
        return True
    drop_replaced(folder)  # where the process was killed right after the checkpoint
    return False


def put_back_message(folder: Path) -> str:
    """The line for the user once an old run is back."""
    return f"{folder}: the run that was to be replaced is back; the new one had no checkpoint after its first step yet"


def _discard(folder: Path) -> None:
    """Delete the run aside."""
    aside = folder / _ASIDE
    if not _is_real_folder(aside):
        return
    discarded = folder / _DISCARDED
    aside.rename(discarded)  # from here on the new run is the run, even if the process is killed
    shutil.rmtree(discarded, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Bring the files of the old run back, wherever they lie after a kill.

    Files in the folder are the new run's only if all files of the old run were aside, which the mark says. The mark is
    deleted before the first of them comes back.
    """
    aside = folder / _ASIDE
    mark = aside / _MOVED
    if mark.exists():
        for file in written_by_a_run(folder):
            file.unlink()
        mark.unlink()
    _move(written_by_a_run(aside), aside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _move(files: list[Path], source: Path, to: Path) -> None:
    """Rename files of one folder into another, on the same disk.

    Raises RunError where that fails; then all files are where they were.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for file in files:
            place = to / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
            moved.append((file, place))
    except OSError as error:
        for file, place in reversed(moved):
            place.rename(file)
        raise RunError(f"{source} cannot be changed ({error.strerror}); nothing was overwritten") from None
