"""A weight file of another framework becomes a model file of ours."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, get_args

import numpy as np
import torch
from torch import Tensor

from skipway.errors import ModelFileError, UnknownNameError
from skipway.models.catalog import find_spec
from skipway.version import __version__
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from skipway.weights.conventions import prepared, stated
from skipway.weights.doubts import no_classifier, same_answer, untouched_statistics
from skipway.weights.formats.reading import read_any
from skipway.weights.formats.source import Array, Source
from skipway.weights.formats.torch_state import Average
from skipway.weights.labels import labels_for
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
from skipway.weights.outputs import check_model_path, check_outputs
from skipway.weights.report import Decisions, Found, Imported, notes_of
from skipway.weights.wrapping import bare_names

# What names and shapes are held against, for those who bring something else.
_NETWORKS = "skipway has AlexNet, Highway and plain networks and ResNet v1 and v2, and no others"


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


def import_weights(file: Path, to: Path, *, overwrite: bool = False, **options: Unpack[ImportOptions]) -> Imported:
    """Read `file`, write the model file `to`, load it again and look at its answers.

    Every array must find its place, and every tensor its array. Raises ModelFileError and UnknownNameError, RunError
    where `to` exists already (unless `overwrite`) or is a file that is read, and StorageError.
    """
    check_model_path(to)
    check_outputs([to], read_files(file, options), overwrite=overwrite)
    found = read_weights(file, **options)
    save_bundle(to, found.bundle)
    name, statistics = found.bundle.spec.name, found.bundle.provenance.get("statistics", {})
    found.bundle.tensors.clear()  # or the weights would be in memory twice
    warnings = (*found.warnings, *same_answer(load_bundle(to)))
    return Imported(
        name,
        found.scheme,
        found.format,
        found.used,
        found.left,
        found.missing,
        warnings,
        to,
        found.decisions,
        statistics,
    )


def read_files(file: Path, options: ImportOptions) -> tuple[Path | None, ...]:
    """All that an import reads, where it is given."""
    return file, options.get("prototxt"), options.get("mean")


def read_weights(file: Path, **options: Unpack[ImportOptions]) -> Found:
    """What `import_weights` writes, and writes nothing. Raises ModelFileError and UnknownNameError."""
    average, preprocessing = options.get("average", "raw"), options.get("preprocessing", "")
    recompute = options.get("recompute")
    if average not in get_args(Average):
        raise UnknownNameError("average", average, get_args(Average))
    source = described(_foreign(read_any(file, cast(Average, average))), options.get("prototxt"))
    arrays = network_arrays(source, average)
    allowed = _allowed(source, arrays, options.get("allow_unused", ()))
    arrays = bare_names(source, {name: array for name, array in arrays.items() if name not in allowed})
    match, settings = _matched(source, arrays, options.get("model", ""))
    match, live = normalizing(match, source, options.get("norm") or ("running" if recompute else ""))
    tensors = _tensors(file, match, arrays, options.get("model", ""))
    rule_name, known = preprocessing, None
    doubts: list[str] = []
    if not preprocessing:
        known, doubts = (None, []) if options.get("mean") else stated(source, match.spec, match.scheme)
        rule_name, doubts = ("the file", doubts) if known else _convention(match, tensors)
    spec, rule = (match.spec, known) if known else prepared(match.spec, rule_name, options.get("mean"))
    if preprocessing or known or (match.scheme in {"keras_graph", KERAS_ORDER} and doubts):
        settings = [one for one in settings if "pictures" not in one]  # answered by the user, or better by the doubts
    labels, labelled = labels_for(spec.num_classes, options.get("labels", ()))
    bundle = Bundle(spec, rule, labels, tensors, _provenance(source, match))
    bundle = recompute(bundle) if recompute else bundle
    decisions = Decisions(rule_name, rule, labelled, notes_of(source, average))
    doubts = [*settings, *doubts, *no_classifier(spec), *untouched_statistics(bundle.tensors)]
    warnings = (*source.warnings, *live, *doubts)
    return Found(bundle, match.scheme, source.format, len(arrays), allowed, match.missing, warnings, decisions)


def _foreign(source: Source) -> Source:
    if "skipway" in source.notes.get("metadata", {}):
        raise ModelFileError(f"{source.path} is a skipway model already; `skipway export` writes it in other forms")
    return source


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


def _allowed(source: Source, arrays: Mapping[str, Array], patterns: Sequence[str]) -> tuple[str, ...]:
    """The arrays that may stay unused. Raises ModelFileError for a pattern that is no array's."""
    for pattern in patterns:
        if not fnmatch.filter(arrays, pattern):
            raise ModelFileError(
                f"no array of {source.path} matches --allow-unused '{pattern}'; they are called {_some(arrays)}"
            )
    return tuple(name for name in arrays if any(fnmatch.fnmatch(name, pattern) for pattern in patterns))


def _matched(source: Source, arrays: Mapping[str, Array], model: str) -> tuple[Match, list[str]]:
    """The network, all of whose tensors are there, and doubts about its settings."""
    shapes = {name: array.shape for name, array in arrays.items()}
    row = find_spec(model).name if model else ""
    match, doubts = _described(source, shapes, row) or _named(source, arrays, shapes, row)
    another = " or name another --model" if row else ""
    if match.missing:
        places = [match.places[key] for key in match.missing]
        lacking = [place.source if place else key for place, key in zip(places, match.missing, strict=True)]
        raise ModelFileError(
            f"{source.path} looks like {match.spec.name} but lacks {len(lacking)} of its arrays "
            f"({_some(lacking)}); give the whole file{another}"
        )
    if match.left:
        raise ModelFileError(
            f"{source.path} looks like {match.spec.name}, but nobody takes {len(match.left)} of its arrays "
            f"({_some(match.left)}); leave out with --allow-unused PATTERN what the network does without{another}: "
            f"{_NETWORKS}"
        )
    return match, doubts


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
        fix = "name another --model, or none" if row else _NETWORKS
        raise ModelFileError(f"{source.path} holds {len(arrays)} arrays ({_some(arrays)}), but not {wanted}; {fix}")
    if row:
        return match, []
    spec, doubts = settled(match.spec, match.scheme, source)
    return dataclasses.replace(match, spec=spec), doubts


def _tensors(file: Path, match: Match, arrays: Mapping[str, Array], model: str) -> dict[str, Tensor]:
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
                + ("name another --model, or none" if model else _NETWORKS)
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
