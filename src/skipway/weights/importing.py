"""A weight file of another framework becomes a model file of ours."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, get_args

import numpy as np
import torch
from torch import Tensor

from skipway.errors import ModelFileError, UnknownNameError
from skipway.models.catalog import find_spec
from skipway.version import __version__
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from skipway.weights.conventions import prepared
from skipway.weights.doubts import same_answer, untouched_statistics
from skipway.weights.formats.reading import read_any
from skipway.weights.formats.source import Array, Source
from skipway.weights.formats.torch_state import Average
from skipway.weights.imagenet import imagenet_names
from skipway.weights.mapping.caffe_described import described
from skipway.weights.mapping.input_mean import convention, input_mean
from skipway.weights.mapping.keras_numbered import SCHEME as KERAS_ORDER
from skipway.weights.mapping.keras_numbered import in_order
from skipway.weights.mapping.keras_topology import recognize
from skipway.weights.mapping.keys import Key, keys_of
from skipway.weights.mapping.layouts import Place, source_shape, to_ours
from skipway.weights.mapping.matching import Match, best, network_arrays
from skipway.weights.mapping.settings import settled
from skipway.weights.mapping.statistics import normalizing


@dataclass(frozen=True)
class Imported:
    """What an import did: the network and the scheme of names that found it, how many arrays were used, which were left
    over by leave, and what the user should know. `statistics` tells over which pictures the running ones were
    recomputed, {} where they are the file's."""

    model: str
    scheme: str
    format: str
    used: int
    left: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    to: Path
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "scheme": self.scheme,
            "format": self.format,
            "used": self.used,
            "left": list(self.left),
            "missing": list(self.missing),
            "warnings": list(self.warnings),
            "to": str(self.to),
            "statistics": dict(self.statistics),
        }

    def told(self) -> str:
        """The same as text."""
        lines = [
            f"network   {self.model}, by the names of {self.scheme} in a {self.format} file",
            f"tensors   {self.used} used, {len(self.left)} left over, {len(self.missing)} missing",
            *(f"left      {name}" for name in self.left),
            *(f"warning   {warning}" for warning in self.warnings),
            f"model     {self.to}",
        ]
        if self.statistics:
            lines.insert(
                -1,
                "norms     running statistics recomputed over {pictures:,} pictures ({split} of {data}), {unreadable} "
                "unreadable left out".format(**self.statistics),
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Found:
    """A weight file understood: the model that it is, and what there is to say about it."""

    bundle: Bundle
    scheme: str
    format: str
    used: int
    left: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


class ImportOptions(TypedDict, total=False):
    """What a user may settle, where the file leaves it open.

    The network is found from names and shapes; `model` names the row instead. `labels` are the classes' names,
    `preprocessing` a convention for pictures. Arrays that match a shell pattern of `allow_unused` may stay unused;
    `average="ema"` takes averaged weights in place of the last ones, `raw`. `norm` says whose statistics evaluation
    normalizes with: `running`, or `batch` where the file's code does; left out, the running ones, and a warning where
    that code does not. `recompute` gives the model its running statistics afresh (`training.statistics.recomputing`).
    `prototxt` describes the network of a Caffe file; the one beside a caffemodel with its name counts by itself. `mean`
    is a file with the mean image or pixel that Caffe subtracts.
    """

    model: str
    labels: Sequence[str]
    preprocessing: str
    average: str
    allow_unused: Sequence[str]
    norm: str
    recompute: Callable[[Bundle], Bundle] | None
    prototxt: Path | None
    mean: Path | None


def import_weights(file: Path, to: Path, **options: Unpack[ImportOptions]) -> Imported:
    """Read `file`, write the model file `to`, load it again and look at its answers.

    Every array must find its place, and every tensor its array. Raises ModelFileError and UnknownNameError.
    """
    found = read_weights(file, **options)
    save_bundle(to, found.bundle)
    name, statistics = found.bundle.spec.name, found.bundle.provenance.get("statistics", {})
    found.bundle.tensors.clear()  # or the weights would be in memory twice
    warnings = (*found.warnings, *same_answer(load_bundle(to)))
    return Imported(name, found.scheme, found.format, found.used, found.left, found.missing, warnings, to, statistics)


def read_weights(file: Path, **options: Unpack[ImportOptions]) -> Found:
    """What `import_weights` writes, and writes nothing. Raises ModelFileError and UnknownNameError."""
    average, preprocessing = options.get("average", "raw"), options.get("preprocessing", "")
    recompute = options.get("recompute")
    if average not in get_args(Average):
        raise UnknownNameError("average", average, get_args(Average))
    source = described(read_any(file, cast(Average, average)), options.get("prototxt"))
    arrays = network_arrays(source, average)
    match, settings = _matched(source, arrays, options.get("model", ""), options.get("allow_unused", ()))
    match, live = normalizing(match, source, options.get("norm") or ("running" if recompute else ""))
    tensors = _tensors(file, match, arrays)
    rule_name, doubts = (preprocessing, []) if preprocessing else _convention(match, tensors)
    spec, rule = prepared(match.spec, rule_name, options.get("mean"))
    if preprocessing or (match.scheme in {"keras_graph", KERAS_ORDER} and doubts):
        settings = [one for one in settings if "pictures" not in one]  # answered by the user, or better by the doubts
    labels = tuple(options.get("labels", ())) or default_labels(spec.num_classes)
    bundle = Bundle(spec, rule, labels, tensors, _provenance(source, match))
    bundle = recompute(bundle) if recompute else bundle
    used = len(arrays) - len(match.left)
    warnings = (*source.warnings, *live, *settings, *doubts, *untouched_statistics(bundle.tensors))
    return Found(bundle, match.scheme, source.format, used, match.left, match.missing, warnings)


def _convention(match: Match, tensors: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """The convention of the row, of who uses these names, or of what the first normalization has seen; and a doubt
    where it might be another."""
    if match.scheme == "cifar_torch":
        doubt = "nothing in the file tells how its pictures were standardized: taken as ImageNet's means and deviations"
        return "imagenet_statistics", [f"{doubt}; --preprocessing cifar takes CIFAR-10's own"]
    if match.spec.name.endswith(".keras_file"):
        stem = [tensors.get(f"stem.{name}") for name in ("conv.weight", "conv.bias", "norm.running_mean")]
        weight, bias, kept = (None if one is None else one.numpy() for one in stem)
        seen = input_mean(weight, bias, kept) if weight is not None and kept is not None else None
        name = None if seen is None else convention(seen)
        if seen is not None and name is not None:
            means = ", ".join(f"{one:.3g}" for one in seen.channels)
            told = f"the first normalization has seen pictures with channel means of about {means}"
            return name, [f"{told}: taken as --preprocessing {name}"]
    return match.spec.preprocessing, []


def default_labels(count: int) -> tuple[str, ...]:
    """ImageNet's 1,000 classes, TF-Slim's 1,001 with the background first, or numbers."""
    if count in {1000, 1001}:
        names = imagenet_names()
        return names if count == 1000 else ("background", *names)
    return tuple(str(number) for number in range(count))


def read_labels(file: Path) -> tuple[str, ...]:
    """The lines of a text file, in order. Raises ModelFileError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{file} cannot be read as text ({error}); give a file with a label on each line"
        ) from None
    return tuple(line.strip() for line in lines if line.strip())


def _matched(
    source: Source, arrays: Mapping[str, Array], model: str, allow_unused: Sequence[str]
) -> tuple[Match, list[str]]:
    """The network, all of whose tensors are there, and doubts about its settings."""
    allowed = {name for name in arrays if any(fnmatch.fnmatch(name, pattern) for pattern in allow_unused)}
    shapes = {name: array.shape for name, array in arrays.items() if name not in allowed}
    row = find_spec(model).name if model else ""
    match, doubts = _described(source, shapes, row) or _named(source, arrays, shapes, row)
    if match.missing:
        raise ModelFileError(
            f"{source.path} looks like {match.spec.name} but lacks {len(match.missing)} of its tensors "
            f"({_some(match.missing)}); give the whole file or another --model"
        )
    if match.left:
        raise ModelFileError(
            f"{source.path} looks like {match.spec.name}, but nobody takes {len(match.left)} of its arrays "
            f"({_some(match.left)}); leave them out with --allow-unused PATTERN or name another --model"
        )
    return dataclasses.replace(match, left=tuple(name for name in arrays if name in allowed)), doubts


def _described(source: Source, shapes: Mapping[str, tuple[int, ...]], row: str) -> tuple[Match, list[str]] | None:
    """The network that a Keras file describes, whatever its layers are called; None where it describes none, or
    another one than the row that is asked for."""
    if not source.format.startswith("keras"):
        return None
    try:
        found = recognize(source)
    except ModelFileError:
        if row:
            return None
        raise
    if found is None or (row and found.spec.name != row):
        return None
    taken = {place.source for place in found.places.values() if place}
    left = tuple(name for name in shapes if name not in taken)
    match = Match(found.spec, "keras_graph", found.places, left, ())
    named = best(shapes)
    if named is None or named.left or named.missing:
        return match, list(found.warnings)
    # Who uses these names prepares pictures alike, whatever the network's depths.
    spec = found.spec.replaced({"preprocessing": named.spec.preprocessing})
    return dataclasses.replace(match, spec=spec), [one for one in found.warnings if "pictures" not in one]


def _named(
    source: Source, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], row: str
) -> tuple[Match, list[str]]:
    """The network by the names of its arrays; what the layers say beside them counts unless a row is asked for."""
    match = best(shapes, frozenset({row}) if row else frozenset())
    if match is None and (counted := in_order(source, shapes, row)) is not None:
        return counted
    if match is None and "conv2d/kernel" in shapes and not source.layers:
        raise ModelFileError(
            f"{source.path} numbers its layers instead of naming them, and does not describe them; save the whole "
            'model with model.save("FILE.keras")'
        )
    if match is None:
        wanted = f"{row} by any names that skipway knows" if row else "a network that skipway knows"
        raise ModelFileError(
            f"{source.path} holds {len(arrays)} arrays ({_some(arrays)}), but not {wanted}; name another --model"
        )
    if row:
        return match, []
    spec, doubts = settled(match.spec, match.scheme, source)
    return dataclasses.replace(match, spec=spec), doubts


def _tensors(file: Path, match: Match, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key in keys_of(match.spec):
        place = match.places[key.name]
        if place is None or (place.optional and place.source not in arrays):
            tensors[key.name] = _absent(key)
            continue
        found, wanted = arrays[place.source].shape, source_shape(key.shape, place)
        if _without_ones(found) != _without_ones(wanted):
            raise ModelFileError(
                f"{file}: {place.source} has the shape {found}, {key.name} of {match.spec.name} needs {wanted}; "
                "name another --model"
            )
        array = _ours(place, arrays, wanted)
        kind = torch.int64 if key.tensor == "num_batches_tracked" else torch.float32
        # Not np.array: a matrix that needs no other order is not copied once more.
        tensors[key.name] = torch.from_numpy(np.ascontiguousarray(array)).reshape(key.shape).to(kind)
    return tensors


def _absent(key: Key) -> Tensor:
    """What a tensor is that the source does without: a batch counter, a norm's scale or shift, a bias."""
    if key.tensor == "num_batches_tracked":
        return torch.zeros(key.shape, dtype=torch.int64)
    return torch.full(key.shape, 1.0 if key.tensor == "weight" else 0.0)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of one element come and go between frameworks, and move no numbers."""
    return tuple(size for size in shape if size != 1)


def _ours(place: Place, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> np.ndarray:
    array = arrays[place.source].read().reshape(shape)
    if place.divisor in arrays:
        factor = float(arrays[place.divisor].read().reshape(-1)[0])
        array = array * np.float32(0 if factor == 0 else 1 / factor)
    return to_ours(array, place)


def _provenance(source: Source, match: Match) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "tool": f"skipway {__version__} import",
        "file": source.path.name,
        "format": source.format,
        "scheme": match.scheme,
    }
    if source.path.is_file():
        with source.path.open("rb") as opened:
            facts["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    return facts


def _some(names: Mapping[str, Any] | Sequence[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")
