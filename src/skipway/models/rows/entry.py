"""What a row of the catalog holds beside the network itself: where it is described and what was published about it."""

from __future__ import annotations

from dataclasses import dataclass

from skipway.models.network import Spec


@dataclass(frozen=True)
class Published:
    """Weights that others made public.

    `file` is their name. `top1` and `top5` are the accuracies that their publisher states: fractions on ImageNet's
    validation pictures or CIFAR-10's test pictures, one central crop; None where no figure was found. `said_by` is the
    publisher.
    """

    file: str
    top1: float | None
    top5: float | None = None
    said_by: str = ""


@dataclass(frozen=True)
class CatalogEntry:
    """One row of the catalog.

    `spec`: the network.
    `section`: where its paper describes it.
    `parameters`, `counted_by`: the number of trainable parameters, and how it was counted.
    `published`: its public weights.
    `reported`: the result that the paper prints.
    `deviations`: every point in which source and paper, or this package and the source, differ.
    """

    spec: Spec
    section: str
    parameters: int
    counted_by: str
    published: tuple[Published, ...] = ()
    reported: str = ""
    deviations: tuple[str, ...] = ()
