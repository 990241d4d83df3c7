"""What a row of the catalog holds beside the network itself: where it is described and what was published about it."""

from __future__ import annotations

from dataclasses import dataclass

from skipway.models.network import Spec


@dataclass(frozen=True)
class Published:
    """Weights that others made public, with the accuracy that they state: fractions on ImageNet's validation pictures
    or CIFAR-10's test pictures, one central crop. None where no figure was found."""

    file: str
    top1: float | None
    top5: float | None = None
    said_by: str = ""


@dataclass(frozen=True)
class Entry:
    """One row: the spec, the section of its paper, its number of trainable parameters and who counted them, its public
    weights, what the paper reports, and every point in which source and paper, or we and the source, deviate."""

    spec: Spec
    section: str
    parameters: int
    counted_by: str
    published: tuple[Published, ...] = ()
    reported: str = ""
    deviations: tuple[str, ...] = ()
