"""Recipes: the table's numbers are those of the sources, and TOML carries every one of them."""

from __future__ import annotations

import os
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from skipway.data.augmentation import Augmentation
from skipway.data.loading import Plan
from skipway.errors import RecipeError, SkipwayError, UnknownNameError
from skipway.training.loop import total_steps
from skipway.training.recipe import (
    Recipe,
    find_recipe,
    read_recipe,
    read_toml,
    recipe_from_dict,
    recipe_to_toml,
    updated,
)
from skipway.training.recipes import RECIPES
from skipway.training.schedule import learning_rate

# Every field differs from its default, so that none can be dropped unseen.
STRANGE = Recipe(
    name='quotes " and \\ and \x7f and \t and 猫',
    source="line\nbreak",
    epochs=3,
    pictures=100,
    batch_size=7,
    drop_last=True,
    accumulation=2,
    optimizer="sgd",
    learning_rate=1e-30,
    momentum=0.1 + 0.2,
    nesterov=True,
    betas=(0.5, 0.75),
    epsilon=1e22,
    weight_decay=5e-5,
    decay_norm_and_bias=True,
    clip_norm=1.5,
    schedule="step",
    warmup=1 / 3,
    milestones=(0.1, 0.2, 0.9),
    step_factor=0.3,
    rise=0.9,
    final_share=0.01,
    label_smoothing=0.05,
    class_weights="auto",
    initialization="he",
    dropout=0.25,
    norm_momentum=0.02,
    zero_residual=True,
    ema=0.999,
    freeze=("stem", "stage1"),
    recompute_statistics=True,
    keep="last",
    early_stopping=4,
    checkpoint_steps=10,
    keep_checkpoints=3,
    validation=0.2,
    precision="fp32",
    compile="on",
    augmentation=Augmentation(
        crop="padded",
        crop_from=300,
        crop_padding=3,
        crop_scale=(0.2, 0.9),
        crop_ratio=(0.5, 2.0),
        mirror=0.5,
        rotate=10,
        zoom=0.1,
        shift=0.1,
        shear=3,
        brightness=0.1,
        contrast=0.2,
        saturation=0.3,
        lighting=0.1,
        randaugment=2,
        randaugment_magnitude=5,
        erasing=0.25,
        mixup=0.2,
        cutmix=1.0,
    ),
)


@pytest.mark.parametrize("recipe", [*RECIPES.values(), Recipe(), STRANGE], ids=lambda one: one.name[:12])
def test_toml_carries_every_field(recipe: Recipe) -> None:
    assert recipe_from_dict(tomllib.loads(recipe_to_toml(recipe)), "test") == recipe
    run = {"data": 'a "b" \\ c', "seed": 3, "val": ""}
    plain = tomllib.loads(recipe_to_toml(recipe, run))
    assert plain["run"] == run
    assert recipe_from_dict(plain, "test") == recipe, "readers of recipes skip the run"


def test_the_strange_recipe_leaves_no_field_at_its_default() -> None:
    plain = Recipe()
    assert [one.name for one in fields(Recipe) if getattr(plain, one.name) == getattr(STRANGE, one.name)] == []
    same = [
        one.name
        for one in fields(Augmentation)
        if getattr(Augmentation(), one.name) == getattr(STRANGE.augmentation, one.name)
    ]
    assert same == []


def test_names_are_the_keys_of_the_table() -> None:
    assert all(name == recipe.name for name, recipe in RECIPES.items())
    assert all(recipe.source for recipe in RECIPES.values())


# ----------------------------------------------------------------------------------------------- faithful numbers


def test_mnist_alexnet() -> None:
    one = RECIPES["alexnet_mnist"]
    assert (one.optimizer, one.learning_rate, one.betas, one.epsilon) == ("adam", 1e-3, (0.9, 0.999), 1e-8)
    assert (one.schedule, one.warmup, one.weight_decay, one.label_smoothing) == ("constant", 0.0, 0.0, 0.0)
    assert one.batch_size == 64
    assert one.dropout == pytest.approx(1 - 0.8)
    assert one.augmentation == Augmentation()
    # while step * 64 < 200000, from step 1
    updates = sum(1 for step in range(1, 4000) if step * 64 < 200_000)
    assert total_steps(one, Plan(60_000, 64, 0, one.drop_last)) == updates == 3124


def test_flowers17() -> None:
    one = RECIPES["flowers17"]
    assert (one.optimizer, one.momentum, one.nesterov, one.learning_rate) == ("sgd", 0.9, False, 1e-3)
    assert (one.batch_size, one.epochs, one.pictures, one.dropout) == (64, 1000, 0, 0.5)
    assert (one.checkpoint_steps, one.keep_checkpoints, one.validation) == (200, 1, 0.1)
    assert (one.schedule, one.weight_decay, one.augmentation) == ("constant", 0.0, Augmentation())


def test_hand_signs() -> None:
    one = RECIPES["signs"]
    assert (one.optimizer, one.learning_rate, one.betas, one.epsilon) == ("adam", 1e-3, (0.9, 0.999), 1e-7)
    assert (one.batch_size, one.epochs, one.pictures) == (32, 10, 0)
    assert (one.schedule, one.weight_decay, one.augmentation) == ("constant", 0.0, Augmentation())
    assert total_steps(one, Plan(1080, 32, 0, one.drop_last)) == 10 * 34


def test_cifar_resnet() -> None:
    one = RECIPES["cifar_resnet"]
    assert (one.optimizer, one.momentum, one.nesterov, one.learning_rate) == ("sgd", 0.9, False, 0.1)
    assert (one.weight_decay, one.decay_norm_and_bias, one.batch_size) == (1e-4, True, 128)
    assert one.augmentation == Augmentation(crop="padded", crop_padding=4, mirror=0.5)
    steps = total_steps(one, Plan(45_000, 128, 0, one.drop_last))
    assert steps == 64_000
    rates = [learning_rate(one, step, steps) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_imagenet_resnet() -> None:
    one = RECIPES["imagenet_resnet"]
    assert (one.optimizer, one.momentum, one.learning_rate, one.batch_size) == ("sgd", 0.9, 0.1, 256)
    assert (one.weight_decay, one.decay_norm_and_bias, one.epochs) == (1e-4, False, 90)
    assert one.warmup * one.epochs == pytest.approx(5)


# ------------------------------------------------------------------------------------------------- out of range

OUT_OF_RANGE: list[tuple[str, Any]] = [
    *((name, value) for name in ("epochs", "batch_size", "accumulation", "keep_checkpoints") for value in (0, -1)),
    *((name, -1) for name in ("pictures", "early_stopping", "checkpoint_steps")),
    *((name, value) for name in ("clip_norm", "weight_decay") for value in (-0.1, float("nan"), float("inf"))),
    *(
        (name, value)
        for name in ("learning_rate", "epsilon", "step_factor")
        for value in (0.0, -1.0, float("nan"), float("inf"))
    ),
    *(
        (name, value)
        for name in ("momentum", "label_smoothing", "ema", "validation", "warmup", "final_share", "norm_momentum")
        for value in (-0.1, 1.0, 2.0, float("nan"))
    ),
    *(("dropout", value) for value in (1.0, 2.0, float("nan"), float("inf"))),
    *(("rise", value) for value in (0.0, 1.0, -0.5, float("nan"))),
    *(("milestones", value) for value in ((0.0,), (1.0,), (0.5, 0.4), (float("nan"),), (-0.1, 0.5))),
    *(("betas", value) for value in ((1.0, 0.9), (0.9, -0.1), (float("nan"), 0.9))),
    *((name, "magic") for name in ("optimizer", "schedule", "class_weights", "keep", "precision")),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=str)
def test_a_field_out_of_range_is_named_with_its_fix(name: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"^{name} (is|are) .*; give ") as caught:
        Recipe(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("mirror", "erasing", "zoom", "shift", "brightness") for value in (-0.1, 1.1)),
        *((name, -1) for name in ("rotate", "shear", "lighting", "randaugment", "mixup", "cutmix", "crop_padding")),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.9, 0.1)),
        ("crop_ratio", (2.0, 1.0)),
        ("randaugment_magnitude", 31),
    ],
    ids=str,
)
def test_an_augmentation_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"^augmentation: {name} is .*; give "):
        Augmentation(**{name: value})


def test_fields_that_contradict_each_other() -> None:
    with pytest.raises(RecipeError, match="accumulation is 9; a batch of 8"):
        Recipe(accumulation=9, batch_size=8)
    with pytest.raises(RecipeError, match="nesterov is true but momentum is 0; give a momentum"):
        Recipe(optimizer="sgd", nesterov=True, momentum=0.0)


# --------------------------------------------------------------------------------------------------------- files


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "mine.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_file_needs_only_what_differs(tmp_path: Path) -> None:
    file = write(tmp_path, 'epochs = 3\nlearning_rate = 1\nfreeze = ["stem"]\n[augmentation]\nrotate = 5\n')
    wanted = Recipe(epochs=3, learning_rate=1.0, freeze=("stem",), augmentation=Augmentation(rotate=5.0))
    assert find_recipe(str(file)) == read_recipe(file) == wanted
    assert read_recipe(write(tmp_path, "")) == Recipe()


def test_a_file_of_a_windows_editor(tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path, b"\xef\xbb\xbfepochs = 3\r\nbatch_size = 8\r\n")).epochs == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 3", r"unknown key of recipe .*mine\.toml 'epoch'; the nearest: epochs"),
        ("[augmentation]\nmirrors = 1", r"unknown key of recipe .*augmentation 'mirrors'; the nearest: mirror"),
        ("epochs = 0", "epochs is 0; give 1 or more"),
        ("epochs = 3.5", "epochs is 3.5; it must be a whole number"),
        ("epochs = true", "epochs is True; it must be a whole number"),
        ('learning_rate = "1e-3"', "learning_rate is '1e-3'; it must be a number"),
        ("learning_rate = nan", "learning_rate is nan; it must be a finite number"),
        ("clip_norm = inf", "clip_norm is inf; it must be a finite number"),
        ('optimizer = "lion"', "optimizer is 'lion'; it must be one of sgd, adam, adamw"),
        ("betas = [0.9]", "betas has 1 item; it must have 2"),
        ('freeze = "stem"', "freeze is 'stem'; it must be a list"),
        ("augmentation = 3", "augmentation is 3; it must be a table"),
        ("\nepochs = ?\n", "is no TOML .*line 2.*; correct that line"),
        ("epochs = 3\nepochs = 4", "is no TOML .*; correct that line"),
        ("epochs = " + "9" * 5000, "is no TOML .*; correct that line"),
        (b'name = "caf\xe9"', "is no TOML .*; save it as UTF-8"),
        ("x = " + "[" * 5000, "is no TOML .*; correct that line"),
    ],
    ids=lambda one: repr(one)[:40],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(SkipwayError, match=told) as caught:
        find_recipe(str(write(tmp_path, text)))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml cannot be read .*; check the path"):
        find_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match="cannot be read"):
        read_toml(tmp_path / "folder.toml")


def test_an_unknown_name_has_its_nearest_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'quik'; the nearest: quick \(or give a \.toml file\)"):
        find_recipe("quik")
    assert find_recipe("signs") is RECIPES["signs"]


# -------------------------------------------------------------------------------------------------- command line


def test_options_replace_fields() -> None:
    base = RECIPES["cifar_resnet"]
    assert updated(base, epochs=None, batch_size=None, learning_rate=None) == base
    changed = updated(base, epochs=3, batch_size=16, learning_rate=0.5)
    assert (changed.epochs, changed.pictures, changed.batch_size, changed.learning_rate) == (3, 0, 16, 0.5)
    assert changed.weight_decay == base.weight_decay


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("epochs", -3, r"--epochs is -3; give 1 or more"),
        ("batch_size", 0, r"--batch-size is 0; give 1 or more"),
        ("learning_rate", 0.0, r"--learning-rate is 0.0; give a number above 0"),
        ("learning_rate", float("nan"), r"--learning-rate is nan; give a finite number"),
    ],
)
def test_an_option_out_of_range_is_named_as_it_was_typed(option: str, value: float, told: str) -> None:
    options: dict[str, Any] = {"epochs": None, "batch_size": None, "learning_rate": None} | {option: value}
    with pytest.raises(RecipeError, match=f"^{told}$"):
        updated(Recipe(), **options)


def test_an_option_that_contradicts_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"^accumulation is 4; a batch of 2 has fewer parts"):
        updated(Recipe(accumulation=4), epochs=None, batch_size=2, learning_rate=None)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge"])
def test_what_is_no_recipe_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(RecipeError, match=r"cannot be read \(it (is|has) .*; "):
        find_recipe(str(path))
