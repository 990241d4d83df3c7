"""A disk that fills up: one line, an older run as it was, and a resume once there is space."""

from __future__ import annotations

import random
import shutil
import subprocess
from functools import partial
from pathlib import Path

from scripts.torture.runs import REFUSED, SMALL, differences, ended, forked, progress, resumed, write_pictures

_KIB = 1024


def disk(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:
    """Train into a small file system `count` times, in which something else takes most of the space. (0, 0, []) where
    none may be mounted."""
    data = write_pictures(folder / "data")
    whole, place = folder / "whole", folder / "small"
    if status := ended(forked(lambda: SMALL.train(data, whole))):
        raise RuntimeError(f"a run that nobody disturbed ended with {status}")
    size = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={3 * size // _KIB + 512}k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return 0, 0, []
    good, failures = 0, []
    try:
        for number in range(count):
            wrong = _filled(data, whole, place, size, draw, folder)
            good += not wrong
            failures += [wrong] if wrong else []
            for one in place.iterdir():
                shutil.rmtree(one) if one.is_dir() else one.unlink()
            progress(f"disk: {number + 1} of {count}, {good} as they should")
    finally:
        subprocess.run(["umount", str(place)], check=False)
    return count, good, failures


def _filled(data: Path, whole: Path, place: Path, size: int, draw: random.Random, folder: Path) -> str:
    run, ballast, said = place / "run", place / "ballast", folder / "said.txt"
    said.unlink(missing_ok=True)
    older = draw.random() < 0.5
    if older:
        shutil.copytree(whole, run)
    before = _contents(run)
    free = shutil.disk_usage(place).free
    room = draw.randrange(0, size)
    ballast.write_bytes(bytes(max(free - room, 0)))
    status = ended(forked(lambda: SMALL.train(data, run, overwrite=older), said))
    told = said.read_text() if said.exists() else ""
    ballast.unlink()
    if status == 0:  # there was room enough
        return "; ".join(differences(whole, run)[:4])
    if status != REFUSED or told.count("error: ") != 1 or "disk is full" not in told:
        return f"exit {status}: {told[-300:]}"
    begun = any((run / "checkpoints").glob("step-*.pt"))
    if older and _contents(run) == before:
        return ""
    if older and not begun:
        return "the older run is not as it was"
    work = partial(resumed, run, said) if begun else partial(SMALL.train, data, run, overwrite=True)
    if status := ended(forked(work, said)):
        return f"with space again: exit {status}: {said.read_text()[-300:]}"
    return "; ".join(differences(whole, run)[:4])


def _contents(run: Path) -> dict[str, bytes]:
    files = (file for file in run.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {str(file.relative_to(run)): file.read_bytes() for file in files}
