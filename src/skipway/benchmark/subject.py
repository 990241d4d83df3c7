"""What is measured: a network of the catalog with random weights, or that of a model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from skipway.data.preprocessing import Preprocessing
from skipway.errors import SpecError
from skipway.models.catalog import find_spec
from skipway.models.network import Network, Spec
from skipway.training.choice import preprocessing_for
from skipway.weights.bundle import Bundle, load_bundle


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    `spec.input_size` is the side of its pictures in pixels, `preprocessing` how they are made; `build` makes the
    network, in evaluation mode.
    """

    spec: Spec
    preprocessing: Preprocessing
    build: Callable[[], Network]


def find_subject(model: str, *, image_size: int = 0, seed: int = 0) -> Subject:
    """The network of that name, or of that model file, for pictures of `image_size` pixels a side (0: its own).

    A network of the catalog has weights drawn from `seed`, and running statistics as they are before training. Raises
    UnknownNameError, ModelFileError, and SpecError for a size that the network cannot take.
    """
    if is_model_file(model):
        bundle = load_bundle(model)
        return _subject_of_bundle(bundle, image_size)
    spec = find_spec(model)
    if image_size:
        spec = spec.replaced({"input_size": image_size})

    def build() -> Network:
        """The same weights each time."""
        torch.manual_seed(seed)
        return spec.build().eval()

    return Subject(spec, preprocessing_for(spec), build)


def is_model_file(model: str) -> bool:
    """Whether the text means a file and not a name of the catalog."""
    if model.endswith(".safetensors"):
        return True
    path = Path(model)
    has_folder = len(path.parts) > 1
    return has_folder or path.is_file()


def _subject_of_bundle(bundle: Bundle, image_size: int) -> Subject:
    """The network of a model, its weights included. Raises SpecError where they do not fit pictures of that size."""
    own = bundle.spec
    if image_size in {0, own.input_size}:
        return Subject(own, bundle.preprocessing, bundle.network)
    if own.flattened(image_size) != own.flattened(own.input_size):
        raise SpecError(
            f"{own.name} has weights for pictures of {own.input_size} pixels a side; leave --image-size {image_size} "
            "out, or measure the network by its name"
        )
    spec = own.replaced({"input_size": image_size})
    resized = dataclasses.replace(bundle, spec=spec, preprocessing=preprocessing_for(spec))
    return Subject(spec, resized.preprocessing, resized.network)
