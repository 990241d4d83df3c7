"""Checks that what a file says of a network agrees with the file's tensors, by arithmetic, before anything is built.

A header is a few hundred bytes and may claim a thousand million layers. The tensors beside it bound what it may claim:
each layer's must be there, in its shape, and no other. What no tensor shows (the side of the pictures, strides, the
padding of pools) has limits of its own, and what one picture would cost is compared with the memory of this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skipway.cost import layers_of, price_of
from skipway.cost.layers import Shape
from skipway.errors import ModelFileError
from skipway.machine import memory_limit
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec

MAX_SIDE = 4096  # pixels
MAX_TENSORS = 200_000  # ten times what the deepest network of the catalog has
_MAX_COMPARISONS = 1 << 34  # of the max pools, for one picture: some 20 seconds
ITEMS_PER_TENSOR = 8  # a row of three numbers stands for six tensors or more

Declared = Mapping[str, tuple[Shape, str]]  # by name, each tensor's shape and its type as torch writes it


def require_side(side: int, what: str) -> None:
    """Raises ModelFileError for pictures that are larger than a model file may ask for."""
    if side > MAX_SIDE:
        raise ModelFileError(
            f"{what} takes pictures of {side:,} pixels a side, and a model file at most {MAX_SIDE:,}; "
            "give a smaller --image-size"
        )


def require_short_lists(plain: Any, tensors: int) -> None:
    """Raises ModelFileError where a spec or preprocessing lists far more than there are tensors.

    To check it item by item would take long.
    """
    allowed = ITEMS_PER_TENSOR * tensors + 64
    waiting = [plain]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            allowed -= len(value)
            waiting += value
        if allowed < 0:
            raise ModelFileError(
                f"its header lists more layers, means or deviations than {tensors:,} tensors can belong to; correct it"
            )


def require_agreement(spec: Spec, declared: Declared) -> None:
    """Raises ModelFileError unless the spec keeps its limits and the tensors are those of its network.

    The tensors must have the network's names, shapes and types.
    """
    require_side(spec.input_size, spec.name)
    for what, number in _unseen_numbers(spec):
        if number > MAX_SIDE:
            raise ModelFileError(f"{spec.name} has a {what} of {number:,}; give {MAX_SIDE:,} at the most")
    unequal = _unequal_tensors(spec, declared)
    if unequal:
        name, shape = unequal[0]
        there, kind = declared[name]
        raise ModelFileError(
            f"{name} is {there} {kind}, {spec.name} needs {shape} {_type_of(name)}; give weights of this network"
        )


def require_affordable(spec: Spec, file: Path, available: int | None = None) -> None:
    """Raises ModelFileError where one picture costs more than this process can pay.

    That is more memory than it has (or `available` bytes), or more work in pools than any network has a use for.
    """
    price = price_of(spec)
    if price.comparisons > _MAX_COMPARISONS:
        raise ModelFileError(
            f"{file}: {spec.name} looks at {price.comparisons:.1e} values in the pools of one picture; get it from its "
            "author with smaller windows"
        )
    if available is None:
        available = memory_limit()
    if available is None or price.bytes <= available:
        return
    needed_gib = price.bytes / 2**30
    available_gib = available / 2**30
    raise ModelFileError(
        f"{file}: {spec.name} needs {needed_gib:,.1f} GiB or more for one picture of {spec.input_size} "
        f"pixels, and there are {available_gib:,.1f}; use a machine with more memory"
    )


def _unseen_numbers(spec: Spec) -> Iterator[tuple[str, int]]:
    """Numbers of a spec that no shape of a tensor depends on: what each is, and how large."""
    if isinstance(spec, AlexNetSpec):
        for row in spec.convs:
            yield "stride", row.stride
        for row in spec.convs:
            if row.padding != "same":
                yield "padding", row.padding
        yield "pool's kernel", spec.pool.kernel
        yield "pool's stride", spec.pool.stride
        yield "side of its average pool", spec.average_to
    if isinstance(spec, StackSpec):
        yield "stem's stride", spec.stem.stride
        for rows in spec.placed():
            for (_, _, stride), rate in rows:
                yield "stride", stride
                yield "dilation", rate


def _tensors_of(spec: Spec) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every tensor of a network, one layer after the other."""
    for layer in layers_of(spec):
        yield from layer.tensors


def _unequal_tensors(spec: Spec, declared: Declared) -> list[tuple[str, Shape]]:
    """The network's tensors that the file has in another shape or type.

    Raises ModelFileError where the file lacks tensors or has others.
    """
    missing: list[str] = []
    unequal: list[tuple[str, Shape]] = []
    found = 0
    for name, shape in _tensors_of(spec):
        if name not in declared:
            missing.append(name)
            if len(missing) > len(declared) + 3:  # the spec may claim a thousand million tensors: count no further
                raise ModelFileError(
                    f"weights do not fit {spec.name}: it has more tensors than the {len(declared)} of the file, among "
                    f"them {missing[:3]}; give those of this network"
                )
            continue
        found += 1
        if declared[name] != (shape, _type_of(name)):
            unequal.append((name, shape))
    surplus_count = len(declared) - found
    if missing or surplus_count:
        wanted = {name for name, _ in _tensors_of(spec)}
        surplus = sorted(set(declared) - wanted)
        raise ModelFileError(
            f"weights do not fit {spec.name}: {len(missing)} missing {sorted(missing)[:3]}, "
            f"{surplus_count} surplus {surplus[:3]}; give those of this network"
        )
    return unequal


def _type_of(name: str) -> str:
    """The type that a network's tensor of this name has."""
    if name.endswith(".num_batches_tracked"):
        return "torch.int64"
    return "torch.float32"
