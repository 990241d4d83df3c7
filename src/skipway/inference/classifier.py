"""A model file at work: load it, give it pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from skipway.data.pictures import EncodedBytes, Readable, open_picture
from skipway.data.preprocessing import Picture, Preprocessing
from skipway.errors import DataError, SkipwayError
from skipway.machine import pick_device
from skipway.models.network import Network
from skipway.weights.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    from skipway.inference.engines import Precision

CHUNK = 32  # pictures decoded and classified at once, so that many do not fill the memory


@dataclass(frozen=True)
class Prediction:
    """One answer. `index` is its place among the labels, `probability` a fraction."""

    label: str
    index: int
    probability: float


class Classifier:
    """`.network` gives logits, `.preprocessing` makes its input, `.labels` names its answers.

    `.engine` gives the same logits, as fast as was asked for: it is the network itself unless `use` replaced it.
    """

    def __init__(self, bundle: Bundle, device: torch.device, file: Path | None = None) -> None:
        self.file = file
        self.device = device
        self.preprocessing: Preprocessing = bundle.preprocessing
        self.labels = bundle.labels
        self.spec = bundle.spec
        self.metrics = bundle.metrics
        self.provenance = bundle.provenance
        self.identity = bundle.identity
        # nn.Module.to is untyped for memory formats
        self.network: Network = bundle.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.engine: nn.Module = self.network
        self.engine_name = "network"

    def use(
        self,
        engine: str,
        *,
        batch_size: int = CHUNK,
        precision: Precision = "fp32",
        calibrate: str | Path = "",
        pictures: int | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Answer by an engine from now on: one of `ENGINES`, or `auto` for the fastest, by measurement.

        What it compiles for a model that came from a file is kept in the user's cache (`skipway.user_cache`), and only
        what was kept there is read back; `tell` gets a line where that cache cannot be used. `pictures` is how many
        there are to be, where that is known: few are not worth measuring for. `calibrate` names the data that int8
        takes its ranges from. Raises UnknownNameError, EngineError for an engine that this machine lacks or that
        answers differently, DataError.
        """
        self.require_classes()
        if (engine, precision) == ("auto", "fp32") and pictures is not None and pictures <= CHUNK:
            return
        # Not before they are needed: they load compilers.
        from skipway.inference.calibration import calibration_pictures
        from skipway.inference.engines import Cache, open_engine, pick_engine

        cache = Cache(self.network, kept=self.file is not None, tell=tell)
        samples = calibration_pictures(calibrate, self.preprocessing) if calibrate else ()
        if engine == "auto":
            opened = pick_engine(
                self.network,
                batch_size=batch_size,
                precision=precision,
                device=self.device,
                cache=cache,
                calibration=samples,
                pictures=pictures,
                tell=tell,
            )
        else:
            opened = open_engine(
                engine,
                self.network,
                batch_size=batch_size,
                precision=precision,
                device=self.device,
                cache=cache,
                calibration=samples,
            )
        self.engine, self.engine_name = opened, opened.name

    def predict(
        self, pictures: Sequence[Path | str | EncodedBytes | Readable | Picture], top: int = 5
    ) -> list[list[Prediction]]:
        """The `top` answers for each picture (path, encoded bytes, open binary file, PIL image or uint8 array), best
        first.

        Raises PictureError for the first one that cannot be read, DataError for what is no picture, which both call
        `pictures[POSITION]` where it has no name.
        """
        _require_list(pictures)
        answers: list[list[Prediction]] = []
        for start in range(0, len(pictures), CHUNK):
            places = range(start, min(start + CHUNK, len(pictures)))
            opened = [_opened(pictures[place], f"pictures[{place}]") for place in places]
            answers += self.best(torch.stack([self.preprocessing.pixels(picture) for picture in opened]), top)
        return answers

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Softmax over the classes for counts (N, C, size, size) as `Preprocessing.pixels` gives them, on the CPU."""
        with torch.inference_mode():
            inputs = self.preprocessing.standardized(pixels.to(self.device))
            probabilities = self.engine(inputs).float().softmax(1).cpu()
            if not probabilities.isfinite().all():
                raise SkipwayError(self.infinite_message(inputs_finite=bool(inputs.isfinite().all())))
            return probabilities

    def best(self, pixels: Tensor, top: int) -> list[list[Prediction]]:
        """The `top` answers for each of the pictures (N, C, size, size), all where there are fewer classes."""
        if not isinstance(top, int | np.integer) or top < 1:
            raise SkipwayError(f"top is {top!r}; give a whole number, 1 or more")
        self.require_classes()
        probabilities = self.probabilities(pixels)
        if probabilities.ndim != 2:
            raise SkipwayError(f"{self.spec.name} answers for each pixel of a map; give a model with a global pool")
        values, indices = probabilities.topk(min(top, len(self.labels)), dim=1)
        return [
            [Prediction(self.labels[i], i, p) for p, i in zip(row_p, row_i, strict=True)]
            for row_p, row_i in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def infinite_message(self, *, inputs_finite: bool = True) -> str:
        """Why answers are not finite numbers, as far as it can be seen, and what to do."""
        name = self.file or self.spec.name
        if not inputs_finite:
            return f"the preprocessing of {name} makes pictures that are not finite numbers; import or train it again"
        values = (one for one in self.network.state_dict().values() if one.is_floating_point())
        if not all(bool(one.isfinite().all()) for one in values):
            return f"{name} has weights that are not finite numbers; import or train it again"
        return (
            f"the answers of {name} are not finite numbers: its weights, or the scale of its preprocessing, overflow "
            "on the way; import it with another --preprocessing, or train it again"
        )

    def require_classes(self) -> None:
        """Raises SkipwayError for a network that ends in features, or in a softmax over one class."""
        if not self.labels:
            raise SkipwayError(
                f"{self.file or self.spec.name} has no classifier, hence no classes to name; "
                "`skipway train DATA --from MODEL` gives it one for your pictures"
            )
        if len(self.labels) == 1:
            raise SkipwayError(
                f"{self.file or self.spec.name} has one class, which every picture would get for certain; import its "
                "weights again with two names in --labels FILE, or train it with two classes"
            )


def _require_list(pictures: object) -> None:
    """Raises DataError for a single picture, and for what cannot be counted."""
    single = isinstance(pictures, Path | str | EncodedBytes | Image.Image) or hasattr(pictures, "read")
    if single or (isinstance(pictures, np.ndarray) and pictures.ndim < 4):
        raise DataError("predict takes a list of pictures, not a picture; give [picture]")
    if not hasattr(pictures, "__len__") or not hasattr(pictures, "__getitem__") or isinstance(pictures, Mapping):
        raise DataError(
            f"predict takes a list of pictures, not what is of type {type(pictures).__name__}; give list(pictures)"
        )


def _opened(picture: object, label: str) -> Picture:
    if isinstance(picture, Image.Image | np.ndarray):
        return picture
    if isinstance(picture, Path | str):
        return open_picture(picture)
    if isinstance(picture, EncodedBytes) or hasattr(picture, "read"):
        return open_picture(cast("EncodedBytes | Readable", picture), label)
    raise DataError(
        f"{label} is of type {type(picture).__name__}; give a path, the bytes of a picture file, an open binary file, "
        "a PIL image or a uint8 array"
    )


def load(file: Path | str, device: str = "auto") -> Classifier:
    """The classifier of a model file, on `auto` (the GPU if there is one), `cpu` or `cuda`.

    Raises ModelFileError for a bad file and SkipwayError for a device that is not there.
    """
    return Classifier(load_bundle(file), pick_device(device), Path(file))
