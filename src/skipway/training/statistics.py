"""Running statistics of batch normalization, computed afresh.

With a slow momentum and few steps they lag behind the weights, and a good network answers at random in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from skipway.data.dataset import Split
from skipway.data.loading import evaluation_batches
from skipway.data.preprocessing import Preprocessing


def recompute_statistics(
    network: nn.Module, split: Split, preprocessing: Preprocessing, device: torch.device, batch_size: int, workers: int
) -> None:
    """Replace running means and variances by their averages over the unaugmented training pictures."""
    was_training = network.training
    # Mixed classes in each batch, as training had them: folders list one class after the other.
    mixed = split.subset(np.random.default_rng(0).permutation(len(split)))

    def inputs() -> Iterator[Tensor]:
        for batch in evaluation_batches(
            mixed, preprocessing, batch_size=batch_size, workers=workers, pin=device.type == "cuda"
        ):
            if len(batch.targets) > 1:
                pixels = preprocessing.standardized(batch.pixels.to(device))
                yield pixels.contiguous(memory_format=torch.channels_last)

    update_bn(inputs(), network)
    network.train(was_training)
