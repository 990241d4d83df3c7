"""skipway's training step: the update of `skipway train` on uint8 pictures that are decoded already."""

from __future__ import annotations

from typing import Any

import torch
from worker import Ready, serve, timed

from skipway.benchmark.subject import find_subject
from skipway.benchmark.work import training_work
from skipway.drawing.counting import count
from skipway.machine import pick_device, versions
from skipway.training.recipe import Recipe
from skipway.training.recipes import find_recipe

_ENDLESS = 10**9  # updates; the schedule is constant


def set_up(settings: dict[str, Any]) -> Ready:
    pick_device("cpu")  # as every command begins
    torch.set_num_threads(settings["threads"])
    subject = find_subject(settings["network"])
    work = training_work(
        subject,
        find_recipe("signs") if settings["recipe"] == "signs" else _reference(),
        precision="fp32",
        batch_size=settings["batch_size"],
        device=torch.device("cpu"),
        seed=0,
        steps=_ENDLESS,
    )
    told = {key: value for key, value in versions(torch.device("cpu")).items() if key != "device"}
    facts = {"parameters": count(subject.spec).trainable, "versions": told, "way": work.engine}
    return Ready(timed(work.step), facts)


def _reference() -> Recipe:
    """What the loops of torch_training.py do."""
    return Recipe(
        name="reference",
        source="SGD with momentum and cross entropy",
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        decay_norm_and_bias=True,
    )


if __name__ == "__main__":
    serve(set_up)
