"""The header of a model file: read, bounded and held against its tensors before one of them is loaded."""

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
class Header:
    """What a model file says of itself; the mean image, if there is one, is still among the tensors."""

    spec: Spec
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    digest: str


def read_header(path: Path) -> Header:
    """The header of a model file whose tensors fit its network. Raises ModelFileError and ReadError."""
    head = _head(path)
    _require_model_file(path, head)
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            names = list(opened.keys())
            if len(names) > MAX_TENSORS:
                raise damaged(path, counted(len(names), "tensor"))
            slices = {name: opened.get_slice(name) for name in names}
            declared = {name: (tuple(one.get_shape()), _type_of(one.get_dtype())) for name, one in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if "skipway" not in metadata:
        raise ModelFileError(
            f"{path} holds weights but no skipway header; {import_advice(path)} makes a model file of them"
        )
    try:
        header = _checked(path, metadata["skipway"], declared)
    except (SkipwayError, ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, _NewerFormatError):
            raise ModelFileError(str(error)) from None
        raise damaged(path, f"its header lacks {error}" if isinstance(error, KeyError) else short(error)) from None
    require_affordable(header.spec, path)
    return header


class _NewerFormatError(SkipwayError):
    """Written by a later version, whose header may look like anything."""


def damaged(path: Path, why: str) -> ModelFileError:
    """A model file that cannot be used for a reason that lies in it."""
    told = f"{path} is damaged or was not written by skipway ({why}); copy or train it again"
    return ModelFileError(told)


def unreadable(path: Path, error: Exception) -> Exception:
    """A model file that could not be read: damage, or what the system says."""
    if is_out_of_memory(error):
        return MemoryError(f"for {path}")
    if isinstance(error, OSError) and error.errno is not None:
        return read_error(path, error)
    return ModelFileError(f"{path} is damaged or no model file ({short(error)}); copy or train it again")


def short(error: Exception) -> str:
    """An error's text in one line of bearable length."""
    return " ".join(str(error).split())[:300]


def _head(path: Path) -> bytes:
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


def _require_model_file(path: Path, head: bytes) -> None:
    """Raises ModelFileError for files of other kinds, naming the way from them, and for a header beyond all bounds."""
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length > MAX_HEADER:
            raise ModelFileError(f"{path} is damaged or no model file (a header of {length:,} bytes); copy it again")
        return
    if (told := describe_other_file(path, head)) is not None:
        raise ModelFileError(told)


def _type_of(code: Any) -> str:
    return _TYPES.get(str(code), str(code))


def _checked(path: Path, entry: str, declared: Declared) -> Header:
    if len(entry) > MAX_ENTRY:
        raise ModelFileError(f"its header says {len(entry):,} characters")
    # A list a character long becomes an object of 60 bytes, and a million of them keep the garbage collector busy.
    if entry.count("[") + entry.count("{") > MAX_LISTS + ITEMS_PER_TENSOR * len(declared):
        tensors = f"{counted(len(declared), 'tensor')} {agreeing(len(declared), 'needs', 'need')}"
        raise ModelFileError(f"its header has far more lists and tables than {tensors}")
    header = json.loads(entry)
    if not isinstance(header, dict):
        raise ModelFileError("its header is no table")
    if type(header["format"]) is not int or header["format"] < 1:
        raise ModelFileError("its format is no number")
    if header["format"] > FORMAT:
        raise _NewerFormatError(
            f"{path} was written by a newer skipway (format {short_number(header['format'])}); update this one"
        )
    if (header["format"] >= _SEALED or "seal" in header) and header["seal"] != seal_of(header):
        raise ModelFileError("its header is not what was written")
    require_short_lists(header["spec"], len(declared))
    require_short_lists(header["preprocessing"], 0)
    spec = spec_from_dict(header["spec"])
    preprocessing = _preprocessing(spec, header["preprocessing"], declared)
    labels = _labels(header["labels"])
    require_consistent(spec, preprocessing, labels)
    require_agreement(spec, {name: there for name, there in declared.items() if not _is_beside(name)})
    return Header(
        spec=spec,
        preprocessing=preprocessing,
        labels=labels,
        provenance=_table(header, "provenance"),
        metrics=_table(header, "metrics"),
        digest=header["digest"],
    )


def seal_of(header: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of all of a header but the seal itself."""
    text = json.dumps({key: value for key, value in header.items() if key != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_beside(name: str) -> bool:
    """Whether a tensor is none of the network's."""
    return name == MEAN_IMAGE or name.startswith(PREFIX)


def short_number(number: int) -> str:
    """A whole number that may be of any length."""
    return str(number) if abs(number) < 10**9 else "far above this one's"


def require_readable(spec: Spec, preprocessing: Preprocessing) -> None:
    """Raises ModelFileError for pictures of a size that a model file may not ask for, whoever typed it: the file could
    not be read again."""
    require_side(spec.input_size, spec.name)
    require_side(preprocessing.size, "its preprocessing")
    if preprocessing.resize_to > _MAX_RESIZE * preprocessing.size:
        raise ModelFileError(
            f"its preprocessing cuts {preprocessing.size} pixels from {preprocessing.resize_to:,}; give a larger cut"
        )


def require_consistent(spec: Spec, preprocessing: Preprocessing, labels: Sequence[str]) -> None:
    """Raises ModelFileError unless there is a label a class, and the pictures are those that the network takes."""
    if len(labels) != spec.num_classes:
        raise ModelFileError(
            f"{counted(len(labels), 'label')} for {counted(spec.num_classes, 'class')}; give one for each"
        )
    if preprocessing.depth != spec.in_channels:
        raise ModelFileError(
            f"preprocessing gives {counted(preprocessing.depth, 'channel')}, {spec.name} takes {spec.in_channels}; "
            "make them equal"
        )
    if preprocessing.size != spec.input_size:
        raise ModelFileError(
            f"preprocessing gives {preprocessing.size} pixels a side, {spec.name} takes {spec.input_size}; make them "
            "equal"
        )


def _preprocessing(spec: Spec, plain: Any, declared: Declared) -> Preprocessing:
    found = Preprocessing.from_dict(plain)
    require_readable(spec, found)
    if MEAN_IMAGE in declared:
        found.check_mean_image(declared[MEAN_IMAGE][0])
    return found


def _labels(plain: Any) -> tuple[str, ...]:
    if not isinstance(plain, list) or not all(isinstance(label, str) for label in plain):
        raise ModelFileError("labels must be a list of texts")
    return tuple(plain)


def _table(header: dict[str, Any], key: str) -> dict[str, Any]:
    found = header.get(key, {})
    if not isinstance(found, dict):
        raise ModelFileError(f"its {key} is no table")
    return found
