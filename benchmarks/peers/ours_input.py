"""skipway's input pipeline in one process on one core, up to the standardized batch that the network gets."""

from __future__ import annotations

from typing import Any

import torch
from one_core import keep_to_one
from worker import Ready, serve, timed

from skipway.data.augmentation import Augmentation, BatchAugmentation
from skipway.data.loading import Plan, training_batches
from skipway.data.preprocessing import preset
from skipway.data.sources import open_source
from skipway.machine import pick_device, versions

_ENDLESS = 10**9


def set_up(settings: dict[str, Any]) -> Ready:
    keep_to_one()
    pick_device("cpu")  # as every command begins
    torch.set_num_threads(1)
    split = open_source(settings["data"]).split("all")
    rule = preset("torch", settings["side"])
    augmentation = Augmentation(crop="random_resized", mirror=0.5)
    plan = Plan(len(split), settings["batch_size"], seed=0)
    batches = training_batches(split, plan, rule, augmentation, start=0, stop=_ENDLESS, workers=0, pin=False)
    augment = BatchAugmentation(augmentation, seed=0)
    size = settings["batch_size"]

    def step() -> None:
        batch = next(batches)
        counts = batch.pixels.contiguous(memory_format=torch.channels_last)
        inputs = rule.standardized(augment(counts, batch.epoch, batch.indices.numpy()))
        assert inputs.is_contiguous(memory_format=torch.channels_last)
        assert inputs.shape == (size, 3, settings["side"], settings["side"])

    told = {key: value for key, value in versions(torch.device("cpu")).items() if key != "device"}
    return Ready(timed(step), {"versions": told})


if __name__ == "__main__":
    serve(set_up)
