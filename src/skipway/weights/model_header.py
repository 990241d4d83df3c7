"""The header of a model file: read, bounded and compared with its tensors before one of them is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from skipway.data.preprocessing import Preprocessing
from skipway.errors import ModelFileError, ReadError, SkipwayError, is_out_of_memory
from skipway.files import read_error, require_file
from skipway.models.catalog import spec_from_dict
from skipway.models.network import Spec
from skipway.reporting import agreeing, counted
from skipway.weights.agreement import (
    ITEMS_PER_TENSOR,
    MAX_TENSORS,
    Declared,
    require_affordable,
    require_agreement,
    require_short_lists,
    require_side,
)
from skipway.weights.identity import PREFIX
from skipway.weights.other_files import describe_absent_file, describe_other_file, import_advice

FORMAT = 2
_SEALED = 2  # from this format on the header has a checksum of its own
MEAN_IMAGE = "preprocessing.mean_image"  # the tensor beside the network's
MAX_HEADER = 8 << 20  # bytes: twice what the deepest network of all takes
MAX_ENTRY = 4 << 20  # of the skipway entry alone: JSON unpacks to many times its size
MAX_LISTS = 20_000  # in the skipway entry, beside those of a spec
_MAX_RESIZE = 4  # times a side that pictures are resized to before the cut
_TYPES = {
    "F64": "torch.float64",
    "F32": "torch.float32",
    "F16": "torch.float16",
    "BF16": "torch.bfloat16",
    "I64": "torch.int64",
    "I32": "torch.int32",
    "I16": "torch.int16",
    "I8": "torch.int8",
    "U8": "torch.uint8",
    "BOOL": "torch.bool",
}


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself."""

    spec: Spec
    preprocessing: Preprocessing  # without the mean image, which is still among the tensors
    labels: tuple[str, ...]  # in the order of the logits
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    digest: str  # of the tensors: SHA-256, hexadecimal


class _NewerFormatError(SkipwayError):
    """Written by a later version, whose header may look like anything."""


def read_header(path: Path) -> ModelHeader:
    """The header of a model file whose tensors fit its network. Raises ModelFileError and ReadError."""
    _require_model_file(path, _first_bytes(path))
    try:
        metadata, declared = _metadata_and_tensors(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise unreadable(path, error) from None
    entry = metadata.get("skipway")
    if entry is None:
        raise ModelFileError(
            f"{path} holds weights but no skipway header; {import_advice(path)} makes a model file of them"
        )
    try:
        header = _checked(path, entry, declared)
    except _NewerFormatError as error:
        raise ModelFileError(str(error)) from None
    except KeyError as error:
        raise damaged(path, f"its header lacks {error}") from None
    except (SkipwayError, ValueError, TypeError, RecursionError) as error:
        raise damaged(path, short(error)) from None
    require_affordable(header.spec, path)
    return header


def _metadata_and_tensors(path: Path) -> tuple[dict[str, str], Declared]:
    """The metadata of a safetensors file, and the shapes and types of its tensors, none of which is loaded.

    Raises ModelFileError for too many tensors, and what safetensors raises.
    """
    declared: dict[str, tuple[tuple[int, ...], str]] = {}
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() or {}
        names = list(opened.keys())
        if len(names) > MAX_TENSORS:
            raise damaged(path, counted(len(names), "tensor"))
        for name in names:
            tensor = opened.get_slice(name)
            code = str(tensor.get_dtype())
            declared[name] = (tuple(tensor.get_shape()), _TYPES.get(code, code))
    return metadata, declared


def damaged(path: Path, why: str) -> ModelFileError:
    """The error for a model file that cannot be used for a reason that lies in it."""
    return ModelFileError(f"{path} is damaged or was not written by skipway ({why}); copy or train it again")


def unreadable(path: Path, error: Exception) -> Exception:
    """The error for a model file that could not be read: damage, or what the system says."""
    if is_out_of_memory(error):
        return MemoryError(f"for {path}")
    if isinstance(error, OSError) and error.errno is not None:
        return read_error(path, error)
    return ModelFileError(
        f"{path} is damaged or no model file ({short(error)}); copy or train it again, or `skipway import` it if it is "
        "the weight file of another framework"
    )


def short(error: Exception) -> str:
    """An error's text in one line of at most 300 characters."""
    words = str(error).split()
    return " ".join(words)[:300]


def _first_bytes(path: Path) -> bytes:
    """The first bytes of a regular file. Raises ModelFileError and ReadError."""
    try:
        require_file(path)
    except ReadError as error:
        if error.what.startswith(("does not exist", "is a folder")):
            raise ModelFileError(describe_absent_file(path)) from None
        raise
    try:
        with path.open("rb") as opened:
            return opened.read(512)
    except OSError as error:
        raise read_error(path, error) from None


def _require_model_file(path: Path, first_bytes: bytes) -> None:
    """Raises ModelFileError for files of other kinds, with advice on their use, and for a header that is too long."""
    is_safetensors = first_bytes[8:9] == b"{"
    if is_safetensors:
        length = int.from_bytes(first_bytes[:8], "little")
        if length > MAX_HEADER:
            raise ModelFileError(f"{path} is damaged or no model file (a header of {length:,} bytes); copy it again")
        return
    message = describe_other_file(path, first_bytes)
    if message is not None:
        raise ModelFileError(message)


def _checked(path: Path, entry: str, declared: Declared) -> ModelHeader:
    """The header in the file's skipway entry, once its claims agree with the file's tensors.

    Raises SkipwayError's children, and KeyError, TypeError, ValueError or RecursionError for a malformed entry.
    """
    header = _unpacked(path, entry, declared)
    require_short_lists(header["spec"], len(declared))
    require_short_lists(header["preprocessing"], 0)
    spec = spec_from_dict(header["spec"])
    preprocessing = _preprocessing(spec, header["preprocessing"], declared)
    labels = _labels(header["labels"])
    require_consistent(spec, preprocessing, labels)
    own_tensors = {name: shape_and_type for name, shape_and_type in declared.items() if not _is_beside(name)}
    require_agreement(spec, own_tensors)
    return ModelHeader(
        spec=spec,
        preprocessing=preprocessing,
        labels=labels,
        provenance=_table(header, "provenance"),
        metrics=_table(header, "metrics"),
        digest=header["digest"],
    )


def _unpacked(path: Path, entry: str, declared: Declared) -> dict[str, Any]:
    """The entry's JSON, bounded in size, of a known format and with the right seal."""
    if len(entry) > MAX_ENTRY:
        raise ModelFileError(f"its header says {len(entry):,} characters")
    # A list a character long becomes an object of 60 bytes, and a million of them keep the garbage collector busy.
    lists = entry.count("[") + entry.count("{")
    if lists > MAX_LISTS + ITEMS_PER_TENSOR * len(declared):
        tensors = counted(len(declared), "tensor")
        verb = agreeing(len(declared), "needs", "need")
        raise ModelFileError(f"its header has far more lists and tables than {tensors} {verb}")
    header = json.loads(entry)
    if not isinstance(header, dict):
        raise ModelFileError("its header is no table")
    version = header["format"]
    if type(version) is not int or version < 1:
        raise ModelFileError("its format is no number")
    if version > FORMAT:
        raise _NewerFormatError(
            f"{path} was written by a newer skipway (format {short_number(version)}); update this one"
        )
    has_seal = version >= _SEALED or "seal" in header
    if has_seal and header["seal"] != seal_of(header):
        raise ModelFileError("its header is not what was written")
    return header


def seal_of(header: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of all of a header but the seal itself."""
    sealed = dict(header)
    sealed.pop("seal", None)
    text = json.dumps(sealed, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_beside(name: str) -> bool:
    """Whether a tensor stands beside those of the network: the mean image, or the list of training pictures."""
    return name == MEAN_IMAGE or name.startswith(PREFIX)


def short_number(number: int) -> str:
    """A whole number as text; one with many digits, as a file may claim it, in words."""
    if abs(number) >= 10**9:
        return "far above this one's"
    return str(number)


def require_readable(spec: Spec, preprocessing: Preprocessing) -> None:
    """Raises ModelFileError for pictures of a size that a model file may not ask for: it could not be read again."""
    require_side(spec.input_size, spec.name)
    require_side(preprocessing.size, "its preprocessing")
    if preprocessing.resize_to > _MAX_RESIZE * preprocessing.size:
        raise ModelFileError(
            f"its preprocessing cuts {preprocessing.size} pixels from {preprocessing.resize_to:,}; give a larger cut"
        )


def require_consistent(spec: Spec, preprocessing: Preprocessing, labels: Sequence[str]) -> None:
    """Raises ModelFileError unless each class has a label and the pictures are those that the network takes."""
    if len(labels) != spec.num_classes:
        classes = counted(spec.num_classes, "class")
        raise ModelFileError(f"{counted(len(labels), 'label')} for {classes}; give one for each")
    if preprocessing.depth != spec.in_channels:
        channels = counted(preprocessing.depth, "channel")
        raise ModelFileError(f"preprocessing gives {channels}, {spec.name} takes {spec.in_channels}; make them equal")
    if preprocessing.size != spec.input_size:
        raise ModelFileError(
            f"preprocessing gives {preprocessing.size} pixels a side, {spec.name} takes {spec.input_size}; make them "
            "equal"
        )


def _preprocessing(spec: Spec, plain: Any, declared: Declared) -> Preprocessing:
    """The preprocessing of a header. Raises SkipwayError's children, also for a mean image of the wrong shape."""
    found = Preprocessing.from_dict(plain)
    require_readable(spec, found)
    if MEAN_IMAGE in declared:
        shape, _ = declared[MEAN_IMAGE]
        found.check_mean_image(shape)
    return found


def _labels(plain: Any) -> tuple[str, ...]:
    """The labels of a header. Raises ModelFileError."""
    is_list_of_texts = isinstance(plain, list) and all(isinstance(label, str) for label in plain)
    if not is_list_of_texts:
        raise ModelFileError("labels must be a list of texts")
    return tuple(plain)


def _table(header: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of a header, empty where it is left out. Raises ModelFileError."""
    found = header.get(key, {})
    if not isinstance(found, dict):
        raise ModelFileError(f"its {key} is no table")
    return found
