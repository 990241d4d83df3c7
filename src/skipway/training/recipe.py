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

    Raises RecipeError for a value that is of another type, out of range, or in conflict with another one.
    """

    name: str = "custom"
    source: str = ""  # where the recipe comes from, in words

    # Length. Each update takes a batch.
    epochs: int = 10
    pictures: int = 0  # in all epochs together, in place of `epochs`; the last epoch may be cut short (0: off)
    batch_size: int = 32  # pictures of an update, over all processes
    drop_last: bool = False  # leave out an epoch's last batch where it is smaller
    accumulation: int = 1  # parts of a batch, which are computed one after the other

    # Optimizer.
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3  # the peak of the schedule
    momentum: float = 0.9  # of sgd
    nesterov: bool = False  # of sgd
    betas: tuple[float, float] = (0.9, 0.999)  # of adam and adamw
    epsilon: float = 1e-8  # of adam and adamw
    weight_decay: float = 0.0  # L2 in the gradient for sgd and adam, decoupled for adamw
    decay_norm_and_bias: bool = False  # whether norms and biases decay, too
    clip_norm: float = 0.0  # gradients longer than this are shortened to it (0: off)

    # Schedule: `constant`; `step`, times `step_factor` at each milestone; `cosine`, from the peak to `final_share` of
    # it; `one_cycle`, by a cosine up to the peak and by another down to `final_share` of it (Smith 2018).
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "constant"
    warmup: float = 0.0  # share of the run with a linear rise, not for one_cycle
    milestones: tuple[float, ...] = (0.5, 0.75)  # shares of the run
    step_factor: float = 0.1
    rise: float = 0.3  # share of the run in which the rate of one_cycle rises
    final_share: float = 0.0  # share of the peak

    # Loss: cross-entropy.
    label_smoothing: float = 0.0
    class_weights: Literal["none", "auto"] = "none"  # auto: the inverse frequencies of the classes

    # Network and weights.
    initialization: str = "source"  # how the first weights are drawn; `source`: as the network's source draws them
    dropout: float = -1.0  # drop rate (below 0: the source's)
    norm_momentum: float = 0.0  # of batch normalization (0: the source's)
    zero_residual: bool = False  # the last norm of each residual branch begins at 0: every block is the identity
    ema: float = 0.0  # decay of the weights' moving average (0: off); smaller at the start
    freeze: tuple[str, ...] = ()  # stages whose weights and batch statistics do not change
    recompute_statistics: bool = False  # after the last epoch, the running statistics over the training pictures

    # Outcome.
    keep: Literal["best", "last"] = "best"  # the epoch whose weights are kept; best by validation top-1, then by loss
    early_stopping: int = 0  # epochs without a better one after which the run ends (0: off)
    checkpoint_steps: int = 0  # steps between two checkpoints (0: an epoch)
    keep_checkpoints: int = 2  # how many of the newest checkpoints stay
    validation: float = 0.1  # share held out where the data have no val part; 0 also trains on a val part

    # Computation.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 on a GPU that has it, else fp32
    # auto: on a GPU, for runs of 2,000 steps and more, which earn back the minute that compiling takes.
    compile: Literal["auto", "on", "off"] = "auto"

    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        floated(self)
        self._require_types()
        self._require_choices()
        self._require_ranges()
        self._require_lists()
        if self.nesterov and not self.momentum:
            raise RecipeError("nesterov is true but momentum is 0; give a momentum, or nesterov = false")
        if self.accumulation > self.batch_size:
            raise RecipeError(f"accumulation is {self.accumulation}; a batch of {self.batch_size} has fewer parts")

    def _require_types(self) -> None:
        """Raises RecipeError for a number, text or flag of another type; choices are checked with their values."""
        nouns = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        for name, hint in typing.get_type_hints(Recipe).items():
            noun = nouns.get(hint)
            value = getattr(self, name)
            if noun is not None and type(value) is not hint:
                raise RecipeError(f"{name} is {value!r}; give {noun}")

    def _require_choices(self) -> None:
        """Raises RecipeError for a value that is not among a field's choices, and for a number that is not finite."""
        for name, hint in typing.get_type_hints(Recipe).items():
            value = getattr(self, name)
            if typing.get_origin(hint) is Literal:
                choices = typing.get_args(hint)
                if value not in choices:
                    raise RecipeError(f"{name} is {value!r}; give one of {', '.join(choices)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise RecipeError(f"{name} is {value}; give a finite number")

    def _require_ranges(self) -> None:
        """Raises RecipeError for a number that is too small or too large."""
        for name in ("epochs", "batch_size", "accumulation", "keep_checkpoints"):
            value = getattr(self, name)
            if value < 1:
                raise RecipeError(f"{name} is {value}; give 1 or more")
        for name in ("pictures", "clip_norm", "early_stopping", "checkpoint_steps", "weight_decay"):
            value = getattr(self, name)
            if value < 0:
                raise RecipeError(f"{name} is {value}; give 0 or more")
        for name in ("learning_rate", "epsilon", "step_factor"):
            value = getattr(self, name)
            if value <= 0:
                raise RecipeError(f"{name} is {value}; give a number above 0")
        for name in ("momentum", "label_smoothing", "ema", "validation", "warmup", "final_share", "norm_momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise RecipeError(f"{name} is {value}; give a number from 0 up to but not 1")
        if self.dropout >= 1:
            raise RecipeError(
                f"dropout is {self.dropout}; give a drop rate below 1, or a negative one for the source's"
            )
        if not 0 < self.rise < 1:
            raise RecipeError(f"rise is {self.rise}; give a share of the run between 0 and 1")

    def _require_lists(self) -> None:
        """Raises RecipeError for milestones outside the run or out of order, and for betas that are no decay."""
        milestones = list(self.milestones)
        inside_run = all(0 < milestone < 1 for milestone in milestones)
        if not inside_run or milestones != sorted(milestones):
            raise RecipeError(f"milestones are {milestones}; give rising shares of the run between 0 and 1")
        betas = list(self.betas)
        if not all(0 <= beta < 1 for beta in betas):
            raise RecipeError(f"betas are {betas}; give two numbers from 0 up to but not 1")

    def differences_from(self, other: Recipe) -> list[str]:
        """Names of the fields whose values differ; those of the augmentation as in `augmentation.crop`."""
        own_fields = _flat(self)
        other_fields = _flat(other)
        return [name for name in own_fields if own_fields[name] != other_fields[name]]

    def replaced(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed."""
        return dataclasses.replace(self, **changes)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe and of its augmentation in one mapping."""
    plain = dataclasses.asdict(recipe)
    augmentation = plain.pop("augmentation")
    for name, value in augmentation.items():
        plain[f"augmentation.{name}"] = value
    return plain


def recipe_to_toml(recipe: Recipe, run: dict[str, Any] | None = None) -> str:
    """The recipe as TOML; `run` adds a table that readers of recipes skip."""
    plain = dataclasses.asdict(recipe)
    augmentation = plain.pop("augmentation")
    text = _table(plain)
    text += "\n[augmentation]\n" + _table(augmentation)
    if run is not None:
        text += "\n[run]\n" + _table(run)
    return text


def _table(values: dict[str, Any]) -> str:
    """A TOML table, a line for each value.

    A finite JSON number, a boolean, a text or a list of them is TOML as well, except that TOML wants DEL escaped.
    """
    lines: list[str] = []
    for key, value in values.items():
        text = json.dumps(value, ensure_ascii=False)
        text = text.replace("\x7f", "\\u007f")
        lines.append(f"{key} = {text}\n")
    return "".join(lines)


def read_recipe(file: Path) -> Recipe:
    """A recipe from TOML. Keys that are left out have their defaults. Raises RecipeError or UnknownNameError."""
    plain = read_toml(file)
    return recipe_from_dict(plain, str(file))


def recipe_from_dict(plain: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain values; a table `run` is skipped. `where` names their source in error messages.

    Raises RecipeError, UnknownNameError or ValueMismatchError.
    """
    fields = dict(plain)
    fields.pop("run", None)
    return from_plain(Recipe, fields, f"recipe {where}")


def read_toml(file: Path) -> dict[str, Any]:
    """Plain values of a TOML file. Raises RecipeError."""
    try:
        content = read_bounded(file, _MAX_BYTES)
    except ReadError as error:
        raise RecipeError(f"{file} cannot be read (it {error.what}); {error.fix}") from None
    try:
        text = content.decode("utf-8-sig")  # Windows editors like to begin with a mark
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file} is no TOML ({error}); save it as UTF-8") from None
    text = text.replace("\r\n", "\n")
    return parse_toml(text, str(file))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Plain values of TOML. `where` starts the error messages. Raises RecipeError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's own error is a ValueError, as is one of a huge number
        raise RecipeError(f"{where} is no TOML ({error}); correct that line") from None


def updated(recipe: Recipe, *, epochs: int | None, batch_size: int | None, learning_rate: float | None) -> Recipe:
    """The recipe with the options of the command line in place of its own fields.

    A number of epochs also removes a number of pictures. Raises RecipeError, with the name of the option where it is
    the option that is wrong.
    """
    changes: dict[str, Any] = {}
    if epochs is not None:
        changes["epochs"] = epochs
        changes["pictures"] = 0
    if batch_size is not None:
        changes["batch_size"] = batch_size
    if learning_rate is not None:
        changes["learning_rate"] = learning_rate
    try:
        return recipe.replaced(**changes)
    except SkipwayError as error:
        message = str(error)
        field_name, _, rest = message.partition(" ")
        if field_name in changes:
            option = field_name.replace("_", "-")
            message = f"--{option} {rest}"
        raise RecipeError(message) from None
