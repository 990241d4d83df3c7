"""What kind of file something is that is no model file of skipway, and the command that makes one of it."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

_GRAPHS = (".onnx", ".pt2")
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save began with before 1.6
_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
    (b"\x93NUMPY", "a NumPy file"),
    (_LEGACY_TORCH, "a PyTorch file"),
    (b"model_checkpoint_path:", "a TensorFlow checkpoint"),
)
_ENDINGS = {
    ".caffemodel": "a Caffe file",
    ".binaryproto": "a Caffe file",
    ".prototxt": "a Caffe file",
    ".pb": "a TensorFlow graph",
    ".index": "a TensorFlow checkpoint",
    ".tar": "a PyTorch file",
}
_ZIP = b"PK\x03\x04"
_SHARD = ".data-"  # of a TensorFlow checkpoint
_WEIGHTS_OF_A_FOLDER = ("model.safetensors", "pytorch_model.bin")  # as the Hugging Face hub keeps them


def describe_other_file(path: Path, head: bytes) -> str | None:
    """The message of an error about a file of another kind that begins with `head`; None for an unknown kind."""
    ending = path.suffix.lower()
    if ending in _GRAPHS and head:
        return (
            f"{path} is a graph ({ending[1:]}), which skipway writes but does not read; give the model file that it "
            "was exported from, or `skipway import` the weights that it was made of"
        )
    kind = _kind_of(path, head)
    if kind is None:
        return None
    return f"{path} is {kind}, no model file of skipway; {import_advice(path)} makes one of it"


def describe_absent_file(path: Path) -> str:
    """The message of an error where `path` is no file: a run folder, weights in several files, or nothing."""
    model = path / "model.safetensors"
    config = path / "config.toml"
    is_run = path.is_dir() and config.is_file() and model.is_file()
    if is_run:
        return f"{path} is a run folder, no model file; give {model}"
    holds_weights = _is_folder_of_weights(path) or _is_checkpoint_prefix(path)
    if holds_weights:
        return f"{path} holds weights of another framework, no model file of skipway; {import_advice(path)} makes one"
    return f"no model file {path}; `skipway train` writes one as RUN/model.safetensors"


def import_advice(path: Path) -> str:
    """The command that makes a model file of `path`."""
    stem = path.name.split(".")[0] or "model"
    if path.suffix.lower() == ".safetensors":
        stem += "-skipway"  # or the new file might replace the old one
    source = shlex.quote(str(path))
    target = shlex.quote(f"{stem}.safetensors")
    return f"`skipway import {source} --to {target}`"


def _kind_of(path: Path, head: bytes) -> str | None:
    """The kind of a file by its first bytes, else by its name; None for an unknown kind."""
    text = head.lstrip()
    for signature, kind in _SIGNATURES:
        if text.startswith(signature):
            return kind
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    if _SHARD in path.name:
        return "a TensorFlow checkpoint"
    if not head:
        return None
    return _ENDINGS.get(path.suffix.lower())


def _kind_of_zip(path: Path) -> str | None:
    """Which framework wrote a zip archive, by the names of its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return None
    members_of_keras = {"config.json", "metadata.json"}
    if members_of_keras.issubset(names):
        return "a Keras file"
    kind = None
    for name in names:
        if name.endswith("data.pkl"):
            return "a PyTorch file"
        if name.endswith(".npy"):
            kind = "a NumPy file"
    return kind


def _is_folder_of_weights(path: Path) -> bool:
    """Whether `path` is a folder as the Hugging Face hub or TensorFlow keeps weights."""
    if not path.is_dir():
        return False
    for name in _WEIGHTS_OF_A_FOLDER:
        weights = path / name
        index = path / f"{name}.index.json"
        if weights.exists() or index.exists():
            return True
    state_file = path / "checkpoint"  # of TensorFlow
    return state_file.is_file()


def _is_checkpoint_prefix(path: Path) -> bool:
    """Whether `path` is no file but the first part of the names of a checkpoint's files."""
    try:
        index = path.with_name(f"{path.name}.index")
        return index.is_file()
    except (OSError, ValueError):
        return False
