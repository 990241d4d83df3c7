"""The one table of recipes: those of the sources, faithful to them, and two of ours."""

from __future__ import annotations

from pathlib import Path

from skipway.data.augmentation import Augmentation
from skipway.errors import RecipeError, UnknownNameError
from skipway.training.recipe import Recipe, read_recipe

# What both of ours share. The last epoch is kept: the rate has fallen to 0 there, and a handful of held-out pictures
# chooses worse. A small batch gives small data enough updates.
_OURS = Recipe(
    batch_size=16,
    optimizer="adamw",
    learning_rate=2e-3,
    betas=(0.9, 0.99),
    weight_decay=0.05,
    schedule="one_cycle",
    initialization="he",
    zero_residual=True,
    norm_momentum=0.1,
    keep="last",
)

QUICK = _OURS.replaced(
    name="quick",
    source="skipway: for small data and little time; docs/log.md has its measurements",
    epochs=10,
    label_smoothing=0.05,
    ema=0.98,
    # No mirror and small warps: in ten epochs a network has no time for more, and letters and digits bear no mirror.
    augmentation=Augmentation(rotate=5, zoom=0.07, shift=0.05, brightness=0.15, contrast=0.1),
)

STRONG = _OURS.replaced(
    name="strong",
    source="skipway: for the best accuracy that small data allow; docs/log.md has its measurements",
    epochs=40,
    label_smoothing=0.1,
    ema=0.99,
    augmentation=Augmentation(
        mirror=0.5, rotate=10, zoom=0.1, shift=0.08, brightness=0.2, contrast=0.2, saturation=0.2
    ),
)

ALEXNET_MNIST = Recipe(
    name="alexnet_mnist",
    # The loop runs while step * 64 < 200,000, from step 1: 3,124 updates. An epoch's last, partial batch is dropped,
    # as the tutorials' `next_batch` does. The keep probability of 0.8 is the network's own drop rate of 0.2.
    source="the MNIST AlexNet of the TensorFlow-Examples tutorials: Adam 1e-3, batch 64, 200,000 pictures, keep 0.8",
    pictures=199_936,
    batch_size=64,
    drop_last=True,
    optimizer="adam",
    learning_rate=1e-3,
    dropout=0.2,
    keep="last",
)

ALEXNET = Recipe(
    name="alexnet",
    # The paper divides the rate by 10 three times, by hand, whenever the validation error stands still, and does not
    # say when that was.
    source="Krizhevsky et al. 2012, sections 4 and 5: SGD 0.01 at batch 128, momentum 0.9, weight decay 5e-4, 90 "
    "epochs, random crops of pictures resized to 256, mirrors, PCA colour, dropout 0.5",
    epochs=90,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decay_norm_and_bias=True,
    schedule="step",
    milestones=(0.5, 0.75, 0.9),
    dropout=0.5,
    keep_checkpoints=2,
    augmentation=Augmentation(crop="random", crop_from=256, mirror=0.5, lighting=0.1),
)

FLOWERS17 = Recipe(
    name="flowers17",
    source="tflearn, examples/images/alexnet.py: momentum 0.9, 1e-3, batch 64, 1000 epochs, 10 % validation, keep 0.5, "
    "a checkpoint every 200 steps of which the newest is kept",
    epochs=1000,
    batch_size=64,
    optimizer="sgd",
    learning_rate=1e-3,
    momentum=0.9,
    dropout=0.5,
    keep="last",
    checkpoint_steps=200,
    keep_checkpoints=1,
    validation=0.1,
)

SIGNS = Recipe(
    name="signs",
    # Keras's Adam adds its epsilon before the bias correction, torch's after it: the same but for the first steps.
    source="deeplearning.ai's hand-signs ResNet50 in Keras: Adam with its defaults, batch 32, 10 epochs. Its code "
    "evaluates with batch statistics; here the running ones are recomputed at the end instead",
    epochs=10,
    batch_size=32,
    optimizer="adam",
    learning_rate=1e-3,
    epsilon=1e-7,
    recompute_statistics=True,
    keep="last",
    validation=0.0,  # the code trains on all 1,080 pictures and watches none
)

IMAGENET_RESNET = Recipe(
    name="imagenet_resnet",
    source="He et al. 2015, section 3.4, with the warm-up of Goyal et al. 2017 and a cosine: SGD 0.1 at batch 256, "
    "momentum 0.9, weight decay 1e-4 not on norm and bias, random resized crops and mirrors",
    epochs=90,
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
    schedule="cosine",
    warmup=5 / 90,
    keep_checkpoints=2,
    augmentation=Augmentation(crop="random_resized", mirror=0.5),
)

CIFAR_RESNET = Recipe(
    name="cifar_resnet",
    source="He et al. 2015, section 4.2: SGD 0.1, momentum 0.9, weight decay 1e-4, batch 128, 64,000 updates, divided "
    "by 10 after 32,000 and 48,000; crops from 4 pixels of padding and mirrors; 45,000 pictures train, 5,000 validate",
    pictures=64_000 * 128,
    batch_size=128,
    drop_last=True,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    decay_norm_and_bias=True,
    schedule="step",
    milestones=(0.5, 0.75),
    keep="last",
    augmentation=Augmentation(crop="padded", crop_padding=4, mirror=0.5),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (QUICK, STRONG, ALEXNET, ALEXNET_MNIST, FLOWERS17, SIGNS, IMAGENET_RESNET, CIFAR_RESNET)
}


def find_recipe(name: str) -> Recipe:
    """A recipe by its name in the table or by its TOML file. Raises UnknownNameError or RecipeError."""
    if not isinstance(name, str):
        raise RecipeError(f"recipe is {type(name).__name__}; give a name, a .toml file or a Recipe")
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES, hint="or give a .toml file")
    return RECIPES[name]
