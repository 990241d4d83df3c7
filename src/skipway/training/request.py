"""The options of a training call or command, checked, as the table `[run]` of config.toml keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from skipway.data.workers import MAX_WORKERS
from skipway.errors import DataError, RecipeError, RunError
from skipway.models.catalog import find_spec, spec_from_dict
from skipway.models.network import Spec
from skipway.training.recipe import Recipe, updated
from skipway.training.recipes import find_recipe
from skipway.values import refuse_unknown_options, verify
from skipway.weights.agreement import MAX_SIDE

_FREE = frozenset(("data", "device", "workers", "out"))  # fields that may change between a run and its resume


@dataclass(frozen=True)
class Request:
    """A training command: what `skipway train` was asked, as the `[run]` table of config.toml keeps it."""

    data: str  # a folder, or a name that `open_source` knows
    model: str = ""  # of the catalog
    spec: str = ""  # JSON, of a network that is no row of the catalog
    source_model: str = ""  # a model file whose weights the run starts from
    val: str = ""  # a fraction, a folder, the name of a split of the data, or empty for the recipe's choice
    image_size: int = 0  # pixels a side, 0 for the network's own
    seed: int = 0
    device: str = "auto"
    workers: int = -1  # processes that decode pictures, -1 for as many as fit
    out: str = ""  # the run folder

    def __post_init__(self) -> None:
        # First: a large seed deserves a message about the option, not about a field.
        if type(self.seed) is int and not 0 <= self.seed < 2**63:
            raise RecipeError(f"--seed is {self.seed}; give a number from 0 up to but not 2**63")
        verify(self, "the run")
        if not 0 <= self.image_size <= MAX_SIDE:
            raise RecipeError(
                f"--image-size is {self.image_size}; give pixels up to {MAX_SIDE:,}, as model files have, or 0"
            )
        if not -1 <= self.workers <= MAX_WORKERS:
            raise RecipeError(
                f"--workers is {self.workers}; give a number up to {MAX_WORKERS}, or -1 for as many as fit"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML."""
        return asdict(self)

    def differences_from(self, plain: Mapping[str, Any]) -> list[str]:
        """Names of the fields that differ from those of an earlier `to_dict`, as far as the result depends on them."""
        found: list[str] = []
        for name, value in self.to_dict().items():
            if name not in _FREE and plain.get(name) != value:
                found.append(name)
        return found

    def network(self) -> Spec:
        """The network that `model` names or `spec` describes. Raises UnknownNameError, and RunError for a bad spec."""
        if not self.spec:
            return find_spec(self.model)
        try:
            plain = json.loads(self.spec)
            return spec_from_dict(plain)
        except (ValueError, TypeError, RecursionError) as error:
            cause = str(error)[:200]
            raise RunError(f"the spec of the run is damaged ({cause}); begin a new run") from None


@dataclass(frozen=True)
class TrainOptions:
    """The options of `skipway train` beside the data, with their defaults.

    Attributes:
        model: A name of the catalog, or any spec. Without `model` and `source_model` the pictures decide.
        source_model: A model file to start from.
        recipe: A name, a TOML file or a Recipe.
        epochs: Replaces the recipe's, as `batch_size` and `learning_rate` do; None keeps it.
        batch_size: Pictures a step.
        learning_rate: The highest rate of the schedule.
        image_size: Side of the pictures in pixels; 0 for the network's own.
        val: A fraction (0 holds nothing out and trains on a val part, too), a folder, or the name of a split.
        seed: From 0 up to 2**63.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that decode pictures; -1 for as many as fit.
        out: The run folder; "" for `runs/<data>-<model>`.
    """

    model: str | Spec = ""
    source_model: str | Path = ""
    recipe: str | Recipe = "quick"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    image_size: int = 0
    val: str | float = ""
    seed: int = 0
    device: str = "auto"
    workers: int = -1
    out: str | Path = ""

    def chosen_recipe(self) -> Recipe:
        """The recipe, with the fields that other options replace. Raises UnknownNameError and RecipeError."""
        recipe = self.recipe
        if not isinstance(recipe, Recipe):
            recipe = find_recipe(recipe)
        return updated(recipe, epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)


class Options(TypedDict, total=False):
    """The fields of TrainOptions as keywords, for type checkers."""

    model: str | Spec
    source_model: str | Path
    recipe: str | Recipe
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    image_size: int
    val: str | float
    seed: int
    device: str
    workers: int
    out: str | Path


def request_of(data: str | Path, **keywords: Unpack[Options]) -> tuple[Request, Recipe]:
    """The request and the recipe that some options mean. Raises DataError, UnknownNameError and RecipeError."""
    refuse_unknown_options("train", keywords, Options)
    options = TrainOptions(**keywords)
    source_model = str(options.source_model)
    if options.model and source_model:
        raise RecipeError("--model and --from exclude each other; give one")
    if not isinstance(data, str | Path) or not str(data):
        raise DataError("the name of the data is empty; give a folder of class folders, or digits")
    val = str(options.val)
    out = str(options.out or "")
    for text in (str(data), source_model, val, out):
        require_text(text)
    recipe = options.chosen_recipe()
    model_name, spec_json = _described(options.model)
    request = Request(
        data=absolute(str(data)),
        model=model_name,
        spec=spec_json,
        source_model=absolute(source_model),
        val=_place_or_split(val),
        image_size=options.image_size,
        seed=options.seed,
        device=options.device,
        workers=options.workers,
        out=out,
    )
    return request, recipe


def _described(model: str | Spec) -> tuple[str, str]:
    """The full name of a model, and its JSON where it is a spec; both empty for an empty name."""
    if isinstance(model, Spec):
        return model.name, json.dumps(model.to_dict())
    if not model:
        return "", ""
    return find_spec(model).name, ""


def require_text(text: str) -> None:
    """Raises DataError for a name that UTF-8 cannot hold, as config.toml and the report are UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{text!r} is no valid text; rename that file or folder") from None


def absolute(text: str) -> str:
    """A path that exists as seen from anywhere, for a resume from another folder; other texts as they are.

    Data may be named with their form before the folder, as in `mnist:DIR`.
    """
    if not text:
        return text
    path = Path(text)
    if path.exists():
        return str(path.resolve())
    form, colon, rest = text.partition(":")
    if colon and Path(rest).is_dir():
        return f"{form}:{Path(rest).resolve()}"
    return text


def _place_or_split(text: str) -> str:
    """The name of a part of the data stays as it is, even where a folder here happens to have that name."""
    if text in {"val", "test"}:
        return text
    return absolute(text)
