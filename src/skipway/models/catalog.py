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
from skipway.models.rows.entry import CatalogEntry
from skipway.values import from_plain

ENTRIES: tuple[CatalogEntry, ...] = (
    *alexnet.ENTRIES,
    *highway.ENTRIES,
    *plain.ENTRIES,
    *resnet_v1.ENTRIES,
    *resnet_v2.ENTRIES,
)

CATALOG: dict[str, CatalogEntry] = {entry.spec.name: entry for entry in ENTRIES}
if len(CATALOG) != len(ENTRIES):
    raise RuntimeError("two rows of the catalog share a name")

_RENAMED = {"keras_v1": "keras_caffe", "keras_v2": "keras_tf"}  # conventions in headers of early model files

# The default layout of each architecture that has several, by what a bare name starts with.
_DEFAULTS = {"alexnet": "caffe", "highway": "cifar", "plain": "cifar", "resnet_v1": "original", "resnet_v2": "slim"}

_OF_ANY_DEPTH = {"highway_mlp": highway.highway_mlp, "plain_mlp": plain.plain_mlp}


def _aliases() -> dict[str, str]:
    """The full name behind each bare architecture: that of its default layout, or of its first one."""
    layouts: dict[str, list[str]] = {}
    for name in CATALOG:
        bare, dot, layout = name.partition(".")
        if dot:
            layouts.setdefault(bare, []).append(layout)
    aliases: dict[str, str] = {}
    for bare, known in layouts.items():
        layout = known[0]
        for family, default in _DEFAULTS.items():
            if bare.startswith(family) and default in known:
                layout = default
        aliases[bare] = f"{bare}.{layout}"
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
    names = fnmatch.filter(CATALOG, pattern)
    return sorted(names, key=_by_depth)


def _by_depth(name: str) -> list[str | int]:
    """The parts of a name, its numbers as numbers, so that 20 layers come before 110."""
    parts: list[str | int] = []
    for part in re.split(r"(\d+)", name):
        if part.isdigit():
            parts.append(int(part))
        else:
            parts.append(part)
    return parts


def find_entry(name: str) -> CatalogEntry:
    """The row of that name, or of the default layout of a bare architecture. Raises UnknownNameError."""
    known = [*CATALOG, *ALIASES]
    if not isinstance(name, str):
        raise UnknownNameError("model", repr(name), known, hint="a name is a text")
    full_name = ALIASES.get(name, name)
    if full_name in CATALOG:
        return CATALOG[full_name]
    # A fully connected network may have any number of layers.
    parts = re.fullmatch(r"(\w+_mlp)_([1-9]\d{0,3})", name)
    if parts is not None:
        family, layers = parts[1], int(parts[2])
        if family in _OF_ANY_DEPTH:
            make_row = _OF_ANY_DEPTH[family]
            return make_row(layers)
    raise UnknownNameError("model", name, known, hint=_hint(name))


def _hint(name: str) -> str:
    """What the list of nearest names leaves out: which layouts, or numbers of layers, an architecture has."""
    bare = name.partition(".")[0].lower()
    for family in _OF_ANY_DEPTH:
        if bare.startswith(family):
            return f"{family}_N has N layers, from 1 to 9999"
    prefix = f"{bare}."
    layouts = [known.removeprefix(prefix) for known in CATALOG if known.startswith(prefix)]
    every = "`skipway models` lists all"
    if not layouts:
        return every
    return f"{bare} has the layouts {', '.join(layouts)}; {every}"


def find_spec(name: str) -> Spec:
    """The spec of `find_entry`. Raises UnknownNameError."""
    return find_entry(name).spec


def create_model(name: str, /, **fields: Any) -> Network:
    """The named network with freshly drawn weights; `fields` change fields of its spec (`num_classes=6`).

    Raises UnknownNameError for an unknown name or field and SpecError for a network that cannot exist.
    """
    spec = find_spec(name).replaced(fields)
    return spec.build()


def spec_from_dict(plain: Mapping[str, Any]) -> Spec:
    """The inverse of `Spec.to_dict`, for headers of model files. Raises ModelFileError."""
    fields = dict(plain)
    convention = fields.get("preprocessing")
    if convention in _RENAMED:
        fields["preprocessing"] = _RENAMED[convention]
    architecture = fields.pop("architecture", None)
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ModelFileError(f"architecture '{architecture}' is not one that this version of skipway knows; update it")
    spec_type = ARCHITECTURES[architecture]
    try:
        return from_plain(spec_type, fields, f"the spec of {architecture}")
    except SkipwayError as error:
        raise ModelFileError(str(error)) from None
