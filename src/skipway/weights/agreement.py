"""What a file says of a network is held against the file itself, by arithmetic, before anything is built.

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

Declared = Mapping[str, tuple[Shape, str]]  # of each tensor its shape, and its type as torch writes it


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
    """Raises ModelFileError unless the spec's limits hold and the tensors are those of its network, names, shapes and
    types alike."""
    require_side(spec.input_size, spec.name)
    for what, number in _unseen_numbers(spec):
        if number > MAX_SIDE:
            raise ModelFileError(f"{spec.name} has a {what} of {number:,}; give {MAX_SIDE:,} at the most")
    _require_tensors(spec, declared)


def require_affordable(spec: Spec, file: Path, available: int | None = None) -> None:
    """Raises ModelFileError where one picture costs more than this process has: memory (or `available` bytes), or the
    work of pools that no network has a use for."""
    price = price_of(spec)
    if price.comparisons > _MAX_COMPARISONS:
        raise ModelFileError(
            f"{file}: {spec.name} looks at {price.comparisons:.1e} values in the pools of one picture; get it from its "
            "author with smaller windows"
        )
    available = memory_limit() if available is None else available
    if available is not None and price.bytes > available:
        raise ModelFileError(
            f"{file}: {spec.name} needs {price.bytes / 2**30:,.1f} GiB or more for one picture of {spec.input_size} "
            f"pixels, and there are {available / 2**30:,.1f}; use a machine with more memory"
        )


def _unseen_numbers(spec: Spec) -> Iterator[tuple[str, int]]:
    """Numbers that no shape of a tensor depends on: what they are, and how large."""
    if isinstance(spec, AlexNetSpec):
        yield from (("stride", row.stride) for row in spec.convs)
        yield from (("padding", 0 if row.padding == "same" else row.padding) for row in spec.convs)
        yield from (("pool's kernel", spec.pool.kernel), ("pool's stride", spec.pool.stride))
        yield "side of its average pool", spec.average_to
    if isinstance(spec, StackSpec):
        yield "stem's stride", spec.stem.stride
        for rows in spec.placed():
            for (_, _, stride), rate in rows:
                yield "stride", stride
                yield "dilation", rate


def _require_tensors(spec: Spec, declared: Declared) -> None:
    missing: list[str] = []
    unequal: list[tuple[str, Shape]] = []
    found = 0
    for name, shape in (one for layer in layers_of(spec) for one in layer.tensors):
        if name not in declared:
            missing.append(name)
            if len(missing) > len(declared) + 3:  # the rest of a thousand million are missing, too
                raise ModelFileError(
                    f"weights do not fit {spec.name}: it has more tensors than the {len(declared)} of the file, among "
                    f"them {missing[:3]}; give those of this network"
                )
            continue
        found += 1
        if declared[name] != (shape, _type_of(name)):
            unequal.append((name, shape))
    surplus = len(declared) - found
    if missing or surplus:
        wanted = {name for layer in layers_of(spec) for name, _ in layer.tensors}
        extra = sorted(set(declared) - wanted)
        raise ModelFileError(
            f"weights do not fit {spec.name}: {len(missing)} missing {sorted(missing)[:3]}, "
            f"{surplus} surplus {extra[:3]}; give those of this network"
        )
    for name, shape in unequal:
        there, kind = declared[name]
        raise ModelFileError(
            f"{name} is {there} {kind}, {spec.name} needs {shape} {_type_of(name)}; give weights of this network"
        )


def _type_of(name: str) -> str:
    return "torch.int64" if name.endswith(".num_batches_tracked") else "torch.float32"
