"""The one table of networks: a name, and the frozen spec behind it. Its rows lie in `rows/`, one module a family."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from skipway.errors import ModelFileError, SkipwayError, UnknownNameError
from skipway.models.alexnet import AlexNetSpec
from skipway.models.highway import HighwayMLPSpec, HighwaySpec
from skipway.models.mlp import PlainMLPSpec
from skipway.models.network import Network, Spec
from skipway.models.plain import PlainSpec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.models.rows import alexnet, highway, plain, resnet_v1, resnet_v2
from skipway.models.rows.entry import Entry
from skipway.values import from_plain

ENTRIES: tuple[Entry, ...] = (
    *alexnet.ENTRIES,
    *highway.ENTRIES,
    *plain.ENTRIES,
    *resnet_v1.ENTRIES,
    *resnet_v2.ENTRIES,
)

CATALOG: dict[str, Entry] = {entry.spec.name: entry for entry in ENTRIES}
if len(CATALOG) != len(ENTRIES):
    raise RuntimeError("two rows of the catalog share a name")

# The default layout of each architecture that has several, by what a bare name starts with.
_RENAMED = {"keras_v1": "keras_caffe", "keras_v2": "keras_tf"}  # conventions in headers of early model files
_DEFAULTS = {"alexnet": "caffe", "highway": "cifar", "plain": "cifar", "resnet_v1": "original", "resnet_v2": "slim"}

_OF_ANY_DEPTH = {"highway_mlp": highway.highway_mlp, "plain_mlp": plain.plain_mlp}


def _aliases() -> dict[str, str]:
    """A bare architecture means its default layout, or its only one."""
    layouts: dict[str, list[str]] = {}
    for name in CATALOG:
        bare, dot, layout = name.partition(".")
        if dot:
            layouts.setdefault(bare, []).append(layout)
    aliases = {}
    for bare, known in layouts.items():
        default = next(layout for family, layout in _DEFAULTS.items() if bare.startswith(family))
        aliases[bare] = f"{bare}.{default if default in known else known[0]}"
    return aliases


ALIASES: dict[str, str] = _aliases()

ARCHITECTURES: dict[str, type[Spec]] = {
    kind.architecture: kind
    for kind in (AlexNetSpec, HighwayMLPSpec, HighwaySpec, PlainMLPSpec, PlainSpec, ResNetV1Spec, ResNetV2Spec)
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, by family and depth: `list_models("resnet_v1_*")`.

    `highway_mlp_N` and `plain_mlp_N` exist for every N; four of each are listed.
    """
    return sorted(fnmatch.filter(CATALOG, pattern), key=_by_depth)


def _by_depth(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def find_entry(name: str) -> Entry:
    """The row of that name, or of the default layout of a bare architecture. Raises UnknownNameError."""
    if not isinstance(name, str):
        raise UnknownNameError("model", repr(name), [*CATALOG, *ALIASES], hint="a name is a text")
    entry = CATALOG.get(ALIASES.get(name, name))
    if entry is not None:
        return entry
    if made := re.fullmatch(r"(\w+_mlp)_([1-9]\d{0,3})", name):
        row_for = _OF_ANY_DEPTH.get(made[1])
        if row_for is not None:
            return row_for(int(made[2]))
    raise UnknownNameError("model", name, [*CATALOG, *ALIASES], hint=_hint(name))


def _hint(name: str) -> str:
    """What the nearest names do not say: which layouts an architecture has, which depths a fully connected one."""
    bare = name.partition(".")[0].lower()
    for family in _OF_ANY_DEPTH:
        if bare.startswith(family):
            return f"{family}_N has N layers, from 1 to 9999"
    layouts = [known.partition(".")[2] for known in CATALOG if known.startswith(f"{bare}.")]
    every = "`skipway models` lists all"
    return f"{bare} has the layouts {', '.join(layouts)}; {every}" if layouts else every


def find_spec(name: str) -> Spec:
    """The spec of `find_entry`. Raises UnknownNameError."""
    return find_entry(name).spec


def create_model(name: str, /, **fields: Any) -> Network:
    """The named network with freshly drawn weights; `fields` change fields of its spec (`num_classes=6`).

    Raises UnknownNameError for an unknown name or field and SpecError for a network that cannot exist.
    """
    return find_spec(name).replaced(fields).build()


def spec_from_dict(plain: Mapping[str, Any]) -> Spec:
    """The inverse of `Spec.to_dict`, for headers of model files. Raises ModelFileError."""
    fields = dict(plain)
    if fields.get("preprocessing") in _RENAMED:
        fields["preprocessing"] = _RENAMED[fields["preprocessing"]]
    architecture = fields.pop("architecture", None)
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ModelFileError(f"architecture '{architecture}' is not one that this version of skipway knows; update it")
    try:
        return from_plain(ARCHITECTURES[architecture], fields, f"the spec of {architecture}")
    except SkipwayError as error:
        raise ModelFileError(str(error)) from None
