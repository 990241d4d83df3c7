"""A weight file of another framework becomes a model file of ours.

`read_weights` is the whole way: read the file, take the network's arrays, recognize the network, fill its tensors, name
its classes, settle what the file leaves open, and put the model together.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.caffe.settings import described
from skipway.interchange.doubt import texts_of, without
from skipway.interchange.doubts import no_classifier, same_answer, untouched_statistics
from skipway.interchange.filling import filled, with_two_classes
from skipway.interchange.mapping.matching import Match, network_arrays
from skipway.interchange.mapping.norm_statistics import normalizing
from skipway.interchange.options import ALL_OPEN, ImportOptions
from skipway.interchange.outputs import check_model_path, check_outputs
from skipway.interchange.reading import read_any
from skipway.interchange.recognizing import recognized, some_of
from skipway.interchange.report import Decisions, Imported, ReadWeights, notes_of
from skipway.interchange.settling import settle
from skipway.interchange.source import Array, WeightFile
from skipway.interchange.torch.state import Average
from skipway.interchange.wrapping import bare_names
from skipway.version import __version__
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from skipway.weights.labels import labels_for

__all__ = ["ImportOptions", "import_weights", "read_files", "read_weights"]


def import_weights(
    file: Path | str, to: Path | str, options: ImportOptions = ALL_OPEN, *, overwrite: bool = False
) -> Imported:
    """Read `file`, write the model file `to`, load it again and look at its answers.

    Every array must find its place, and every tensor its array. Raises ModelFileError and UnknownNameError, RunError
    where `to` exists already (unless `overwrite`) or is a file that is read, and StorageError.
    """
    file, to = Path(file), Path(to)
    check_model_path(to)
    check_outputs([to], read_files(file, options), overwrite=overwrite)
    found = read_weights(file, options)
    save_bundle(to, found.bundle)
    name = found.bundle.spec.name
    statistics = found.bundle.provenance.get("statistics", {})
    found.bundle.tensors.clear()  # or the weights would be in memory twice
    doubts_about_answers = same_answer(load_bundle(to))
    return Imported(
        model=name,
        scheme=found.scheme,
        format=found.format,
        used=found.used,
        left=found.left,
        missing=found.missing,
        warnings=(*found.warnings, *texts_of(doubts_about_answers)),
        to=to,
        decisions=found.decisions,
        statistics=statistics,
    )


def read_files(file: Path, options: ImportOptions) -> tuple[Path | None, ...]:
    """All that an import reads, where it is given."""
    return file, options.prototxt, options.mean


def read_weights(file: Path | str, options: ImportOptions = ALL_OPEN) -> ReadWeights:
    """What `import_weights` writes, and writes nothing. Raises ModelFileError and UnknownNameError."""
    file = Path(file)
    source = _read(file, options)
    arrays, unused = _arrays_of_the_network(source, options)
    match, doubts = recognized(source, arrays, options.model)
    norm = options.norm or ("running" if options.recompute else "")
    match, doubts_about_norms = normalizing(match, source, norm)
    tensors = filled(file, match, arrays, options.model)
    spec, tensors, doubts_about_classes = with_two_classes(file, match.spec, tensors, options.labels)
    match = dataclasses.replace(match, spec=spec)
    labels, labelled = labels_for(spec.num_classes, options.labels)
    settled = settle(source, match, tensors, labels, options)
    bundle = Bundle(settled.spec, settled.rule, labels, tensors, _provenance(source, match))
    if options.recompute is not None:
        bundle = options.recompute(bundle)
    if not settled.rule_is_unknown:
        doubts = without("pictures", doubts)
    all_doubts = (
        *doubts_about_norms,
        *doubts,
        *settled.doubts,
        *doubts_about_classes,
        *no_classifier(spec),
        *untouched_statistics(bundle.tensors),
    )
    return ReadWeights(
        bundle=bundle,
        scheme=match.scheme,
        format=source.format,
        used=len(arrays),
        left=unused,
        missing=match.missing,
        warnings=(*source.warnings, *texts_of(all_doubts)),
        decisions=Decisions(
            settled.convention, settled.rule, labelled, notes_of(source, options.average), settled.choice
        ),
    )


def _read(file: Path, options: ImportOptions) -> WeightFile:
    """The file's arrays, and the layers of its prototxt if it has one."""
    averages = get_args(Average)
    if options.average not in averages:
        raise UnknownNameError("average", options.average, averages)
    source = read_any(file, options.average)
    if "skipway" in source.notes.get("metadata", {}):
        raise ModelFileError(f"{source.path} is a skipway model already; `skipway export` writes it in other forms")
    return described(source, options.prototxt)


def _arrays_of_the_network(source: WeightFile, options: ImportOptions) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The arrays that must be used, by the network's own names; and the names of those that the user leaves out."""
    arrays = network_arrays(source, options.average)
    unused = _unused(source, arrays, options.allow_unused)
    kept = {name: array for name, array in arrays.items() if name not in unused}
    return bare_names(source, kept), unused


def _unused(source: WeightFile, arrays: Mapping[str, Array], patterns: Sequence[str]) -> tuple[str, ...]:
    """The arrays that may stay unused. Raises ModelFileError for a pattern that matches none."""
    matching: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(arrays, pattern)
        if not found:
            raise ModelFileError(
                f"no array of {source.path} matches --allow-unused '{pattern}'; they are called {some_of(arrays)}"
            )
        matching.update(found)
    return tuple(name for name in arrays if name in matching)


def _provenance(source: WeightFile, match: Match) -> dict[str, Any]:
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
