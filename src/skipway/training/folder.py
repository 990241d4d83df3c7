"""A run folder: what a run writes there, and an older run in it kept until the new one can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skipway.errors import RunError
from skipway.files import write_text
from skipway.training.state import checkpoints

CONFIG = "config.toml"
PICTURES = "pictures.csv.gz"
BAD_FILES = "bad_files.csv"
NEW_BAD_FILES = "bad_files_new.csv"  # of a run that could not begin in the place of an older one
_ASIDE = ".replaced"
_MOVED = "moved"  # a mark in it: all files of the old run are here
_DISCARDED = ".discarded"
_NAMES = (CONFIG, PICTURES, BAD_FILES, NEW_BAD_FILES, "metrics.csv", "model.safetensors", "report.html")


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


def set_aside(folder: Path) -> Path:
    """Where an older run lies while a new one begins; the folder itself where there is none."""
    aside = folder / _ASIDE
    return aside if (aside / CONFIG).is_file() and not aside.is_symlink() else folder


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Set the run in `folder` aside while a new one begins there; the block ends with its first checkpoint.

    An error inside puts the old run back as it was. So does `put_back`, later, where the process was killed inside.
    """
    put_back(folder)
    old = written_by_a_run(folder)
    if not old:
        yield
        return
    aside = folder / _ASIDE
    _move(old, folder, aside)
    write_text(aside / _MOVED, "")
    try:
        yield
    except BaseException:
        _restore(folder)
        raise
    aside.rename(folder / _DISCARDED)  # from here on the new run is the run
    shutil.rmtree(folder / _DISCARDED, ignore_errors=True)


def put_back(folder: Path) -> bool:
    """Bring back a run that was set aside for one that did not begin; True where there was one. Call it with the folder
    held."""
    discarded, aside = folder / _DISCARDED, folder / _ASIDE
    if discarded.is_dir() and not discarded.is_symlink():
        shutil.rmtree(discarded, ignore_errors=True)
    if not aside.is_dir() or aside.is_symlink():
        return False
    _restore(folder)
    return True


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
