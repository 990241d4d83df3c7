"""What to train on what, settled before the first step: data checked, network built, folder claimed."""

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
from skipway.training.recipe import Recipe
from skipway.training.request import Request, require_text
from skipway.training.start import fresh_network, network_from
from skipway.training.state import Progress
from skipway.weights.bundle import load_bundle


@dataclass(frozen=True)
class Material:
    """Pictures that are fit to train on. `val` is None when nothing is held out. `pictures` lists both, by content, and
    `identity` is what the model file keeps of them."""

    name: str
    labels: tuple[str, ...]
    train: Split
    val: Split | None
    side: int
    grey: bool
    mirrors: bool
    bad: tuple[PictureError, ...]
    pictures: PictureList
    identity: Identity

    @property
    def fingerprint(self) -> str:
        """Changes with any change of the pictures, their names, their classes or their division; not with the folder
        that they lie in."""
        return self.pictures.fingerprint()

    @property
    def name_fingerprint(self) -> str:
        """What checkpoints of format 1 hold: full names and classes, and contents only of pictures in memory."""
        return self.train.fingerprint() + (self.val.fingerprint() if self.val is not None else "")


@dataclass(frozen=True)
class Start:
    """Everything settled before the first step of a run, or before its next one. `earlier` are the pictures that the
    first weights were trained on, None where nobody knows."""

    folder: Path
    request: Request
    recipe: Recipe
    material: Material
    network: Network
    preprocessing: Preprocessing
    progress: Progress
    earlier: Seen | None = NONE_SEEN

    @property
    def identity(self) -> Identity:
        """The pictures that the weights have met since they were drawn, and those that judge them."""
        own = self.material.identity
        if self.earlier is None:
            return replace(own, complete=False)
        return replace(own, trained=own.trained.joined(self.earlier))


def gather(request: Request, recipe: Recipe, reporter: Reporter) -> Material:
    """Read, check and divide the data. Raises DataError, UnknownNameError."""
    source = open_source(request.data)
    if source.remark:
        reporter.say(source.remark)
    for label in source.labels:
        require_text(label)
    if "all" in source.splits:
        _refuse_inside(Path(request.out or "runs"), Path(request.data))
    train, val = divide(source, request, recipe)
    checked = _check(train, "checking pictures", reporter)
    checked_val = _check(val, "checking validation pictures", reporter) if val is not None else None
    bad = checked.bad + (checked_val.bad if checked_val else ())
    _require_classes(checked.split, source)
    if checked_val is not None and not len(checked_val.split):
        raise DataError(f"no validation picture can be read; the first: {checked_val.bad[0]}")
    parts = [part_of("train", checked.split, source.labels, checked.digests)]
    if checked_val is not None:
        parts.append(part_of("val", checked_val.split, source.labels, checked_val.digests))
    return Material(
        name=source.name,
        labels=source.labels,
        train=checked.split,
        val=checked_val.split if checked_val else None,
        side=checked.side,
        grey=checked.grey,
        mirrors=source.mirrors,
        bad=bad,
        pictures=PictureList(tuple(parts)),
        identity=Identity(_seen(checked), _seen(checked_val) if checked_val is not None else NONE_SEEN),
    )


def _seen(checked: Checked) -> Seen:
    return seen(checked.digests, checked.thumbnails)


def divide(source: Source, request: Request, recipe: Recipe) -> tuple[Split, Split | None]:
    """Training and validation parts: `--val` decides, else the data's own val part, else the recipe's fraction."""
    train = source.splits.get("train") or source.splits.get("all")
    if train is None:
        raise DataError(f"{source.name} has only {', '.join(source.splits)}; training needs a train part")
    if len(set(train.targets.tolist())) < 2:
        raise DataError(
            f"{source.name} has pictures of one class only ('{source.labels[train.targets[0]]}'); "
            "a classifier needs two or more class folders"
        )
    fraction = _fraction(request.val)
    if request.val in source.splits:
        return train, source.splits[request.val]
    if request.val and fraction is None:
        return train, read_validation_folder(Path(request.val), source.labels)
    if fraction is None:
        if "val" in source.splits and recipe.validation:
            return train, source.splits["val"]
        fraction = recipe.validation
    if fraction == 0:
        return (joined(train, source.splits["val"]) if "val" in source.splits else train), None
    return hold_out(train, fraction, request.seed, source.labels)


def _fraction(text: str) -> float | None:
    try:
        fraction = float(text)
    except ValueError:
        return None
    if not 0 <= fraction < 1:
        raise DataError(f"--val {text} is no fraction; give one from 0 up to but not 1, or a folder")
    return fraction


def _check(split: Split, what: str, reporter: Reporter) -> Checked:
    return check_split(split, usable_cores(), lambda done, total: reporter.counting(what, done, total))


def _require_classes(split: Split, source: Source) -> None:
    counts = np.bincount(split.targets, minlength=len(source.labels))
    if (counts > 0).sum() < 2:
        raise DataError(f"{source.name}: pictures of fewer than two classes can be read; repair or add some")


def _refuse_inside(folder: Path, data: Path) -> None:
    # The run would be taken for a class the next time, and a resume would find the pictures changed.
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise RunError(f"the run folder {folder} would lie among the pictures of {data}; give another --out")


def settle(request: Request, material: Material, reporter: Reporter) -> Request:
    """The request with its model chosen and said, where the user left that open."""
    if request.model or request.source_model:
        return request
    choice = choose_model(material.side, len(material.train), grey=material.grey)
    reporter.say(f"model {choice.model}: {choice.reason} (--model chooses another)")
    return replace(request, model=choice.model, image_size=request.image_size or choice.image_size)


def starting_network(
    request: Request, recipe: Recipe, material: Material, say: Callable[[str], None]
) -> tuple[Network, Preprocessing, Seen | None]:
    """The network with its first weights, its picture convention, and the pictures that these weights have met, None
    where nobody knows."""
    if request.source_model:
        file = Path(request.source_model)
        bundle = load_bundle(file)
        size, seed = request.image_size, request.seed
        network, preprocessing = network_from(file, bundle, material.labels, recipe, size, seed, say)
        known = bundle.identity if bundle.identity is not None and bundle.identity.complete else None
        return network, preprocessing, None if known is None else known.trained
    spec = request.network()
    network, preprocessing = fresh_network(spec, material.labels, recipe, request.image_size, request.seed, say)
    return network, preprocessing, NONE_SEEN


def adapt_recipe(recipe: Recipe, material: Material, reporter: Reporter) -> Recipe:
    """The recipe without what these data cannot bear: a mirrored digit is another sign."""
    if recipe.augmentation.mirror and not material.mirrors:
        reporter.say(f"mirroring is off: {material.name} do not keep their meaning in a mirror")
        return recipe.replaced(augmentation=replace(recipe.augmentation, mirror=0.0))
    return recipe


def balanced_weights(split: Split, classes: int) -> Tensor:
    """Inverse class frequencies, float32 (classes,), with mean 1 over the pictures."""
    counts = torch.bincount(torch.from_numpy(split.targets), minlength=classes).clamp_min(1)
    return len(split) / (counts * (counts > 0).sum()).float()


def require_readable(folder: Path, material: Material) -> None:
    """DataError for more than 5 % bad pictures, which are listed in the run folder then."""
    total = len(material.train) + (len(material.val) if material.val is not None else 0) + len(material.bad)
    listed = folder / (NEW_BAD_FILES if (folder / CONFIG).exists() else BAD_FILES)
    try:
        require_mostly_good(len(material.bad), total, listed)
    except DataError:
        write_text(listed, bad_files_csv(material.bad))
        raise
