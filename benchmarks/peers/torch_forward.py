"""timm's or torchvision's network in inference mode and channels last, as it is or compiled with frozen weights."""

from __future__ import annotations

from typing import Any

import torch
import torch._inductor.config as inductor
from pictures import answers, pictures
from torch_networks import network, parameters
from worker import Ready, serve, timed


def set_up(settings: dict[str, Any]) -> Ready:
    torch.set_num_threads(settings["threads"])
    made, versions = network(settings["library"], settings["network"], settings.get("weights"))
    made.eval()
    facts: dict[str, Any] = {"parameters": parameters(made), "versions": versions}
    program: Any = made
    if settings["compile"]:
        inductor.freezing = True
        program = torch.compile(made)
    batch = torch.from_numpy(pictures(settings)).contiguous(memory_format=torch.channels_last)

    def step() -> torch.Tensor:
        with torch.inference_mode():
            return program(batch)

    facts["answers"] = answers(step())
    return Ready(timed(step), facts)


if __name__ == "__main__":
    serve(set_up)
