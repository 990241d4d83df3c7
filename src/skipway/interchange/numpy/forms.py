"""The form in which weights are exported for NumPy, by the names of caffe-tensorflow's AlexNet."""

from __future__ import annotations

from pathlib import Path

from skipway.interchange.form import Arrays, Form, ending_of
from skipway.interchange.numpy import write
from skipway.weights.bundle import Bundle


def _write(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001 (all forms are written alike)
    if ending_of(to) == ".npz":
        write.write_npz(to, arrays)
    else:
        write.write_npy(to, arrays)


FORMS = (Form("npy", (".npy", ".npz"), _write),)
