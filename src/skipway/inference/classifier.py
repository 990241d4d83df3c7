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
    """A loaded model file, ready for pictures.

    Attributes:
        network: The network, in evaluation mode: standardized pictures (N, C, size, size) to logits (N, classes).
        preprocessing: How a picture becomes the network's input.
        labels: Names of the classes, in the order of the logits.
        engine: Gives the logits of `network`, faster: it is the network itself unless `use` replaced it.
        engine_name: Name of the engine; `network` for the network itself.
        file: The model file, None for a model that came from no file.
        device: Where the network is.
        spec: Layout of the network.
        metrics: Figures of the training.
        provenance: Where the model comes from.
        identity: Which pictures it was trained on, None where the file does not say.
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
        is_free_choice = (engine, precision) == ("auto", "fp32")
        if is_free_choice and pictures is not None and pictures <= CHUNK:
            return
        # Not before they are needed: they load compilers.
        from skipway.inference.calibration import calibration_pictures
        from skipway.inference.engines import Cache, open_engine, pick_engine

        is_kept = self.file is not None
        cache = Cache(self.network, kept=is_kept, tell=tell)
        samples: tuple[Tensor, ...] = ()
        if calibrate:
            samples = calibration_pictures(calibrate, self.preprocessing)
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
        self.engine = opened
        self.engine_name = opened.name

    def predict(
        self, pictures: Sequence[Path | str | EncodedBytes | Readable | Picture], top: int = 5
    ) -> list[list[Prediction]]:
        """The `top` answers for each picture (path, encoded bytes, open binary file, PIL image or uint8 array), best
        first.

        Raises PictureError for the first picture that cannot be read, and DataError for what is no picture. Both call
        it `pictures[POSITION]` where it has no name.
        """
        _require_list(pictures)
        answers: list[list[Prediction]] = []
        for start in range(0, len(pictures), CHUNK):
            end = min(start + CHUNK, len(pictures))
            opened = [_opened(pictures[place], f"pictures[{place}]") for place in range(start, end)]
            pixels = [self.preprocessing.pixels(picture) for picture in opened]
            answers += self.best(torch.stack(pixels), top)
        return answers

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Softmax over the classes for counts (N, C, size, size) as `Preprocessing.pixels` gives them, on the CPU.

        Raises SkipwayError where the answers are not finite numbers.
        """
        with torch.inference_mode():
            inputs = self.preprocessing.standardized(pixels.to(self.device))
            logits = self.engine(inputs).float()
            probabilities = logits.softmax(1).cpu()
            if not probabilities.isfinite().all():
                inputs_finite = bool(inputs.isfinite().all())
                raise SkipwayError(self.infinite_message(inputs_finite=inputs_finite))
            return probabilities

    def best(self, pixels: Tensor, top: int) -> list[list[Prediction]]:
        """The `top` answers for each of the pictures (N, C, size, size), all where there are fewer classes.

        Raises SkipwayError for a `top` below 1, and for a network that does not answer with classes.
        """
        if not isinstance(top, int | np.integer) or top < 1:
            raise SkipwayError(f"top is {top!r}; give a whole number, 1 or more")
        self.require_classes()
        probabilities = self.probabilities(pixels)
        if probabilities.ndim != 2:
            raise SkipwayError(f"{self.spec.name} answers for each pixel of a map; give a model with a global pool")
        shown = min(top, len(self.labels))
        values, indices = probabilities.topk(shown, dim=1)
        answers = []
        for row_values, row_indices in zip(values.tolist(), indices.tolist(), strict=True):
            predictions = []
            for probability, index in zip(row_values, row_indices, strict=True):
                predictions.append(Prediction(self.labels[index], index, probability))
            answers.append(predictions)
        return answers

    def infinite_message(self, *, inputs_finite: bool = True) -> str:
        """Why answers are not finite numbers, as far as it can be seen, and what to do."""
        name = self.file or self.spec.name
        if not inputs_finite:
            return f"the preprocessing of {name} makes pictures that are not finite numbers; import or train it again"
        for tensor in self.network.state_dict().values():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                return f"{name} has weights that are not finite numbers; import or train it again"
        return (
            f"the answers of {name} are not finite numbers: its weights, or the scale of its preprocessing, overflow "
            "on the way; import it with another --preprocessing, or train it again"
        )

    def require_classes(self) -> None:
        """Raises SkipwayError for a network that ends in features, or in a softmax over one class."""
        name = self.file or self.spec.name
        if not self.labels:
            raise SkipwayError(
                f"{name} has no classifier, hence no classes to name; "
                "`skipway train DATA --from MODEL` gives it one for your pictures"
            )
        if len(self.labels) == 1:
            raise SkipwayError(
                f"{name} has one class, which every picture would get for certain; import its "
                "weights again with two names in --labels FILE, or train it with two classes"
            )


def _require_list(pictures: object) -> None:
    """Raises DataError for a single picture, and for what cannot be counted."""
    if _is_single(pictures):
        raise DataError("predict takes a list of pictures, not a picture; give [picture]")
    has_places = hasattr(pictures, "__len__") and hasattr(pictures, "__getitem__")
    if not has_places or isinstance(pictures, Mapping):
        raise DataError(
            f"predict takes a list of pictures, not what is of type {type(pictures).__name__}; give list(pictures)"
        )


def _is_single(pictures: object) -> bool:
    """Whether it is one picture, in any of the forms that a picture may have."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 4
    if isinstance(pictures, Path | str | EncodedBytes | Image.Image):
        return True
    return hasattr(pictures, "read")


def _opened(picture: object, label: str) -> Picture:
    """A picture from any of its forms. Raises DataError for what is no picture, which it calls `label`."""
    if isinstance(picture, Image.Image | np.ndarray):
        return picture
    if isinstance(picture, Path | str):
        return open_picture(picture)
    if isinstance(picture, EncodedBytes) or hasattr(picture, "read"):
        file = cast("EncodedBytes | Readable", picture)
        return open_picture(file, label)
    raise DataError(
        f"{label} is of type {type(picture).__name__}; give a path, the bytes of a picture file, an open binary file, "
        "a PIL image or a uint8 array"
    )


def load(file: Path | str, device: str = "auto") -> Classifier:
    """The classifier of a model file, on `auto` (the GPU if there is one), `cpu` or `cuda`.

    Raises ModelFileError for a bad file and SkipwayError for a device that is not there.
    """
    bundle = load_bundle(file)
    return Classifier(bundle, pick_device(device), Path(file))
