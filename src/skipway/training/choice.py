"""Which network to train when the user names none, and what pictures it gets."""

from __future__ import annotations

from dataclasses import dataclass

from skipway.data.preprocessing import Preprocessing, preset
from skipway.models.network import Spec


@dataclass(frozen=True)
class ModelChoice:
    """A row of the catalog, a picture side in pixels (0: the row's own), and the reason in one line."""

    model: str
    image_size: int
    reason: str


def choose_model(side: int, count: int, *, grey: bool) -> ModelChoice:
    """The network for `count` pictures whose shorter side is typically `side` pixels.

    Small pictures need a stem that does not throw pixels away; few pictures need few layers.
    """
    colour = "grey" if grey else "colour"
    pictures = f"{count:,} {colour} pictures of about {side} pixels"
    if grey and side <= 32:
        reason = f"{pictures}: small and grey, the MNIST AlexNet trains fastest"
        return ModelChoice("alexnet.mnist", 0, reason)
    if side <= 44:
        reason = f"{pictures}: a stem without stride keeps their detail"
        return ModelChoice("resnet_v1_20.cifar", 0, reason)
    if side <= 96:
        reason = f"{pictures}: made for 64 pixels a side"
        return ModelChoice("resnet_v1_50.signs", 0, reason)
    if count < 20_000:
        size = 224 if side >= 200 else 128
        reason = f"{pictures}: too few to fill a deeper network"
        return ModelChoice("resnet_v1_18.torchvision", size, reason)
    reason = f"{pictures}: enough for 50 layers"
    return ModelChoice("resnet_v2_50.slim", 224, reason)


def preprocessing_for(spec: Spec) -> Preprocessing:
    """The preprocessing that the source of a spec uses, at the spec's own input size."""
    grey = spec.in_channels == 1
    return preset(spec.preprocessing, spec.input_size, grey=grey)
