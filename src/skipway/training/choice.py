"""Which network to train when the user names none, and what pictures it gets."""

from __future__ import annotations

from dataclasses import dataclass

from skipway.data.preprocessing import Preprocessing, preset
from skipway.models.network import Spec


@dataclass(frozen=True)
class Choice:
    """A row of the catalog, a picture side in pixels (0: the row's own), and the reason in one line."""

    model: str
    image_size: int
    reason: str


def choose_model(side: int, count: int, *, grey: bool) -> Choice:
    """The network for `count` pictures whose shorter side is typically `side` pixels.

    Small pictures need a stem that does not throw pixels away; few pictures need few layers.
    """
    seen = f"{count:,} {'grey' if grey else 'colour'} pictures of about {side} pixels"
    if grey and side <= 32:
        return Choice("alexnet.mnist", 0, f"{seen}: small and grey, the MNIST AlexNet trains fastest")
    if side <= 44:
        return Choice("resnet_v1_20.cifar", 0, f"{seen}: a stem without stride keeps their detail")
    if side <= 96:
        return Choice("resnet_v1_50.signs", 0, f"{seen}: made for 64 pixels a side")
    if count < 20_000:
        size = 224 if side >= 200 else 128
        return Choice("resnet_v1_18.torchvision", size, f"{seen}: too few to fill a deeper network")
    return Choice("resnet_v2_50.slim", 224, f"{seen}: enough for 50 layers")


def preprocessing_for(spec: Spec) -> Preprocessing:
    """The source's picture convention at the spec's own input size."""
    return preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1)
