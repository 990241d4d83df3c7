"""A recipe: everything about a training run but the network and the data. Frozen, named, TOML in and out."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skipway.data.augmentation import Augmentation
from skipway.errors import ReadError, RecipeError, SkipwayError
from skipway.files import read_bounded
from skipway.values import floated, from_plain

_MAX_BYTES = 1 << 20  # of a TOML file; a recipe takes two thousand


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. A step is one update of the weights.

    Length: `epochs`, or `pictures` in total where it is given (the last epoch may then be cut short).

    Optimizer: `sgd` with `momentum` and `nesterov`, `adam`, `adamw` with `betas` and `epsilon`; `weight_decay` (L2 in
    the gradient for sgd and adam, decoupled for adamw), left off norms and biases unless `decay_norm_and_bias`.
    `batch_size` pictures make an update, over all ranks, computed in `accumulation` parts; gradients longer than
    `clip_norm` (0: off) are shortened to it.

    Schedule: `constant`; `step`, times `step_factor` at each of `milestones` (shares of the run); `cosine`, to
    `final_share` of the peak; `one_cycle`, up for `rise` of the run by a cosine, then down to `final_share` by one
    (Smith 2018). `warmup` is a share of the run with a linear rise, not for `one_cycle`.

    Loss: cross-entropy with `label_smoothing`; `class_weights="auto"` weighs classes by their inverse frequency.

    Weights: `initialization` replaces the source's own (`source`); `dropout` its drop rates (below 0: as the source);
    `norm_momentum` batch normalization's (0: as the source); `zero_residual` starts each residual branch's last
    normalization at 0, which makes every block the identity (Goyal et al. 2017). `ema` averages the weights with
    this decay (0: off), after a start in which it is smaller. `freeze` names stages that stay as they are, their
    batch statistics too. `recompute_statistics`: after the last epoch the running statistics of batch normalization
    are computed afresh over the training pictures.

    Outcome: `keep` the `best` epoch by validation top-1 (then loss), or the `last`. `early_stopping` ends after so
    many epochs without a better one (0: off). A checkpoint every `checkpoint_steps` steps (0: every epoch), the
    newest `keep_checkpoints` of which stay. `validation` is the share held out where the data have no val part;
    0 holds nothing out and trains on a val part, too.

    `precision`: `auto` is bf16 on a GPU and fp32 on a CPU. `compile`: `auto` compiles the network on a GPU for runs of
    2,000 steps and more, which earn back the minute that it takes; `on` does so anywhere.
    """

    name: str = "custom"
    source: str = ""
    epochs: int = 10
    pictures: int = 0
    batch_size: int = 32
    drop_last: bool = False
    accumulation: int = 1
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decay_norm_and_bias: bool = False
    clip_norm: float = 0.0
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "constant"
    warmup: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    step_factor: float = 0.1
    rise: float = 0.3
    final_share: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["none", "auto"] = "none"
    initialization: str = "source"
    dropout: float = -1.0
    norm_momentum: float = 0.0
    zero_residual: bool = False
    ema: float = 0.0
    freeze: tuple[str, ...] = ()
    recompute_statistics: bool = False
    keep: Literal["best", "last"] = "best"
    early_stopping: int = 0
    checkpoint_steps: int = 0
    keep_checkpoints: int = 2
    validation: float = 0.1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        floated(self)
        self._require_types()
        for name, hint in typing.get_type_hints(Recipe).items():
            value, choices = getattr(self, name), typing.get_args(hint)
            if typing.get_origin(hint) is Literal and value not in choices:
                raise RecipeError(f"{name} is {value!r}; give one of {', '.join(choices)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise RecipeError(f"{name} is {value}; give a finite number")
        for name in ("epochs", "batch_size", "accumulation", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("pictures", "clip_norm", "early_stopping", "checkpoint_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} is {getattr(self, name)}; give 0 or more")
        for name in ("learning_rate", "epsilon", "step_factor"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"{name} is {getattr(self, name)}; give a number above 0")
        for name in ("momentum", "label_smoothing", "ema", "validation", "warmup", "final_share", "norm_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; give a number from 0 up to but not 1")
        if self.dropout >= 1:
            raise RecipeError(
                f"dropout is {self.dropout}; give a drop rate below 1, or a negative one for the source's"
            )
        if not 0 < self.rise < 1:
            raise RecipeError(f"rise is {self.rise}; give a share of the run between 0 and 1")
        if any(not 0 < one < 1 for one in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise RecipeError(f"milestones are {list(self.milestones)}; give rising shares of the run between 0 and 1")
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"betas are {list(self.betas)}; give two numbers from 0 up to but not 1")
        if self.nesterov and not self.momentum:
            raise RecipeError("nesterov is true but momentum is 0; give a momentum, or nesterov = false")
        if self.accumulation > self.batch_size:
            raise RecipeError(f"accumulation is {self.accumulation}; a batch of {self.batch_size} has fewer parts")

    def _require_types(self) -> None:
        """Raises RecipeError for a number, text or flag of another type; choices are checked with their values."""
        nouns = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        for name, hint in typing.get_type_hints(Recipe).items():
            value = getattr(self, name)
            if hint in nouns and type(value) is not hint:
                raise RecipeError(f"{name} is {value!r}; give {nouns[hint]}")

    def differences_from(self, other: Recipe) -> list[str]:
        """Keys whose values differ, those of the augmentation as `augmentation.crop`."""
        own, others = _flat(self), _flat(other)
        return [key for key in own if own[key] != others[key]]

    def replaced(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed."""
        return dataclasses.replace(self, **changes)


def _flat(recipe: Recipe) -> dict[str, Any]:
    plain = dataclasses.asdict(recipe)
    inner = plain.pop("augmentation")
    return plain | {f"augmentation.{key}": value for key, value in inner.items()}


def recipe_to_toml(recipe: Recipe, run: dict[str, Any] | None = None) -> str:
    """The recipe as TOML; `run` adds a table that readers of recipes skip."""
    plain = dataclasses.asdict(recipe)
    augmentation = plain.pop("augmentation")
    parts = [_table(plain), "[augmentation]\n" + _table(augmentation)]
    if run is not None:
        parts.append("[run]\n" + _table(run))
    return "\n".join(parts)


def read_recipe(file: Path) -> Recipe:
    """A recipe from TOML. Keys that are left out have their defaults. Raises RecipeError or UnknownNameError."""
    return recipe_from_dict(read_toml(file), str(file))


def recipe_from_dict(plain: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain values; a table `run` is skipped."""
    return from_plain(Recipe, {key: value for key, value in plain.items() if key != "run"}, f"recipe {where}")


def read_toml(file: Path) -> dict[str, Any]:
    """Plain values of a TOML file. Raises RecipeError."""
    try:
        text = read_bounded(file, _MAX_BYTES).decode("utf-8-sig")  # Windows editors like to begin with a mark
    except ReadError as error:
        raise RecipeError(f"{file} cannot be read (it {error.what}); {error.fix}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file} is no TOML ({error}); save it as UTF-8") from None
    return parse_toml(text.replace("\r\n", "\n"), str(file))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Plain values of TOML. `where` starts the error messages. Raises RecipeError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's own, and that of a number without end
        raise RecipeError(f"{where} is no TOML ({error}); correct that line") from None


def find_recipe(name: str) -> Recipe:
    """A recipe by its name in the table or by its TOML file. Raises UnknownNameError or RecipeError."""
    from skipway.errors import UnknownNameError
    from skipway.training.recipes import RECIPES

    if not isinstance(name, str):
        raise RecipeError(f"recipe is {type(name).__name__}; give a name, a .toml file or a Recipe")
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES, hint="or give a .toml file")
    return RECIPES[name]


def _table(values: dict[str, Any]) -> str:
    # A finite JSON number, a boolean, a text or list of them is TOML as well, but that TOML wants DEL spelt out.
    texts = {key: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") for key, value in values.items()}
    return "".join(f"{key} = {text}\n" for key, text in texts.items())


def updated(recipe: Recipe, *, epochs: int | None, batch_size: int | None, learning_rate: float | None) -> Recipe:
    """The recipe with what the command line overrides; a number of epochs replaces a number of pictures."""
    changes: dict[str, Any] = {}
    if epochs is not None:
        changes |= {"epochs": epochs, "pictures": 0}
    if batch_size is not None:
        changes["batch_size"] = batch_size
    if learning_rate is not None:
        changes["learning_rate"] = learning_rate
    try:
        return recipe.replaced(**changes)
    except SkipwayError as error:
        name, _, rest = str(error).partition(" ")
        raise RecipeError(f"--{name.replace('_', '-')} {rest}" if name in changes else str(error)) from None
