"""What `skipway export` and `skipway convert` write, by the ending: a graph that runs, or weights by other names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipway.errors import ModelFileError
from skipway.inference.graphs import ENDINGS, export_graph
from skipway.interchange.exporting import Converted, Written, convert_weights, export_weights
from skipway.interchange.importing import read_files, read_weights
from skipway.interchange.options import ALL_OPEN, ImportOptions
from skipway.interchange.outputs import check_model_path, check_outputs
from skipway.reporting import escaped
from skipway.weights.bundle import for_others, load_bundle, save_bundle

FOR_OTHERS = "skipway"  # the form of a model file for others


def export_model(
    model: Path | str, to: Path, *, form: str = "", with_preprocessing: bool = False, overwrite: bool = False
) -> Written:
    """Write the model file `model` as `to`.

    A file that ends in .onnx or .pt2 becomes a graph (`export_graph`, which takes `with_preprocessing`); any other
    holds weights by the names of `form` (`export_weights`). The form `skipway` is a model file for others
    (`for_others`). Files that exist are replaced with `overwrite` alone.

    Raises ModelFileError where an option belongs to another of these, and what the named functions raise.
    """
    if form == FOR_OTHERS:
        check_model_path(to)
        check_outputs([to], [Path(model)], overwrite=overwrite)
        bundle = load_bundle(model)
        save_bundle(to, for_others(bundle))
        return Shared(to)
    if _is_graph(to, form, with_preprocessing=with_preprocessing):
        check_outputs([to], [Path(model)], overwrite=overwrite)
        bundle = load_bundle(model)
        return export_graph(bundle, to, with_preprocessing=with_preprocessing, overwrite=overwrite)
    return export_weights(model, to, form=form, overwrite=overwrite)


@dataclass(frozen=True)
class Shared:
    """A model file that was written for others."""

    to: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"to": str(self.to), "form": FOR_OTHERS}

    def describe(self) -> str:
        """The same as text."""
        return f"to        {escaped(str(self.to))}, without the list of training pictures and the paths of this machine"


def convert_model(
    file: Path,
    to: Path,
    options: ImportOptions = ALL_OPEN,
    *,
    form: str = "",
    with_preprocessing: bool = False,
    overwrite: bool = False,
) -> Converted:
    """Write another framework's weight file as `to`: an import and an export in one.

    Arguments and errors are those of `import_weights` and `export_model`.
    """
    if not _is_graph(to, form, with_preprocessing=with_preprocessing):
        return convert_weights(file, to, options, form=form, overwrite=overwrite)
    check_outputs([to], read_files(file, options), overwrite=overwrite)
    imported = read_weights(file, options)
    exported = export_graph(imported.bundle, to, with_preprocessing=with_preprocessing, overwrite=overwrite)
    return Converted(imported, exported)


def _is_graph(to: Path, form: str, *, with_preprocessing: bool) -> bool:
    """Whether a file becomes a graph, by its ending. Raises ModelFileError for an option that it does not take."""
    graph = to.suffix.lower() in ENDINGS
    if graph and form:
        raise ModelFileError(f"{to} becomes a graph, which takes nobody's names; leave out --form {form}")
    if with_preprocessing and not graph:
        endings = " or ".join(ENDINGS)
        raise ModelFileError(
            f"{to} holds weights alone; leave out --with-preprocessing, or let the file end in {endings}"
        )
    return graph
