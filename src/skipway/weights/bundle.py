"""One file is a model: weights, spec, preprocessing, labels, provenance and metrics in one .safetensors.

The header entry `skipway` of the file holds everything but the tensors, as JSON. Reading runs no code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skipway.data.identity import Identity
from skipway.data.mean_image import MeanImage
from skipway.data.preprocessing import Preprocessing
from skipway.errors import ModelFileError, SkipwayError
from skipway.files import write_whole
from skipway.models.network import Network, Spec
from skipway.version import __version__
from skipway.weights.identity import PREFIX, identity_of, identity_tensors
from skipway.weights.model_header import (
    FORMAT,
    MAX_ENTRY,
    MEAN_IMAGE,
    Header,
    damaged,
    read_header,
    require_consistent,
    require_readable,
    seal_of,
    short,
    unreadable,
)


@dataclass(frozen=True)
class Bundle:
    """A model file's contents. `labels` are in the order of the logits; `provenance` and `metrics` are plain JSON.

    `identity` tells which pictures the network was trained on, and which were held out; None where nobody knows, and
    in what is handed to others.
    """

    spec: Spec
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    identity: Identity | None = None

    def __post_init__(self) -> None:
        require_consistent(self.spec, self.preprocessing, self.labels)

    def network(self) -> Network:
        """The network with these weights, in evaluation mode. Raises ModelFileError where they do not fit."""
        try:
            with torch.device("meta"):  # no time for first weights that are overwritten at once
                network = self.spec.build()
        except RuntimeError as error:  # of torch, for sizes beyond all bounds
            raise ModelFileError(f"{self.spec.name} cannot be built ({short(error)}); correct its spec") from None
        _check_tensors(network, self.tensors)
        network.load_state_dict(self.tensors, assign=True)
        return _materialized(network, self.spec).eval()


def for_others(bundle: Bundle) -> Bundle:
    """The model without what is nobody else's affair: the list of its training pictures, and paths of this machine."""
    provenance = dict(bundle.provenance)
    if isinstance(provenance.get("data"), str):
        provenance["data"] = PurePath(provenance["data"]).name
    return replace(bundle, provenance=provenance, identity=None)


def save_bundle(file: Path, bundle: Bundle) -> None:
    """Write the model file whole or not at all. Raises StorageError, and ModelFileError for what `load_bundle` would
    refuse."""
    require_readable(bundle.spec, bundle.preprocessing)
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
        tensors[MEAN_IMAGE] = bundle.preprocessing.mean_values
    if bundle.identity is not None:
        tensors |= identity_tensors(bundle.identity)
    header["digest"] = _digest(tensors)
    header["seal"] = seal_of(header)
    metadata = {"skipway": json.dumps(header)}
    if len(metadata["skipway"]) > MAX_ENTRY:
        raise ModelFileError(f"{file} would have a header of more than {MAX_ENTRY:,} characters; give shorter labels")
    write_whole(file, lambda temporary: save_file(tensors, temporary, metadata))


def load_bundle(file: Path | str) -> Bundle:
    """Read a model file and make sure that its weights fit its network.

    The header is held against the tensors' shapes by arithmetic first: nothing is built or loaded for a file that is
    refused for what it claims. Raises ModelFileError when it is missing, damaged, foreign or of a newer format, and
    ReadError when the system could not read it.
    """
    if not isinstance(file, str | PurePath):
        raise ModelFileError(f"the model file is of type {type(file).__name__}; give its path")
    path = Path(file)
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise unreadable(path, error) from None
    try:
        if header.digest != _digest(tensors):
            raise ModelFileError("its weights are not those that were written")
        bundle = _bundle_of(header, tensors)
        bundle.network()
    except SkipwayError as error:
        raise damaged(path, short(error)) from None
    return bundle


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and bytes: safetensors itself would not notice a flipped bit."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _bundle_of(header: Header, tensors: dict[str, Tensor]) -> Bundle:
    mean_image = tensors.pop(MEAN_IMAGE, None)
    identity = identity_of(tensors)
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    preprocessing = header.preprocessing
    if mean_image is not None:
        preprocessing = replace(preprocessing, mean_image=MeanImage(mean_image))
    return Bundle(header.spec, preprocessing, header.labels, network, header.provenance, header.metrics, identity)


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
