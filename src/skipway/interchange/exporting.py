"""A model file of ours becomes a weight file of another framework, by the tables of the import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skipway.data.preprocessing import Preprocessing, picture_values, rule_text
from skipway.errors import StorageError
from skipway.interchange.form import Form
from skipway.interchange.forms import find_form
from skipway.interchange.importing import read_files, read_weights
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import to_source
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.options import ALL_OPEN, ImportOptions
from skipway.interchange.outputs import check_outputs, form_files
from skipway.interchange.reading import read_any
from skipway.interchange.report import ReadWeights
from skipway.reporting import counted, joined_lines, table
from skipway.weights.bundle import Bundle, load_bundle


@dataclass(frozen=True)
class Exported:
    """What an export did. No format but ours carries the labels.

    Attributes:
        model: Name of the network.
        form: Name of the form.
        arrays: How many arrays were written.
        files: The files that were written.
        preprocessing: How the other framework must be given pictures.
        stated: Whether the file says this to an import of ours.
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
        rule = self.preprocessing
        pictures = f"{rule.size} pixels a side, {rule_text(rule)}"
        if not self.stated:
            pictures += "; the file does not say so"
        rows = [
            ("network", f"{self.model}, by the names of {self.form}"),
            ("arrays", f"{self.arrays} written, and equal when they are read again"),
            ("pictures", pictures),
        ]
        for file in self.files:
            rows.append(("file", str(file)))
        return table((), rows, width=0)  # a path in two lines could not be copied


class Written(Protocol):
    """What any export gives back: weights under other names, or a graph."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""

    def describe(self) -> str:
        """The same as text."""


@dataclass(frozen=True)
class Converted:
    """A weight file understood, and what it became."""

    found: ReadWeights
    exported: Written

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the export, and what there was to say about the file."""
        found = self.found
        facts = self.exported.to_dict()
        facts["scheme"] = found.scheme
        facts["format"] = found.format
        facts["used"] = found.used
        facts["left"] = list(found.left)
        facts.update(found.decisions.to_dict())
        facts["warnings"] = list(found.warnings)
        return facts

    def describe(self) -> str:
        """The same as text."""
        found = self.found
        arrays = counted(found.used, "array")
        lines = [
            f"from      {arrays} by the names of {found.scheme} in a {found.format} file, {len(found.left)} left over"
        ]
        for name in found.left:
            lines.append(f"left      {name}")
        lines += found.decisions.describe()
        for warning in found.warnings:
            lines.append(f"warning   {warning}")
        return f"{joined_lines(lines)}\n{self.exported.describe()}"


def export_weights(model: Path | str, to: Path, *, form: str = "", overwrite: bool = False) -> Exported:
    """Write the weights of the model file `model` as another framework's file `to`, and read them again.

    The network's layout and the ending of `to` decide whose; `form` does where several share an ending. A TensorFlow
    checkpoint's `to` is its prefix. Raises UnknownNameError for an unknown form, ModelFileError where the form cannot
    hold the network, RunError where a file exists already (unless `overwrite`) or is the one that is read, and
    StorageError.
    """
    files = form_files(to, form)
    check_outputs(files, [Path(model)], overwrite=overwrite)
    bundle = load_bundle(model)
    return _exported(bundle, to, form)


def convert_weights(
    file: Path, to: Path, options: ImportOptions = ALL_OPEN, *, form: str = "", overwrite: bool = False
) -> Converted:
    """From one framework's weight file to another's: an import and an export, without the model file in between.

    Arguments and errors are those of `import_weights` and `export_weights`.
    """
    files = form_files(to, form)
    check_outputs(files, read_files(file, options), overwrite=overwrite)
    found = read_weights(file, options)
    exported = _exported(found.bundle, to, form)
    return Converted(found, exported)


def _exported(bundle: Bundle, to: Path, name: str) -> Exported:
    """Write the file and read it again. `name` is that of the form, or ""."""
    form, scheme = find_form(bundle.spec, to, name)
    arrays = _arrays(bundle, form, scheme)
    form.write(to, bundle, arrays)
    _read_again(to, arrays)
    states_network = form.describes is not None
    has_mean_image = bundle.preprocessing.mean_image is not None
    return Exported(
        model=bundle.spec.name,
        form=form.name,
        arrays=len(arrays),
        files=form.files(to),
        preprocessing=bundle.preprocessing,
        stated=states_network and not has_mean_image,
    )


def _arrays(bundle: Bundle, form: Form, scheme: Scheme) -> dict[str, np.ndarray]:
    """The arrays under the form's names and in its layouts. Transposed ones are views, written one at a time."""
    spec = bundle.spec
    scope = ""
    if form.scope:
        bare_name = spec.name.partition(".")[0]
        scope = f"{bare_name}/"
    arrays: dict[str, np.ndarray] = {}
    for key in form.order(spec, keys_of(spec)):
        place = scheme.place(key, spec)
        if place is None:
            continue
        array = bundle.tensors[key.name].numpy()
        arrays[scope + place.source] = to_source(array, place)
        if place.divisor:
            arrays[scope + place.divisor] = np.ones(1, np.float32)
    return arrays


def _read_again(to: Path, arrays: dict[str, np.ndarray]) -> None:
    """Raises StorageError unless the file gives the arrays back bit for bit."""
    source = read_any(to)
    is_same = set(source.arrays) == set(arrays)
    for name, array in arrays.items():
        if not is_same:
            break
        is_same = _has_same_bits(source.arrays[name].read(), array)
    if not is_same:
        raise StorageError(f"{to} does not give back what was written; write it to another disk")


def _has_same_bits(read: np.ndarray, written: np.ndarray) -> bool:
    """Whether both have the same bits, which holds for a NaN, too."""
    is_same_kind = read.shape == written.shape and read.dtype == written.dtype
    if not is_same_kind:
        return False
    bits_read = read.tobytes()
    bits_written = written.tobytes()
    return bits_read == bits_written
