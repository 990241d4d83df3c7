"""A weight file of another framework becomes a model file of ours."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, cast, get_args

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.caffe.settings import described
from skipway.interchange.doubts import no_classifier, same_answer, untouched_statistics
from skipway.interchange.filling import filled, two_classes
from skipway.interchange.mapping.matching import Match, network_arrays
from skipway.interchange.mapping.norm_statistics import normalizing
from skipway.interchange.options import ImportOptions
from skipway.interchange.outputs import check_model_path, check_outputs
from skipway.interchange.reading import read_any
from skipway.interchange.recognizing import matched, some_of
from skipway.interchange.report import Decisions, Found, Imported, notes_of
from skipway.interchange.settling import settle
from skipway.interchange.source import Array, Source
from skipway.interchange.torch.state import Average
from skipway.interchange.wrapping import bare_names
from skipway.values import refuse_unknown_options
from skipway.version import __version__
from skipway.weights.bundle import Bundle, load_bundle, save_bundle
from skipway.weights.labels import labels_for

__all__ = ["ImportOptions", "import_weights", "read_files", "read_weights"]


def import_weights(
    file: Path | str, to: Path | str, *, overwrite: bool = False, **options: Unpack[ImportOptions]
) -> Imported:
    """Read `file`, write the model file `to`, load it again and look at its answers.

    Every array must find its place, and every tensor its array. Raises ModelFileError and UnknownNameError, RunError
    where `to` exists already (unless `overwrite`) or is a file that is read, and StorageError.
    """
    file, to = Path(file), Path(to)
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


def read_weights(file: Path | str, **options: Unpack[ImportOptions]) -> Found:
    """What `import_weights` writes, and writes nothing. Raises ModelFileError and UnknownNameError."""
    file = Path(file)
    refuse_unknown_options("import", options, ImportOptions)
    average, recompute = options.get("average", "raw"), options.get("recompute")
    if average not in get_args(Average):
        raise UnknownNameError("average", average, get_args(Average))
    source = described(_foreign(read_any(file, cast(Average, average))), options.get("prototxt"))
    arrays = network_arrays(source, average)
    allowed = _allowed(source, arrays, options.get("allow_unused", ()))
    arrays = bare_names(source, {name: array for name, array in arrays.items() if name not in allowed})
    match, unsure = matched(source, arrays, options.get("model", ""))
    match, live = normalizing(match, source, options.get("norm") or ("running" if recompute else ""))
    tensors = filled(file, match, arrays, options.get("model", ""))
    spec, tensors, split = two_classes(file, match.spec, tensors, options.get("labels", ()))
    match = dataclasses.replace(match, spec=spec)
    labels, labelled = labels_for(spec.num_classes, options.get("labels", ()))
    taken = settle(source, match, tensors, labels, options)
    bundle = Bundle(taken.spec, taken.rule, labels, tensors, _provenance(source, match))
    bundle = recompute(bundle) if recompute else bundle
    decisions = Decisions(taken.convention, taken.rule, labelled, notes_of(source, average), taken.choice)
    unsure = [doubt for doubt in unsure if "pictures" not in doubt or taken.rule_is_unknown]
    doubts = [*unsure, *taken.doubts, *split, *no_classifier(spec), *untouched_statistics(bundle.tensors)]
    warnings = (*source.warnings, *live, *doubts)
    return Found(bundle, match.scheme, source.format, len(arrays), allowed, match.missing, warnings, decisions)


def _foreign(source: Source) -> Source:
    if "skipway" in source.notes.get("metadata", {}):
        raise ModelFileError(f"{source.path} is a skipway model already; `skipway export` writes it in other forms")
    return source


def _allowed(source: Source, arrays: Mapping[str, Array], patterns: Sequence[str]) -> tuple[str, ...]:
    """The arrays that may stay unused. Raises ModelFileError for a pattern that is no array's."""
    for pattern in patterns:
        if not fnmatch.filter(arrays, pattern):
            raise ModelFileError(
                f"no array of {source.path} matches --allow-unused '{pattern}'; they are called {some_of(arrays)}"
            )
    return tuple(name for name in arrays if any(fnmatch.fnmatch(name, pattern) for pattern in patterns))


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
