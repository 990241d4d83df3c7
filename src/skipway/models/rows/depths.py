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
    strides = (1, 2, 2, 2)
    if strided_unit == "last":
        strides = (2, 2, 2, 1)
    blocks: list[Block] = []
    width = 64
    for number, (count, stride) in enumerate(zip(counts, strides, strict=True), 1):
        blocks.append(stage(f"stage{number}", unit, width, count, stride=stride, strided_unit=strided_unit))
        width *= 2
    return tuple(blocks)


def cifar_blocks(depth: int) -> tuple[Block, ...]:
    """Three stages of width 16 to 64: depth 6n + 2 of basic units or, from 164 on, 9n + 2 of bottlenecks."""
    unit: Unit = "basic"
    count = (depth - 2) // 6
    if depth >= 164:
        unit = "bottleneck"
        count = (depth - 2) // 9
    return (
        stage("stage1", unit, 16, count, stride=1),
        stage("stage2", unit, 32, count, stride=2),
        stage("stage3", unit, 64, count, stride=2),
    )
