"""The wrong answers that a report shows, with small copies of their pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import Image

from skipway.data.dataset import Split
from skipway.data.preprocessing import Picture
from skipway.errors import PictureError
from skipway.evaluation.metrics import Evaluation

THUMBNAIL = 96  # the longer side, in pixels
_ENLARGED = 64  # smaller pictures grow with their pixels visible: smoothed, a digit of 28 pixels is a blur
MISTAKES = 24  # that are shown


@dataclass(frozen=True)
class Mistake:
    """A wrong answer."""

    name: str  # of the picture
    short_name: str  # the file and its folder
    truth: str  # the true class
    answer: str  # the class that it was called
    confidence: float  # the probability of the answer
    image: str  # a data URL, empty where the picture could not be read
    enlarged: bool  # whether the image shows the pixels of a smaller picture
    reason: str  # why the picture could not be read


def worst_mistakes(evaluation: Evaluation, split: Split) -> list[Mistake]:
    """The wrong answers of the highest probability, surest first."""
    answers = evaluation.answers.numpy()
    targets = evaluation.targets.numpy()
    confidences = np.nan_to_num(evaluation.confidences.float().numpy(), nan=-1.0)
    wrong = np.flatnonzero(answers != targets)
    surest_first = np.argsort(-confidences[wrong], kind="stable")
    mistakes = []
    for place in wrong[surest_first][:MISTAKES]:
        index = int(evaluation.indices[place])
        image = ""
        enlarged = False
        reason = ""
        try:
            image, enlarged = thumbnail(split.pictures[index])
        except PictureError as error:
            reason = error.reason
        except Exception as error:  # a page about a thousand pictures must not fail for a single one
            message = " ".join(str(error).split())
            reason = f"cannot be read ({message[:120] or type(error).__name__})"
        name = split.pictures.name(index)
        mistake = Mistake(
            name=name,
            short_name="/".join(PurePath(name).parts[-2:]),
            truth=evaluation.labels[int(targets[place])],
            answer=evaluation.labels[int(answers[place])],
            confidence=float(evaluation.confidences[place]),
            image=image,
            enlarged=enlarged,
            reason=reason,
        )
        mistakes.append(mistake)
    return mistakes


def thumbnail(picture: Picture) -> tuple[str, bool]:
    """A picture as a data URL, its longer side 96 pixels, and whether it was enlarged pixel by pixel."""
    if isinstance(picture, np.ndarray):
        if picture.ndim == 3 and picture.shape[2] == 1:
            picture = picture[:, :, 0]
        picture = Image.fromarray(picture)
    image = picture
    if image.mode not in {"L", "RGB"}:
        image = image.convert("RGB")
    longest = max(image.size)
    width = max(round(image.width * THUMBNAIL / longest), 1)
    height = max(round(image.height * THUMBNAIL / longest), 1)
    enlarged = longest < _ENLARGED
    kernel = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    small = image.resize((width, height), kernel)
    small.info = {}  # a colour profile can be larger than the picture
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/png;base64,{encoded}", enlarged
