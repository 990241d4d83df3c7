"""One file is a model: weights, spec, preprocessing, labels, provenance and metrics in one .safetensors.

The header entry `skipway` of the file holds everything but the tensors, as JSON. Reading runs no code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skipway.data.preprocessing import Preprocessing
from skipway.errors import ModelFileError, SkipwayError
from skipway.files import write_whole
from skipway.models.catalog import spec_from_dict
from skipway.models.network import Network, Spec
from skipway.version import __version__

FORMAT = 1
_MEAN_IMAGE = "preprocessing.mean_image"  # the tensor beside the network's


@dataclass(frozen=True)
class Bundle:
    """A model file's contents. `labels` are in the order of the logits; `provenance` and `metrics` are plain JSON."""

    spec: Spec
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.labels) != self.spec.num_classes:
            raise ModelFileError(f"{len(self.labels)} labels for {self.spec.num_classes} classes; give one for each")
        if self.preprocessing.depth != self.spec.in_channels:
            raise ModelFileError(
                f"preprocessing gives {self.preprocessing.depth} channels, {self.spec.name} takes "
                f"{self.spec.in_channels}; make them equal"
            )
        if self.preprocessing.size != self.spec.input_size:
            raise ModelFileError(
                f"preprocessing gives {self.preprocessing.size} pixels a side, {self.spec.name} takes "
                f"{self.spec.input_size}; make them equal"
            )

    def network(self) -> Network:
        """The network with these weights, in evaluation mode. Raises ModelFileError where they do not fit."""
        try:
            with torch.device("meta"):  # no time for first weights that are overwritten at once
                network = self.spec.build()
        except RuntimeError as error:  # of torch, for sizes beyond all bounds
            raise ModelFileError(f"{self.spec.name} cannot be built ({_short(error)}); correct its spec") from None
        _check_tensors(network, self.tensors)
        network.load_state_dict(self.tensors, assign=True)
        return _materialized(network, self.spec).eval()


def save_bundle(file: Path, bundle: Bundle) -> None:
    """Write the model file whole or not at all. Raises StorageError."""
    header = {
        "format": FORMAT,
        "version": __version__,
        "spec": bundle.spec.to_dict(),
        "preprocessing": bundle.preprocessing.to_dict(),
        "labels": list(bundle.labels),
        "provenance": bundle.provenance,
        "metrics": bundle.metrics,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.tensors.items()}
    if bundle.preprocessing.mean_values is not None:
        tensors[_MEAN_IMAGE] = bundle.preprocessing.mean_values
    header["digest"] = _digest(tensors)
    metadata = {"skipway": json.dumps(header)}
    write_whole(file, lambda temporary: save_file(tensors, temporary, metadata))


def load_bundle(file: Path | str) -> Bundle:
    """Read a model file and make sure that its weights fit its network.

    Raises ModelFileError when it is missing, damaged, foreign or of a newer format.
    """
    path = Path(file)
    if not path.is_file():
        raise ModelFileError(f"no model file {path}; `skipway train` writes one as RUN/model.safetensors")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged or no model file ({_short(error)}); copy or train it again") from None
    if "skipway" not in metadata:
        raise ModelFileError(f"{path} holds weights but no skipway header; only files that skipway wrote are models")
    try:
        header = dict(json.loads(metadata["skipway"]))
        newer = header["format"] > FORMAT
        if not newer:
            if header["digest"] != _digest(tensors):
                raise ModelFileError("its weights are not those that were written")
            bundle = _from_header(header, tensors)
            bundle.network()
    except (SkipwayError, ValueError, TypeError, KeyError, RecursionError) as error:
        told = f"its header lacks {error}" if isinstance(error, KeyError) else _short(error)
        raise ModelFileError(
            f"{path} is damaged or was not written by skipway ({told}); copy or train it again"
        ) from None
    if newer:
        raise ModelFileError(f"{path} was written by a newer skipway (format {header['format']}); update this one")
    return bundle


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and bytes: safetensors itself would not notice a flipped bit."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _from_header(header: dict[str, Any], tensors: dict[str, Tensor]) -> Bundle:
    labels = header["labels"]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ModelFileError("labels must be a list of texts")
    mean_image = tensors.pop(_MEAN_IMAGE, None)
    return Bundle(
        spec=spec_from_dict(header["spec"]),
        preprocessing=Preprocessing.from_dict(header["preprocessing"], mean_image),
        labels=tuple(labels),
        tensors=tensors,
        provenance=dict(header.get("provenance", {})),
        metrics=dict(header.get("metrics", {})),
    )


def _check_tensors(network: Network, tensors: dict[str, Tensor]) -> None:
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    surplus = sorted(set(tensors) - set(wanted))
    if missing or surplus:
        raise ModelFileError(
            f"weights do not fit {network.spec.name}: {len(missing)} missing {missing[:3]}, "
            f"{len(surplus)} surplus {surplus[:3]}; give those of this network"
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            raise ModelFileError(
                f"{name} is {tuple(tensors[name].shape)} {tensors[name].dtype}, "
                f"{network.spec.name} needs {tuple(tensor.shape)} {tensor.dtype}; give weights of this network"
            )


def _materialized(network: Network, spec: Spec) -> Network:
    """Fill what a state dict does not carry: constants such as the bands of response normalization."""
    absent = {name for name, buffer in network.named_buffers() if buffer.is_meta}
    if not absent:
        return network
    for owner in network.modules():
        rebuild = getattr(owner, "reset_constants", None)
        if rebuild is not None:
            rebuild()
    left = [name for name, buffer in network.named_buffers() if buffer.is_meta]
    if left:
        raise RuntimeError(f"{spec.name}: constants {left} have no reset_constants")
    return network


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
