"""A finished run, for claims that look into its network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from skipway.claims.arm import Arm
from skipway.claims.data import smaller
from skipway.data.dataset import Split
from skipway.data.loading import evaluation_batches
from skipway.data.sources import open_source
from skipway.evaluation.metrics import evaluate_network
from skipway.models.network import Network
from skipway.training.start import fresh_network
from skipway.weights.bundle import Bundle, load_bundle


@dataclass(frozen=True)
class Finished:
    """One run's network before and after training, and its pictures.

    `folder` is that of the run, `data` the pictures as `skipway train` reads them. Networks are in evaluation mode, on
    `device`.
    """

    arm: Arm
    seed: int
    folder: Path
    data: str
    device: torch.device

    def bundle(self) -> Bundle:
        """The model file."""
        return load_bundle(self.folder / "model.safetensors")

    def trained(self) -> Network:
        """The network as training left it."""
        network = self.bundle().network()
        return network.to(self.device).eval()

    def initial(self) -> Network:
        """The network as training found it: the seed draws the same first weights again."""
        labels = self.bundle().labels
        network, _ = fresh_network(self.arm.spec, labels, self.arm.recipe, 0, self.seed, lambda _: None)
        return network.to(self.device).eval()

    def split(self, name: str) -> Split:
        """The named part of the pictures."""
        return open_source(self.data).split(name)

    def error(self, name: str) -> float:
        """The share of a part's pictures that the trained network gets wrong, itself in evaluation mode."""
        bundle = self.bundle()
        preprocessing = bundle.preprocessing
        network = self.trained()
        batches = evaluation_batches(self.split(name), preprocessing, batch_size=250, workers=0, pin=False)
        metrics = evaluate_network(network, batches, preprocessing, bundle.labels, self.device)
        return 1 - metrics.top1

    def batch(self, name: str, count: int) -> tuple[Tensor, Tensor]:
        """`count` pictures of a part, or all where it has fewer, and their classes.

        The pictures are (count, C, H, W) float32 as the network takes them, the classes (count,). They are always the
        same ones, as even over the classes as can be, in the order of the part.
        """
        preprocessing = self.bundle().preprocessing
        split = self.split(name)
        chosen = smaller(split, min(count, len(split)))
        batches = evaluation_batches(chosen, preprocessing, batch_size=count, workers=0, pin=False)
        batch = next(iter(batches))
        pixels = batch.pixels.to(self.device)
        return preprocessing.standardized(pixels), batch.targets.to(self.device)
