"""Running statistics of batch normalization, computed afresh.

With a slow momentum and few steps they lag behind the weights, and a good network answers at random in evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from skipway.data.checking import check_split
from skipway.data.dataset import Source, Split
from skipway.data.loading import evaluation_batches
from skipway.data.preprocessing import Preprocessing
from skipway.data.sources import open_source
from skipway.data.workers import batch_bytes, pick_workers, starting_workers
from skipway.errors import DataError, ModelFileError
from skipway.machine import pick_device, usable_cores
from skipway.models.layers import BatchStatisticsNorm2d
from skipway.weights.bundle import Bundle

BATCH = 64  # pictures whose statistics are averaged with those of the next as many

Progress = Callable[[str, int, int], None]


def recompute_statistics(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int,
    workers: int,
    progress: Progress | None = None,
) -> None:
    """Replace running means and variances by their averages over the unaugmented training pictures."""
    was_training = network.training
    # Mixed classes in each batch, as training had them: folders list one class after the other.
    mixed = split.subset(np.random.default_rng(0).permutation(len(split)))

    def inputs() -> Iterator[Tensor]:
        done = 0
        for batch in evaluation_batches(
            mixed, preprocessing, batch_size=batch_size, workers=workers, pin=device.type == "cuda"
        ):
            if len(batch.targets) > 1:
                pixels = preprocessing.standardized(batch.pixels.to(device))
                yield pixels.contiguous(memory_format=torch.channels_last)
            done += len(batch.targets)
            if progress is not None:
                progress("recomputing statistics", done, len(mixed))

    update_bn(inputs(), network)
    network.train(was_training)


def recomputing(
    data: str | Source,
    *,
    device: str = "auto",
    workers: int = -1,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Callable[[Bundle], Bundle]:
    """What gives a model its running statistics afresh, over the training pictures of `data`: its train part, or all
    of it where it has no parts.

    Weights stay as they are; the provenance tells which pictures it were, and figures of the old statistics go. Data
    are opened at once, their pictures decoded when a model comes. Raises DataError and UnknownNameError; the function,
    DataError where fewer than two pictures can be read, and ModelFileError for a network without running statistics.
    """
    source = data if isinstance(data, Source) else open_source(data)
    name = "train" if "train" in source.splits else "all"
    if name not in source.splits:
        raise DataError(f"{source.name} has no training pictures, only {', '.join(source.splits)}; give those of train")
    found = source.split(name)

    @starting_workers()
    def recompute(bundle: Bundle) -> Bundle:
        network = bundle.network()
        if not any(_is_running(module) for module in network.modules()):
            raise ModelFileError(f"{bundle.spec.name} uses no running statistics; leave them as they are")
        tell = progress or _silent
        checked = check_split(found, usable_cores(), lambda done, total: tell("checking pictures", done, total))
        if len(checked.split) < 2:
            raise DataError(f"{source.name}: {len(checked.split)} of its pictures can be read; give 2 or more")
        where = pick_device(device)
        # `to` is untyped for memory formats
        network = network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = batch_bytes(bundle.preprocessing, BATCH)
        count = pick_workers(workers, found, batch, say or _unsaid, cuda=where.type == "cuda")
        recompute_statistics(network, checked.split, bundle.preprocessing, where, BATCH, count, tell)
        facts = {
            "data": source.name,
            "split": name,
            "pictures": len(checked.split),
            "unreadable": len(checked.bad),
        }
        return dataclasses.replace(
            bundle,
            tensors={key: value.cpu() for key, value in network.state_dict().items()},
            provenance=bundle.provenance | {"statistics": facts},
            metrics={},
        )

    return recompute


def _is_running(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and not isinstance(module, BatchStatisticsNorm2d)


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def _unsaid(line: str) -> None:
    """Nobody listens."""
