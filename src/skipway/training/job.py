"""What is settled before the first step: the data are checked and divided, the network and its first weights chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipway.data.checking import Checked, bad_files_csv, check_split, require_mostly_good
from skipway.data.dataset import Source, Split, hold_out, joined
from skipway.data.folders import read_validation_folder
from skipway.data.identity import NONE_SEEN, Identity, PictureList, Seen, part_of, seen
from skipway.data.preprocessing import Preprocessing
from skipway.data.sources import open_source
from skipway.errors import DataError, PictureError, RunError
from skipway.files import write_text
from skipway.machine import usable_cores
from skipway.models.network import Network
from skipway.training.choice import choose_model
from skipway.training.console import Reporter
from skipway.training.folder import BAD_FILES, CONFIG, NEW_BAD_FILES
from skipway.training.progress import Progress
from skipway.training.recipe import Recipe
from skipway.training.request import Request, require_text
from skipway.training.start import fresh_network, network_from
from skipway.weights.bundle import load_bundle


@dataclass(frozen=True)
class Material:
    """Pictures that are fit to train on."""

    name: str  # of the data
    labels: tuple[str, ...]  # in the order of the class numbers
    train: Split
    val: Split | None  # None when nothing is held out
    side: int  # the median of the training pictures' shorter sides, in pixels
    grey: bool  # no training picture has colour
    mirrors: bool  # a mirrored picture keeps its meaning
    bad: tuple[PictureError, ...]  # pictures that cannot be read
    pictures: PictureList  # those of both parts, by content
    identity: Identity  # what the model file keeps of the pictures

    @property
    def fingerprint(self) -> str:
        """Changes with any change of the pictures, their names, their classes or their division.

        It does not change with the folder that the pictures lie in.
        """
        return self.pictures.fingerprint()

    @property
    def name_fingerprint(self) -> str:
        """What checkpoints of format 1 hold: full names and classes, and contents only of pictures in memory."""
        text = self.train.fingerprint()
        if self.val is not None:
            text += self.val.fingerprint()
        return text


@dataclass(frozen=True)
class Start:
    """Everything settled before the first step of a run, or before its next one."""

    folder: Path
    request: Request
    recipe: Recipe
    material: Material
    network: Network
    preprocessing: Preprocessing
    progress: Progress
    earlier: Seen | None = NONE_SEEN  # the pictures that the first weights were trained on, None for unknown ones

    @property
    def identity(self) -> Identity:
        """The pictures that the weights were trained on, in earlier runs too, and those that judge them."""
        own = self.material.identity
        if self.earlier is None:
            return replace(own, complete=False)
        trained = own.trained.joined(self.earlier)
        return replace(own, trained=trained)


def gather(request: Request, recipe: Recipe, reporter: Reporter) -> Material:
    """Read, check and divide the data. Raises DataError, RunError, UnknownNameError."""
    source = open_source(request.data)
    if source.remark:
        reporter.say(source.remark)
    for label in source.labels:
        require_text(label)
    if "all" in source.splits:
        _refuse_inside(Path(request.out or "runs"), Path(request.data))
    train, val = divide(source, request, recipe)
    checked_train = _check(train, "checking pictures", reporter)
    checked_val = None
    if val is not None:
        checked_val = _check(val, "checking validation pictures", reporter)
    _require_classes(checked_train.split, source)
    return _material(source, checked_train, checked_val)


def _material(source: Source, train: Checked, val: Checked | None) -> Material:
    """The good pictures of both parts. Raises DataError where no validation picture is good."""
    bad = train.bad
    parts = [part_of("train", train.split, source.labels, train.digests)]
    seen_train = seen(train.digests, train.thumbnails)
    seen_val = NONE_SEEN
    val_split = None
    if val is not None:
        if len(val.split) == 0:
            raise DataError(f"no validation picture can be read; the first: {val.bad[0]}")
        bad += val.bad
        parts.append(part_of("val", val.split, source.labels, val.digests))
        seen_val = seen(val.digests, val.thumbnails)
        val_split = val.split
    return Material(
        name=source.name,
        labels=source.labels,
        train=train.split,
        val=val_split,
        side=train.side,
        grey=train.grey,
        mirrors=source.mirrors,
        bad=bad,
        pictures=PictureList(tuple(parts)),
        identity=Identity(seen_train, seen_val),
    )


def divide(source: Source, request: Request, recipe: Recipe) -> tuple[Split, Split | None]:
    """Training and validation parts: `--val` decides, else the data's own val part, else the recipe's fraction.

    Raises DataError where there is nothing to train on, and for a fraction that is none.
    """
    train = source.splits.get("train") or source.splits.get("all")
    if train is None:
        names = ", ".join(source.splits)
        raise DataError(f"{source.name} has only {names}; training needs a train part")
    classes = set(train.targets.tolist())
    if len(classes) < 2:
        only_label = source.labels[train.targets[0]]
        raise DataError(
            f"{source.name} has pictures of one class only ('{only_label}'); "
            "a classifier needs two or more class folders"
        )
    own_val = source.splits.get("val")
    fraction = _fraction(request.val)
    if request.val in source.splits:
        return train, source.splits[request.val]
    if fraction is None:
        if request.val:
            return train, read_validation_folder(Path(request.val), source.labels)
        if own_val is not None and recipe.validation:
            return train, own_val
        fraction = recipe.validation
    if fraction > 0:
        return hold_out(train, fraction, request.seed, source.labels)
    if own_val is not None:
        train = joined(train, own_val)
    return train, None


def _fraction(text: str) -> float | None:
    """The number that `--val` gives; None for a name. Raises DataError for a number that is no fraction."""
    try:
        fraction = float(text)
    except ValueError:
        return None
    if not 0 <= fraction < 1:
        raise DataError(f"--val {text} is no fraction; give one from 0 up to but not 1, or a folder")
    return fraction


def _check(split: Split, what: str, reporter: Reporter) -> Checked:
    """Decode every picture of a part, with progress under the title `what`."""
    return check_split(split, usable_cores(), lambda done, total: reporter.counting(what, done, total))


def _require_classes(split: Split, source: Source) -> None:
    """Raises DataError unless there are good pictures of two classes."""
    counts = np.bincount(split.targets, minlength=len(source.labels))
    present = (counts > 0).sum()
    if present < 2:
        raise DataError(f"{source.name}: pictures of fewer than two classes can be read; repair or add some")


def _refuse_inside(folder: Path, data: Path) -> None:
    """Raises RunError for a run folder among the pictures.

    The run would be taken for a class the next time, and a resume would find the pictures changed.
    """
    if not data.is_dir():
        return
    if folder.resolve().is_relative_to(data.resolve()):
        raise RunError(f"the run folder {folder} would lie among the pictures of {data}; give another --out")


def settle(request: Request, material: Material, reporter: Reporter) -> Request:
    """The request with a model. Where the user named none, one is chosen and reported."""
    if request.model or request.source_model:
        return request
    choice = choose_model(material.side, len(material.train), grey=material.grey)
    reporter.say(f"model {choice.model}: {choice.reason} (--model chooses another)")
    image_size = request.image_size or choice.image_size
    return replace(request, model=choice.model, image_size=image_size)


def starting_network(
    request: Request, recipe: Recipe, material: Material, say: Callable[[str], None]
) -> tuple[Network, Preprocessing, Seen | None]:
    """The network with its first weights, its preprocessing, and the pictures that these weights were trained on.

    The last is None where nobody knows. Raises ModelFileError, RecipeError, SpecError or UnknownNameError.
    """
    size, seed = request.image_size, request.seed
    if not request.source_model:
        spec = request.network()
        network, preprocessing = fresh_network(spec, material.labels, recipe, size, seed, say)
        return network, preprocessing, NONE_SEEN
    file = Path(request.source_model)
    bundle = load_bundle(file)
    network, preprocessing = network_from(file, bundle, material.labels, recipe, size, seed, say)
    identity = bundle.identity
    if identity is None or not identity.complete:
        return network, preprocessing, None
    return network, preprocessing, identity.trained


def adapt_recipe(recipe: Recipe, material: Material, reporter: Reporter) -> Recipe:
    """The recipe without mirrors where a mirrored picture means something else, such as a digit."""
    if not recipe.augmentation.mirror or material.mirrors:
        return recipe
    reporter.say(f"mirroring is off: {material.name} do not keep their meaning in a mirror")
    augmentation = replace(recipe.augmentation, mirror=0.0)
    return recipe.replaced(augmentation=augmentation)


def balanced_weights(split: Split, classes: int) -> Tensor:
    """Inverse class frequencies, float32 (classes,), with mean 1 over the pictures."""
    targets = torch.from_numpy(split.targets)
    counts = torch.bincount(targets, minlength=classes).clamp_min(1)
    class_count = (counts > 0).sum()
    return len(split) / (counts * class_count).float()


def require_readable(folder: Path, material: Material) -> None:
    """Raises DataError for more than 5 % bad pictures, and lists them in the run folder then."""
    bad_count = len(material.bad)
    total = len(material.train) + bad_count
    if material.val is not None:
        total += len(material.val)
    holds_run = (folder / CONFIG).exists()
    listed = folder / (NEW_BAD_FILES if holds_run else BAD_FILES)
    try:
        require_mostly_good(bad_count, total, listed)
    except DataError:
        write_text(listed, bad_files_csv(material.bad))
        raise
