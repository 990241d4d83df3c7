"""skipway's forward pass, by one engine or by the one that measurement picks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import answers, pictures
from worker import LeaveError, Ready, serve, timed

from skipway.drawing.counting import parameters_of
from skipway.errors import SkipwayError
from skipway.inference.engines import Cache, open_engine, pick_engine, table
from skipway.machine import pick_device, versions
from skipway.weights.bundle import load_bundle

_CALIBRATION = 32


def set_up(settings: dict[str, Any]) -> Ready:
    pick_device("cpu")  # as every command begins
    torch.set_num_threads(settings["threads"])
    file = Path(settings["model"])
    network = load_bundle(file).network()
    inputs = torch.from_numpy(pictures(settings))
    more: dict[str, Any] = {"batch_size": len(inputs), "precision": settings.get("precision", "fp32")}
    if more["precision"] == "int8":
        drawn = np.random.default_rng(2).random((_CALIBRATION, *inputs.shape[1:]), dtype=np.float32)
        more["calibration"] = [torch.from_numpy(drawn)]
        # Random weights tell no classes apart that int8 could keep apart: its accuracy is judged on trained networks.
        table.LIMITS["int8"] = math.inf
    more["cache"] = Cache(network, kept=True)
    try:
        if settings["engine"] == "auto":
            engine = pick_engine(network, **more)
        else:
            engine = open_engine(settings["engine"], network, **more)
    except SkipwayError as error:
        raise LeaveError(str(error)) from None
    facts = {
        "way": engine.name + (", int8" if engine.precision == "int8" else ""),
        "engine": engine.name,
        "parameters": parameters_of(network),
        "answers": answers(engine(inputs)),
        "versions": {key: value for key, value in versions(torch.device("cpu")).items() if key != "device"},
    }
    return Ready(timed(lambda: engine(inputs)), facts)


if __name__ == "__main__":
    serve(set_up)
