"""A run folder: what a run writes there, and an older run in it kept until the new one has something to show."""

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
    """RunError where a run lives in the folder and may not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; give another --out")
    if overwrite:
        return
    if (folder / CONFIG).exists() or (folder / _ASIDE).exists():
        raise RunError(f"{folder} holds a run already; `skipway resume {folder}`, another --out, or --overwrite")
    there = [file.name for file in written_by_a_run(folder) if file.name not in {BAD_FILES, NEW_BAD_FILES}]
    if there:
        raise RunError(f"{folder} holds {there[0]}, which a run would replace; give another --out, or --overwrite")


def written_by_a_run(folder: Path) -> list[Path]:
    """What a run writes, as far as it is there. Nothing else in the folder is ever touched."""
    found = [folder / name for name in _NAMES if (folder / name).is_file()]
    return [*found, *folder.glob("events.out.tfevents.*"), *checkpoints(folder)]


def place_of_run(folder: Path) -> Path:
    """Where the files of the run lie that a resume goes on with: aside while a new one has nothing to show."""
    aside = folder / _ASIDE
    return aside if old_run_waits(folder) and (aside / CONFIG).is_file() else folder


def old_run_waits(folder: Path) -> bool:
    """Whether an older run lies aside, to be put back where the new one comes to nothing."""
    aside = folder / _ASIDE
    return aside.is_dir() and not aside.is_symlink() and not _new_run_counts(folder)


def _new_run_counts(folder: Path) -> bool:
    """Whether the run in the folder takes the place of the one aside: it has trained weights, or has begun and the one
    aside has none either."""
    aside = folder / _ASIDE
    if not (aside / _MOVED).exists():
        return False  # what is in the folder may be the old run's
    if passed_first_step(folder):
        return True
    old_has_weights = passed_first_step(aside) or (aside / MODEL).is_file()
    return bool(checkpoints(folder)) and not old_has_weights


@contextmanager
def replacing(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Set the run in `folder` aside while the block trains a new one there.

    `drop_replaced` deletes the old run once the new one has a checkpoint after its first step, and so does the end of
    the block. An error before that puts the old run back as it was, and tells so through `say`. `put_back` does it
    later, where the process was killed inside.
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
            say(told_back(folder))
            if isinstance(error, KeyboardInterrupt):  # its text would speak of the new run
                raise KeyboardInterrupt(f"stopped; {told_back(folder)}") from None
        raise
    _discard(folder)


def drop_replaced(folder: Path) -> None:
    """Delete the run that was set aside, if the new one takes its place by now. Call it after a checkpoint."""
    aside = folder / _ASIDE
    if aside.is_dir() and not aside.is_symlink() and _new_run_counts(folder):
        _discard(folder)


def put_back(folder: Path) -> bool:
    """Bring back a run that was set aside for one that came to nothing; True where there was one. Call it with the
    folder held."""
    discarded = folder / _DISCARDED
    if discarded.is_dir() and not discarded.is_symlink():
        shutil.rmtree(discarded, ignore_errors=True)
    if old_run_waits(folder):
        _restore(folder)
        return True
    drop_replaced(folder)  # killed right after the checkpoint
    return False


def told_back(folder: Path) -> str:
    """What to say once an old run is back."""
    return f"{folder}: the run that was to be replaced is back; the new one had no checkpoint after its first step yet"


def _discard(folder: Path) -> None:
    aside = folder / _ASIDE
    if aside.is_dir() and not aside.is_symlink():
        aside.rename(folder / _DISCARDED)  # from here on the new run is the run
        shutil.rmtree(folder / _DISCARDED, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Bring the files of the old run back, from wherever a kill has left them.

    Only when all of them were aside can a file in the folder be the new run's. The mark of that goes before the first
    of them comes back.
    """
    aside = folder / _ASIDE
    if (aside / _MOVED).exists():
        for file in written_by_a_run(folder):
            file.unlink()
        (aside / _MOVED).unlink()
    _move(written_by_a_run(aside), aside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _move(files: list[Path], source: Path, to: Path) -> None:
    """Rename files of one folder into another, on the same disk. Raises RunError, with all of them where they were."""
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
