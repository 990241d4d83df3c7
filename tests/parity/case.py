"""One comparison, as plain values that an environment without torch can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A row of the catalog at one picture size.

    `fields` change the row's spec, as plain values (`Spec.to_dict`). `training`: normalize with batch statistics, and
    compare the updated running ones. `gradient`: compare the gradient of sum(c * logits) by every parameter. `full`:
    the network at its full depth, which only `make parity` runs. Pictures reach from -scale to scale.
    """

    name: str
    row: str
    side: int
    fields: dict[str, Any] = field(default_factory=dict)
    batch: int = 2
    training: bool = False
    gradient: bool = False
    full: bool = False
    scale: float = 1.0
    tolerance: float = 1e-5

    @property
    def limit(self) -> float:
        """The largest difference, as a share of an array's largest value.

        In training mode a mean over few pictures divides by a small deviation: values recorded from TensorFlow are up
        to 1.4e-5 from the same network in float64, and ours in fp32 up to 1.9e-5 on a processor without AVX-512.
        """
        return max(self.tolerance, 3e-5) if self.training else self.tolerance


def plain_blocks(unit: str, *stages: tuple[tuple[int, int, int], ...]) -> list[dict[str, Any]]:
    """`Spec.to_dict`'s form of blocks called stage1, stage2... with these rows."""
    return [
        {"name": f"stage{number}", "unit": unit, "rows": [list(row) for row in rows]}
        for number, rows in enumerate(stages, 1)
    ]
