"""Running statistics of batch normalization, computed afresh.

With a slow momentum and few steps they lag behind the weights, and a good network answers at random in evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

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

BATCH = 64  # pictures; the statistics of batches of this size are averaged

ProgressCallback = Callable[[str, int, int], None]  # what is done, how much of it, and of how much


def recompute_statistics(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int,
    workers: int,
    progress: ProgressCallback | None = None,
) -> None:
    """Replace running means and variances by their averages over the unaugmented training pictures."""
    was_training = network.training
    # Mixed classes in each batch, as training had them: folders list one class after the other.
    order = np.random.default_rng(0).permutation(len(split))
    pictures = split.subset(order)
    pin = device.type == "cuda"
    batches = evaluation_batches(pictures, preprocessing, batch_size=batch_size, workers=workers, pin=pin)

    def inputs() -> Iterator[Tensor]:
        done = 0
        for batch in batches:
            count = len(batch.targets)
            if count > 1:  # a single picture has no variance
                pixels = preprocessing.standardized(batch.pixels.to(device))
                yield pixels.contiguous(memory_format=torch.channels_last)
            done += count
            if progress is not None:
                progress("recomputing statistics", done, len(pictures))

    update_bn(inputs(), network)
    network.train(was_training)


def recomputing(
    data: str | Source,
    *,
    device: str = "auto",
    workers: int = -1,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] | None = None,
) -> Callable[[Bundle], Bundle]:
    """A function that gives a model its running statistics afresh, over the training pictures of `data`.

    These are the data's train part, or all of them where the data have no parts. Weights stay as they are; the
    provenance names the pictures, and figures of the old statistics go. The data are opened at once, their pictures
    decoded when a model comes. Raises DataError and UnknownNameError. The function raises DataError where fewer than
    two pictures can be read, and ModelFileError for a network without running statistics.
    """
    source = data if isinstance(data, Source) else open_source(data)
    split_name = "train" if "train" in source.splits else "all"
    if split_name not in source.splits:
        names = ", ".join(source.splits)
        raise DataError(f"{source.name} has no training pictures, only {names}; give those of train")
    split = source.split(split_name)

    @starting_workers()
    def recompute(bundle: Bundle) -> Bundle:
        data_facts = {"data": source.name, "split": split_name}
        return _recomputed(bundle, split, data_facts, device, workers, progress or _silent, say or _unheard)

    return recompute


def _recomputed(
    bundle: Bundle,
    split: Split,
    data_facts: dict[str, Any],
    device_name: str,
    workers: int,
    progress: ProgressCallback,
    say: Callable[[str], None],
) -> Bundle:
    """A model with running statistics over a split. `data_facts` name the data and the split in the provenance."""
    network = bundle.network()
    if not any(_has_running_statistics(module) for module in network.modules()):
        raise ModelFileError(f"{bundle.spec.name} uses no running statistics; leave them as they are")
    checked = check_split(split, usable_cores(), lambda done, total: progress("checking pictures", done, total))
    good = checked.split
    if len(good) < 2:
        raise DataError(f"{data_facts['data']}: {len(good)} of its pictures can be read; give 2 or more")
    device = pick_device(device_name)
    # `to` is untyped for memory formats
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    bytes_of_batch = batch_bytes(bundle.preprocessing, BATCH)
    worker_count = pick_workers(workers, split, bytes_of_batch, say, cuda=device.type == "cuda")
    recompute_statistics(network, good, bundle.preprocessing, device, BATCH, worker_count, progress)
    facts = data_facts | {"pictures": len(good), "unreadable": len(checked.bad)}
    tensors = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    return dataclasses.replace(
        bundle,
        tensors=tensors,
        provenance=bundle.provenance | {"statistics": facts},
        metrics={},
    )


def _has_running_statistics(module: nn.Module) -> bool:
    """Whether a module is a batch normalization that uses running statistics in evaluation."""
    if isinstance(module, BatchStatisticsNorm2d):
        return False
    return isinstance(module, nn.BatchNorm2d)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _unheard(line: str) -> None:
    """A line that nobody reads."""
