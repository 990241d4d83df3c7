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
    ModelHeader,
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
    """A model file's contents."""

    spec: Spec
    preprocessing: Preprocessing
    labels: tuple[str, ...]  # in the order of the logits
    tensors: dict[str, Tensor]  # the network's state dict
    provenance: dict[str, Any] = field(default_factory=dict)  # where the weights come from, plain JSON
    metrics: dict[str, Any] = field(default_factory=dict)  # how good they are, plain JSON
    # The pictures that the network was trained on, and those held out. None for unknown ones, and in files for others.
    identity: Identity | None = None

    def __post_init__(self) -> None:
        require_consistent(self.spec, self.preprocessing, self.labels)

    def network(self) -> Network:
        """The network with these weights, in evaluation mode. Raises ModelFileError where they do not fit."""
        try:
            with torch.device("meta"):  # to draw first weights would take time, and these replace them at once
                network = self.spec.build()
        except RuntimeError as error:  # torch raises it for sizes beyond all bounds
            raise ModelFileError(f"{self.spec.name} cannot be built ({short(error)}); correct its spec") from None
        _check_tensors(network, self.tensors)
        network.load_state_dict(self.tensors, assign=True)
        _fill_constants(network)
        return network.eval()


def for_others(bundle: Bundle) -> Bundle:
    """The model without private facts: the list of its training pictures, and paths of this machine."""
    provenance = dict(bundle.provenance)
    data = provenance.get("data")
    if isinstance(data, str):
        provenance["data"] = PurePath(data).name
    return replace(bundle, provenance=provenance, identity=None)


def save_bundle(file: Path, bundle: Bundle) -> None:
    """Write the model file whole or not at all.

    Raises StorageError, and ModelFileError for what `load_bundle` would refuse.
    """
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
    mean_values = bundle.preprocessing.mean_values
    if mean_values is not None:
        tensors[MEAN_IMAGE] = mean_values
    if bundle.identity is not None:
        tensors |= identity_tensors(bundle.identity)
    header["digest"] = _digest(tensors)
    header["seal"] = seal_of(header)
    entry = json.dumps(header)
    if len(entry) > MAX_ENTRY:
        raise ModelFileError(f"{file} would have a header of more than {MAX_ENTRY:,} characters; give shorter labels")
    write_whole(file, lambda temporary: save_file(tensors, temporary, {"skipway": entry}))


def load_bundle(file: Path | str) -> Bundle:
    """Read a model file and make sure that its weights fit its network.

    The header is compared with the tensors' shapes by arithmetic first: for a file that makes false claims nothing is
    built or loaded. Raises ModelFileError when the file is missing, damaged, foreign or of a newer format, and
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
        flat = tensors[name].reshape(-1)
        digest.update(name.encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _bundle_of(header: ModelHeader, tensors: dict[str, Tensor]) -> Bundle:
    """The contents of a model file. The mean image is taken out of `tensors`."""
    mean_image = tensors.pop(MEAN_IMAGE, None)
    preprocessing = header.preprocessing
    if mean_image is not None:
        preprocessing = replace(preprocessing, mean_image=MeanImage(mean_image))
    network_tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    return Bundle(
        spec=header.spec,
        preprocessing=preprocessing,
        labels=header.labels,
        tensors=network_tensors,
        provenance=header.provenance,
        metrics=header.metrics,
        identity=identity_of(tensors),
    )


def _check_tensors(network: Network, tensors: dict[str, Tensor]) -> None:
    """Raises ModelFileError unless the tensors have the names, shapes and types of the network's state dict."""
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    surplus = sorted(set(tensors) - set(wanted))
    if missing or surplus:
        raise ModelFileError(
            f"weights do not fit {network.spec.name}: {len(missing)} missing {missing[:3]}, "
            f"{len(surplus)} surplus {surplus[:3]}; give those of this network"
        )
    for name, own in wanted.items():
        given = tensors[name]
        if given.shape != own.shape or given.dtype != own.dtype:
            raise ModelFileError(
                f"{name} is {tuple(given.shape)} {given.dtype}, "
                f"{network.spec.name} needs {tuple(own.shape)} {own.dtype}; give weights of this network"
            )


def _fill_constants(network: Network) -> None:
    """Compute what a state dict does not carry: constants such as the bands of response normalization."""
    if not _empty_buffers(network):
        return
    for module in network.modules():
        compute = getattr(module, "reset_constants", None)
        if compute is not None:
            compute()
    left = _empty_buffers(network)
    if left:
        raise RuntimeError(f"{network.spec.name}: constants {left} have no reset_constants")


def _empty_buffers(network: Network) -> list[str]:
    """Names of the buffers that have no values yet."""
    return [name for name, buffer in network.named_buffers() if buffer.is_meta]
