"""All forms that weights are exported in, and which of them a path means."""

from __future__ import annotations

from pathlib import Path

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.caffe import forms as caffe
from skipway.interchange.form import Form
from skipway.interchange.keras import forms as keras
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.numpy import forms as numpy
from skipway.interchange.tensorflow import forms as tensorflow
from skipway.interchange.torch import forms as torch
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec

# Where two forms share an ending, the first that holds the network is meant.
FORMS: tuple[Form, ...] = (*torch.FORMS, *tensorflow.FORMS, *keras.FORMS, *caffe.FORMS, *numpy.FORMS)
_MOST_ROWS = 4  # that an error names


def find_form(spec: Spec, to: Path, form: str = "") -> tuple[Form, Scheme]:
    """The form that `to`'s ending, or the name `form`, means for this network, and its names for it.

    Raises UnknownNameError for an unknown form. Raises ModelFileError, with the forms that can, where none is meant
    that holds the network.
    """
    names = [known.name for known in FORMS]
    if form and form not in names:
        raise UnknownNameError("form", form, names)
    if to.name.endswith(".weights.h5"):
        bare_name = to.name.removesuffix(".weights.h5")
        raise ModelFileError(
            f"{to}: Keras takes a .weights.h5 for a form of Keras 3 alone, and this is the one that Keras 2 and 3 "
            f"both load; call it {bare_name}.h5"
        )
    for known in FORMS:
        if not known.takes(to, form):
            continue
        scheme = known.scheme(spec)
        if scheme is not None:
            return known, scheme
    raise _refusal(spec, to, form)


def _refusal(spec: Spec, to: Path, form: str) -> ModelFileError:
    """Why no form that `to` means holds the network, and which forms do."""
    if isinstance(spec, StackSpec) and spec.norm.statistics != "running":
        return ModelFileError(
            f"{spec.name} normalizes with the statistics of the batch in evaluation, which of other frameworks' files "
            "only a whole model's .h5 or .keras says; import it with --norm running and export that"
        )
    able = []
    rows: set[str] = set()
    for known in FORMS:
        rows.update(known.rows)
        if known.scheme(spec) is not None:
            able.append(known.describe())
    if not able:
        some_rows = ", ".join(sorted(rows)[:_MOST_ROWS])
        return ModelFileError(
            f"{spec.name} has a layout that no other framework's names are known for; train or import one of "
            f"{some_rows}, ..."
        )
    wanted = to.name
    if form:
        wanted = f"{to.name} by the names of {form}"
    choices = "; ".join(able)
    return ModelFileError(f"{spec.name} cannot be written as {wanted}; choose one of {choices}")
