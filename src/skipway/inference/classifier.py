"""A model file at work: load it, give it pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from skipway.data.pictures import open_picture
from skipway.data.preprocessing import Picture, Preprocessing
from skipway.errors import DataError, SkipwayError
from skipway.models.network import Network
from skipway.weights.bundle import Bundle, load_bundle

CHUNK = 32  # pictures decoded and classified at once, so that many do not fill the memory


@dataclass(frozen=True)
class Prediction:
    """One answer. `index` is its place among the labels, `probability` a fraction."""

    label: str
    index: int
    probability: float


class Classifier:
    """`.network` gives logits, `.preprocessing` makes its input, `.labels` names its answers."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.device = device
        self.preprocessing: Preprocessing = bundle.preprocessing
        self.labels = bundle.labels
        self.spec = bundle.spec
        self.metrics = bundle.metrics
        self.provenance = bundle.provenance
        # nn.Module.to is untyped for memory formats
        self.network: Network = bundle.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def predict(self, pictures: Sequence[Path | str | bytes | Picture], top: int = 5) -> list[list[Prediction]]:
        """The `top` answers for each picture (path, encoded bytes, PIL image or uint8 array), best first.

        Raises PictureError for the first one that cannot be read.
        """
        if isinstance(pictures, Path | str | bytes | Image.Image):
            raise DataError("predict takes a list of pictures, not a picture; give [picture]")
        answers: list[list[Prediction]] = []
        for start in range(0, len(pictures), CHUNK):
            chunk = pictures[start : start + CHUNK]
            answers += self.best(torch.stack([self.preprocessing.pixels(_opened(picture)) for picture in chunk]), top)
        return answers

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Softmax over the classes for uint8 pictures (N, C, size, size), on the CPU."""
        with torch.inference_mode():
            inputs = self.preprocessing.standardized(pixels.to(self.device))
            logits = self.network(inputs.contiguous(memory_format=torch.channels_last))
            return logits.float().softmax(1).cpu()

    def best(self, pixels: Tensor, top: int) -> list[list[Prediction]]:
        """The `top` answers for each of the uint8 pictures (N, C, size, size), all where there are fewer classes."""
        if top < 1:
            raise SkipwayError(f"top is {top}; give 1 or more")
        probabilities = self.probabilities(pixels)
        if probabilities.ndim != 2:
            raise SkipwayError(f"{self.spec.name} answers for each pixel of a map; give a model with a global pool")
        values, indices = probabilities.topk(min(top, len(self.labels)), dim=1)
        return [
            [Prediction(self.labels[i], i, p) for p, i in zip(row_p, row_i, strict=True)]
            for row_p, row_i in zip(values.tolist(), indices.tolist(), strict=True)
        ]


def _opened(picture: Path | str | bytes | Picture) -> Picture:
    return open_picture(picture) if isinstance(picture, Path | str | bytes) else picture


def load(file: Path | str, device: str = "auto") -> Classifier:
    """The classifier of a model file, on `auto` (the GPU if there is one), `cpu` or `cuda`.

    Raises ModelFileError for a bad file and SkipwayError for a device that is not there.
    """
    return Classifier(load_bundle(file), pick_device(device))


def pick_device(name: str) -> torch.device:
    """The device a user means. Raises SkipwayError."""
    if name not in {"auto", "cpu", "cuda"}:
        raise SkipwayError(f"unknown device '{name}'; give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise SkipwayError("this machine has no CUDA device that torch can use; give --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
