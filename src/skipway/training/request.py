"""What a training was asked for, settled: the options of a call or command become the `[run]` of config.toml."""

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

_FREE = frozenset(("data", "device", "workers", "out"))  # of a request: what may change between a run and its resume


@dataclass(frozen=True)
class Request:
    """A training command: what `skipway train` was asked, as the `[run]` table of config.toml keeps it.

    `val` is a fraction, a folder, the name of a split of the data, or empty for the recipe's choice. `spec` is JSON, of
    a network that is no row of the catalog.
    """

    data: str
    model: str = ""
    spec: str = ""
    source_model: str = ""
    val: str = ""
    image_size: int = 0
    seed: int = 0
    device: str = "auto"
    workers: int = -1
    out: str = ""

    def __post_init__(self) -> None:
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
        """Fields that decide what a run ends with and that differ from those of an earlier `to_dict`."""
        return [name for name, value in self.to_dict().items() if name not in _FREE and plain.get(name) != value]

    def network(self) -> Spec:
        """What `model` names, or `spec` describes. Raises UnknownNameError, and RunError for a spec that is none."""
        if not self.spec:
            return find_spec(self.model)
        try:
            return spec_from_dict(json.loads(self.spec))
        except (ValueError, TypeError, RecursionError) as error:
            raise RunError(f"the spec of the run is damaged ({str(error)[:200]}); begin a new run") from None


class Options(TypedDict, total=False):
    """What `skipway train` can be told beside the data.

    `model` is a name of the catalog or any spec, or `source_model` a model file to start from, or neither: then one is
    chosen by the pictures. `recipe` is a name, a TOML file or a Recipe, of which `epochs`, `batch_size` and
    `learning_rate` replace fields. `image_size` is the picture side in pixels (0: the network's own). `val` is a
    fraction (0 holds nothing out and trains on a val part, too), a folder or the name of a split. `workers` decode
    pictures (-1: as fits). `out` defaults to `runs/<data>-<model>`.
    """

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


def request_of(data: str | Path, **options: Unpack[Options]) -> tuple[Request, Recipe]:
    """Options in their settled form. Raises UnknownNameError and RecipeError."""
    model, source_model = options.get("model", ""), str(options.get("source_model", ""))
    if model and source_model:
        raise RecipeError("--model and --from exclude each other; give one")
    refuse_unknown_options("train", options, Options)
    if not isinstance(data, str | Path) or not str(data):
        raise DataError("the name of the data is empty; give a folder of class folders, or digits")
    for text in (str(data), source_model, str(options.get("val", "")), str(options.get("out") or "")):
        require_text(text)
    out = options.get("out") or ""
    recipe = options.get("recipe", "quick")
    recipe = updated(
        recipe if isinstance(recipe, Recipe) else find_recipe(recipe),
        epochs=options.get("epochs"),
        batch_size=options.get("batch_size"),
        learning_rate=options.get("learning_rate"),
    )
    described = model if isinstance(model, Spec) else find_spec(model) if model else None
    request = Request(
        data=absolute(str(data)),
        model="" if described is None else described.name,
        spec=json.dumps(model.to_dict()) if isinstance(model, Spec) else "",
        source_model=absolute(source_model),
        val=_place_or_split(str(options.get("val", ""))),
        image_size=options.get("image_size", 0),
        seed=options.get("seed", 0),
        device=options.get("device", "auto"),
        workers=options.get("workers", -1),
        out=str(out),
    )
    return request, recipe


def require_text(text: str) -> None:
    # config.toml and the report are UTF-8, which cannot hold the odd bytes that a file name may.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{text!r} is no valid text; rename that file or folder") from None


def absolute(text: str) -> str:
    """A path that exists as seen from anywhere, for a resume from another folder; other texts as they are."""
    form, colon, path = text.partition(":")
    if colon and not Path(text).exists():
        return f"{form}:{Path(path).resolve()}" if Path(path).is_dir() else text
    return str(Path(text).resolve()) if text and Path(text).exists() else text


def _place_or_split(text: str) -> str:
    """The name of a part of the data stays one, even where a folder here happens to be called that."""
    return text if text in {"val", "test"} else absolute(text)
