"""What the claims about fully connected networks on MNIST share: their recipe."""

from __future__ import annotations

from skipway.training.recipe import Recipe

MNIST = Recipe(
    name="mnist_mlp",
    source="Srivastava, Greff, Schmidhuber 2015, section 3.1: SGD with momentum and a falling rate; batch and schedule "
    "are ours",
    batch_size=50,
    optimizer="sgd",
    momentum=0.9,
    schedule="cosine",
    keep="last",
)
