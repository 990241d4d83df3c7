"""Any weight file, by what it begins with and not by its name."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from skipway.errors import ModelFileError
from skipway.weights.formats import (
    caffe,
    directory,
    keras_h5,
    keras_zip,
    npy,
    safetensors_file,
    tf_checkpoint,
    tf_graph,
    torch_file,
)
from skipway.weights.formats.caffe_looks import told
from skipway.weights.formats.foreign import checked_head
from skipway.weights.formats.source import Source
from skipway.weights.formats.torch_state import Average
from skipway.weights.formats.zips import SIGNATURE, members

# Asked in this order: signatures first, formats that are recognized by their structure last.
_READERS: tuple[ModuleType, ...] = (
    keras_h5,
    keras_zip,
    npy,
    torch_file,
    safetensors_file,
    tf_checkpoint,
    caffe,
    tf_graph,
)


def read_any(path: Path, average: Average = "raw") -> Source:
    """The arrays of a weight file, of a checkpoint's prefix or of a folder. Raises ModelFileError.

    Where a PyTorch file holds averaged weights too, `average` chooses.
    """
    if directory.looks_like(b"", path):
        return directory.read(path)
    if not path.is_file() and tf_checkpoint.looks_like(b"", path):
        return tf_checkpoint.read(path)
    head = checked_head(path)
    for reader in _READERS:
        if reader.looks_like(head, path):
            return torch_file.read(path, average) if reader is torch_file else reader.read(path)
    if head.startswith(SIGNATURE):
        members(path)  # says what is wrong with a broken one
    raise ModelFileError(f"{path} is no weight file that skipway reads but {told(head)}")


_KINDS: dict[ModuleType, str] = {
    keras_h5: "an HDF5 file, as Keras writes it",
    keras_zip: "a Keras file",
    npy: "a NumPy file",
    torch_file: "a PyTorch file",
    tf_checkpoint: "a TensorFlow checkpoint",
    caffe: "a Caffe file",
    tf_graph: "a TensorFlow graph",
}


def kind_of(path: Path, head: bytes) -> str | None:
    """What a weight file of another framework is, in words, by its first bytes; None for all else."""
    for reader, words in _KINDS.items():
        try:
            if reader.looks_like(head, path):
                return words
        except (OSError, ValueError, ModelFileError):
            continue
    return None
