"""How many units of which kind make a network of a given depth: the papers' tables, shared by all layouts."""

from __future__ import annotations

from typing import Literal

from skipway.models.blocks import Block, Stem, Unit, stage

# Units in each of the four stages (He et al. 2015, table 1; 200: He et al. 2016, section 4).
IMAGENET: dict[int, tuple[Unit, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}

# The stem for pictures of 32 pixels (He et al. 2015, section 4.2).
CIFAR_STEM = Stem(kernel=3, stride=1, width=16, pool=None)


def imagenet_blocks(depth: int, *, strided_unit: Literal["first", "last"] = "first") -> tuple[Block, ...]:
    """Four stages of width 64 to 512.

    With the stride in the first unit the stages start with 1, 2, 2, 2; in the last (TF-Slim, Keras v2), they end with
    2, 2, 2, 1.
    """
    unit, counts = IMAGENET[depth]
    strides = (1, 2, 2, 2) if strided_unit == "first" else (2, 2, 2, 1)
    return tuple(
        stage(f"stage{number}", unit, 32 * 2**number, count, stride=stride, strided_unit=strided_unit)
        for number, (count, stride) in enumerate(zip(counts, strides, strict=True), 1)
    )


def cifar_blocks(depth: int) -> tuple[Block, ...]:
    """Three stages of width 16 to 64: depth 6n + 2 of basic units or, from 164 on, 9n + 2 of bottlenecks."""
    unit: Unit = "bottleneck" if depth >= 164 else "basic"
    count = (depth - 2) // (9 if unit == "bottleneck" else 6)
    return tuple(
        stage(f"stage{number}", unit, 8 * 2**number, count, stride=1 if number == 1 else 2) for number in (1, 2, 3)
    )
