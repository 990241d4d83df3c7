"""A model file of ours becomes a weight file of another framework: an import backwards, by the same tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np

from skipway.data.preprocessing import Preprocessing, picture_values, rule_text
from skipway.errors import StorageError
from skipway.interchange.form import Form
from skipway.interchange.forms import find_form
from skipway.interchange.importing import ImportOptions, read_files, read_weights
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import to_source
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.outputs import check_outputs, form_files
from skipway.interchange.reading import read_any
from skipway.interchange.report import Found
from skipway.reporting import counted, joined_lines
from skipway.weights.bundle import Bundle, load_bundle


@dataclass(frozen=True)
class Exported:
    """What an export did: the network, the form and its names, how many arrays, in which files.

    `preprocessing` says how the other framework must be given pictures. `stated` is whether the file tells an import of
    ours; no format but ours carries the labels.
    """

    model: str
    form: str
    arrays: int
    files: tuple[Path, ...]
    preprocessing: Preprocessing
    stated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "form": self.form,
            "arrays": self.arrays,
            "files": [str(file) for file in self.files],
            "pictures": picture_values(self.preprocessing),
        }

    def describe(self) -> str:
        """The same as text."""
        rule, silent = self.preprocessing, "" if self.stated else "; the file does not say so"
        lines = [
            f"network   {self.model}, by the names of {self.form}",
            f"arrays    {self.arrays} written, and equal when they are read again",
            f"pictures  {rule.size} pixels a side, {rule_text(rule)}{silent}",
            *(f"file      {file}" for file in self.files),
        ]
        return joined_lines(lines)


class Written(Protocol):
    """What any export answers: weights under other names, or a graph."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

    def describe(self) -> str:
        """The same as text."""


@dataclass(frozen=True)
class Converted:
    """A weight file understood, and what it became."""

    found: Found
    exported: Written

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the export, and what there was to say about the file."""
        found = self.found
        return self.exported.to_dict() | {
            "scheme": found.scheme,
            "format": found.format,
            "used": found.used,
            "left": list(found.left),
            **found.decisions.to_dict(),
            "warnings": list(found.warnings),
        }

    def describe(self) -> str:
        """The same as text."""
        found = self.found
        lines = [
            f"from      {counted(found.used, 'array')} by the names of {found.scheme} in a {found.format} file, "
            f"{len(found.left)} left over",
            *(f"left      {name}" for name in found.left),
            *found.decisions.describe(),
            *(f"warning   {warning}" for warning in found.warnings),
        ]
        return f"{joined_lines(lines)}\n{self.exported.describe()}"


def export_weights(model: Path | str, to: Path, *, form: str = "", overwrite: bool = False) -> Exported:
    """Write the weights of the model file `model` as another framework's file `to`, and read them again.

    The network's layout and the ending of `to` decide whose; `form` does where several share an ending. A TensorFlow
    checkpoint's `to` is its prefix. Raises UnknownNameError for an unknown form, ModelFileError where the form cannot
    hold the network, RunError where a file exists already (unless `overwrite`) or is the one that is read, and
    StorageError.
    """
    check_outputs(form_files(to, form), [Path(model)], overwrite=overwrite)
    return _exported(load_bundle(model), to, form)


def convert_weights(
    file: Path, to: Path, *, form: str = "", overwrite: bool = False, **options: Unpack[ImportOptions]
) -> Converted:
    """From one framework's weight file to another's: an import and an export, without the model file in between.

    Arguments and errors are those of `import_weights` and `export_weights`.
    """
    check_outputs(form_files(to, form), read_files(file, options), overwrite=overwrite)
    found = read_weights(file, **options)
    return Converted(found, _exported(found.bundle, to, form))


def _exported(bundle: Bundle, to: Path, name: str) -> Exported:
    form, scheme = find_form(bundle.spec, to, name)
    arrays = _arrays(bundle, form, scheme)
    form.write(to, bundle, arrays)
    _read_again(to, arrays)
    stated = form.described is not None and bundle.preprocessing.mean_image is None
    return Exported(bundle.spec.name, form.name, len(arrays), form.files(to), bundle.preprocessing, stated)


def _arrays(bundle: Bundle, form: Form, scheme: Scheme) -> dict[str, np.ndarray]:
    """The arrays under the form's names and in its layouts. Transposed ones are views, written one at a time."""
    scope = f"{bundle.spec.name.partition('.')[0]}/" if form.scope else ""
    arrays: dict[str, np.ndarray] = {}
    for key in form.order(bundle.spec, keys_of(bundle.spec)):
        place = scheme.place(key, bundle.spec)
        if place is None:
            continue
        arrays[scope + place.source] = to_source(bundle.tensors[key.name].numpy(), place)
        if place.divisor:
            arrays[scope + place.divisor] = np.ones(1, np.float32)
    return arrays


def _read_again(to: Path, arrays: dict[str, np.ndarray]) -> None:
    """Raises StorageError unless the file gives the arrays back bit for bit."""
    source = read_any(to)
    same = set(source.arrays) == set(arrays) and all(
        _is_same(source.arrays[name].read(), array) for name, array in arrays.items()
    )
    if not same:
        raise StorageError(f"{to} does not give back what was written; write it to another disk")


def _is_same(read: np.ndarray, written: np.ndarray) -> bool:
    """Whether both have the same bits, which a NaN has, too."""
    return read.shape == written.shape and read.dtype == written.dtype and read.tobytes() == written.tobytes()
