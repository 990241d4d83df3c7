"""Our side of a pair: import what the framework wrote, classify the same photos, compare the logits."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from skipway.data.pictures import open_picture
from skipway.errors import SkipwayError
from skipway.inference.classifier import Classifier
from skipway.interchange.importing import import_weights
from skipway.models.catalog import spec_from_dict
from skipway.weights.bundle import load_bundle
from tests.parity.files.pair import Pair
from tests.parity.files.write import LOGITS
from tests.parity.line import Line

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ("slim", "keras_models", "torches", "caffe", "npy")
PAIRS: list[Pair] = [pair for script in SCRIPTS for pair in import_module(f"tests.parity.files.{script}").PAIRS]

# Wide, high, small, with sides whose scaled lengths and crops end in fractions of either kind.
_PHOTOS = (
    "n02443484_black-footed_ferret",
    "n02817516_bearskin",
    "n03133878_Crock_Pot",
    "n04041544_radio",
)
_MODEL = "imported.safetensors"
# Two photos are told apart by far more than the rounding that is allowed.
_ALIKE = 1e-3


def photo_files() -> list[Path]:
    """Four real photos, in the folder that the tests use, too; none where it is absent."""
    data = Path(os.environ.get("SKIPWAY_TEST_DATA", ROOT.parent / "shared" / "data"))
    files = [data / "photos" / f"{name}.JPEG" for name in _PHOTOS]
    return files if all(file.is_file() for file in files) else []


def prepare(files: list[Path], folder: Path) -> list[Path]:
    """The photos as PNG, so that no two decoders of JPEG are compared."""
    made = [folder / f"{file.stem}.png" for file in files]
    for file, to in zip(files, made, strict=True):
        open_picture(file).convert("RGB").save(to)
    return made


def run(pair: Pair, pythons: Mapping[str, str], photos: list[Path]) -> Line:
    """Have the framework write and answer, and judge; nothing is left on the disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shown, written = folder / "photos", folder / "written"
        shown.mkdir()
        written.mkdir()
        pictures = prepare(photos, shown)
        command = [pythons[pair.environment], "-W", "ignore", "-m", "tests.parity.files.write", pair.script, pair.name]
        subprocess.run([*command, "--photos", shown, "--to", written], cwd=ROOT, check=True, stdout=sys.stderr)
        return judge(pair, written, sorted(pictures))


def judge(pair: Pair, folder: Path, photos: list[Path]) -> Line:
    """Import every file that the pair wrote into `folder`, and compare with the logits there. Removes the files."""
    theirs = np.load(folder / LOGITS)
    line = Line("", pair.theirs)
    if (spread := _spread(theirs)) < _ALIKE:
        line.failed += (f"{pair.theirs}: answers the photos alike, {spread:.1e} apart",)
    for file in pair.files:
        line.cases += 1
        try:
            _judge_file(pair, folder / file, theirs, photos, line)
        except SkipwayError as error:
            line.failed += (f"{pair.theirs}, {file}: {error}",)
        for one in (*folder.glob(f"{file}*"), folder / _MODEL):
            one.unlink(missing_ok=True)
    line.ours = line.ours or "(not imported)"
    return line


def _judge_file(pair: Pair, file: Path, theirs: np.ndarray, photos: list[Path], line: Line) -> None:
    model = file.with_name(_MODEL)
    found = import_weights(file, model)
    model_name = found.model + (f" with other {', '.join(pair.fields)}" if pair.fields else "")
    line.ours = model_name if line.ours in {"", model_name} else f"{line.ours}, {model_name}"
    line.arrays += found.used
    ours = logits(model, photos, pair)
    if ours.shape != theirs.shape:
        line.failed += (f"{pair.theirs}, {file.name}: logits {ours.shape}, the reference's {theirs.shape}",)
        return
    relative = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    line.saw(relative, f"files/{pair.script}/{pair.name}: {file.name}")
    if not relative <= pair.tolerance:
        line.failed += (
            f"{pair.theirs}, {file.name}: logits differ by {relative:.1e}, over {pair.tolerance:.0e}; "
            f"imported as {found.model} with {load_bundle(model).preprocessing}",
        )


def logits(model: Path, photos: list[Path], pair: Pair) -> np.ndarray:
    """What the model file says of the photos, float64 (N, classes)."""
    bundle = load_bundle(model)
    if pair.fields:
        bundle = dataclasses.replace(bundle, spec=spec_from_dict(bundle.spec.to_dict() | pair.fields))
    classifier = Classifier(bundle, torch.device("cpu"))
    with torch.inference_mode():
        inputs = torch.cat([classifier.preprocessing.tensor(open_picture(photo)) for photo in photos])
        return classifier.network(inputs).double().numpy()


def _spread(answers: np.ndarray) -> float:
    """How far the two most alike answers (N, classes) are apart, relative to the largest logit."""
    pairs = itertools.combinations(answers, 2)
    return float(min(np.abs(one - other).max() for one, other in pairs) / np.abs(answers).max())
