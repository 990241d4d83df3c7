"""Any weight file, by what it begins with and not by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from skipway.errors import ModelFileError
from skipway.interchange import directory
from skipway.interchange.caffe import read as caffe
from skipway.interchange.caffe.looks import describe_bytes
from skipway.interchange.containers.zips import SIGNATURE, members
from skipway.interchange.foreign import checked_head
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras import read_zip as keras_zip
from skipway.interchange.numpy import read as npy
from skipway.interchange.source import WeightFile
from skipway.interchange.tensorflow import checkpoint as tf_checkpoint
from skipway.interchange.tensorflow import graph as tf_graph
from skipway.interchange.torch import read as torch_file
from skipway.interchange.torch import safetensors as safetensors_file
from skipway.interchange.torch.state import Average


class Reader(Protocol):
    """What every module that reads a format offers."""

    def looks_like(self, head: bytes, path: Path) -> bool:
        """Whether a file that begins with `head` has this format."""

    def read(self, path: Path) -> WeightFile:
        """The file's arrays. Raises ModelFileError."""


# In the order in which they are asked: signatures first, formats that are recognized by their structure last.
_READERS: tuple[Reader, ...] = (
    keras_h5,
    keras_zip,
    npy,
    torch_file,
    safetensors_file,
    tf_checkpoint,
    caffe,
    tf_graph,
)


def read_any(path: Path, average: Average = "raw") -> WeightFile:
    """The arrays of a weight file, of a checkpoint's prefix or of a folder. Raises ModelFileError.

    Where a PyTorch file holds averaged weights too, `average` chooses.
    """
    if directory.looks_like(b"", path):
        return directory.read(path)
    is_prefix = not path.is_file() and tf_checkpoint.looks_like(b"", path)
    if is_prefix:
        return tf_checkpoint.read(path)
    head = checked_head(path)
    for reader in _READERS:
        if not reader.looks_like(head, path):
            continue
        if reader is torch_file:
            return torch_file.read(path, average)
        return reader.read(path)
    if head.startswith(SIGNATURE):
        members(path)  # raises the error of a broken archive
    description = describe_bytes(head)
    raise ModelFileError(f"{path} is no weight file that skipway reads but {description}")
