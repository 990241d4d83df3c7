"""A flipped byte anywhere in a run's files: it is noticed, or it changes nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch
from scripts.torture.runs import DEFECT, REFUSED, SMALL, differences, ended, forked, progress, resumed, write_pictures

from skipway.errors import SkipwayError
from skipway.weights.bundle import load_bundle


def flips(folder: Path, draw: random.Random, count: int) -> tuple[int, int, list[str]]:
    """Flip `count` bytes, each in a fresh copy of a run. Returns the flips, those noticed or harmless, and the rest."""
    data = write_pictures(folder / "data")
    whole, half = folder / "whole", folder / "half"
    _require(ended(forked(lambda: SMALL.train(data, whole))), 0)
    _require(ended(forked(lambda: _half(data, half))), 0)
    good, failures = 0, []
    for number in range(count):
        source = draw.choice((whole, half))
        copy = Path(shutil.copytree(source, folder / "copy"))
        file = _file_to_flip(copy, draw)
        place = _flip(file, draw)
        wrong = _model_wrong(copy, whole) if file.name == "model.safetensors" else _resume_wrong(copy, whole, folder)
        good += not wrong
        failures += [f"{file.relative_to(copy)} of {source.name}, byte {place}: {wrong}"] if wrong else []
        shutil.rmtree(copy)
        if number % 10 == 9:
            progress(f"flips: {number + 1} of {count}, {good} noticed or harmless")
    return count, good, failures


def _require(status: int, wanted: int) -> None:
    if status != wanted:
        raise RuntimeError(f"a run that nobody disturbed ended with {status}")


def _half(data: Path, out: Path) -> None:
    """A run that was stopped on its way, with two checkpoints."""
    from skipway.training.loop import Loop

    after = Loop._after_step

    def stopping(self: Loop) -> None:
        after(self)
        if self.progress.step == 5:
            self._stop_asked = True

    Loop._after_step = stopping  # type: ignore[method-assign]  # in this child alone
    try:
        SMALL.train(data, out)
    except KeyboardInterrupt:
        return


def _file_to_flip(run: Path, draw: random.Random) -> Path:
    """Any file that has bytes; half of the time a checkpoint or the model, on which the most depends."""
    files = sorted(file for file in run.rglob("*") if file.is_file() and file.stat().st_size)
    heavy = [file for file in files if file.suffix in {".pt", ".safetensors"}]
    return draw.choice(heavy if draw.random() < 0.5 else files)


def _flip(file: Path, draw: random.Random) -> int:
    data = bytearray(file.read_bytes())
    place = draw.randrange(len(data))
    data[place] ^= 1 << draw.randrange(8)
    file.write_bytes(data)
    return place


def _model_wrong(run: Path, whole: Path) -> str:
    """What is wrong with how a flipped model file is taken; empty where it is refused, or has the same weights."""
    try:
        found = load_bundle(run / "model.safetensors")
    except SkipwayError:
        return ""
    except Exception as error:
        return f"defect: {type(error).__name__}: {error}"
    before = load_bundle((whole if _finished(run) else run.parent / "half") / "model.safetensors")
    same = all(torch.equal(tensor, before.tensors[name]) for name, tensor in found.tensors.items())
    facts = ("spec", "preprocessing", "labels")
    return "" if same and all(getattr(found, fact) == getattr(before, fact) for fact in facts) else "silent"


def _finished(run: Path) -> bool:
    return (run / "report.html").exists()


def _resume_wrong(run: Path, whole: Path, folder: Path) -> str:
    said = folder / "said.txt"
    said.unlink(missing_ok=True)
    status = ended(forked(lambda: resumed(run, said), said))
    told = said.read_text() if said.exists() else ""
    if status == REFUSED:
        return "" if told.count("error: ") == 1 else f"refused without one line: {told[-300:]}"
    if status == DEFECT or status < 0:
        return f"exit {status}: {told[-300:]}"
    wrong = differences(whole, run)
    return f"silent: {'; '.join(wrong[:4])}" if wrong else ""
