"""The training loop of timm's and torchvision's references, on a batch that lies in memory, as floats already."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pictures import counts
from torch_networks import network, parameters
from worker import Ready, serve, timed


def set_up(settings: dict[str, Any]) -> Ready:
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    model, versions = network(settings["library"], settings["network"])
    facts = {"parameters": parameters(model), "versions": versions}
    model.train()
    program: Any = torch.compile(model) if settings["compile"] else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    pixels, targets = counts(settings)
    inputs = (torch.from_numpy(pixels).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(targets)

    def step() -> None:
        loss = F.cross_entropy(program(inputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return Ready(timed(step), facts)


if __name__ == "__main__":
    serve(set_up)
