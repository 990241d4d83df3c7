"""The machine's measured fp32 peak: a batch is one GFLOP of the fastest matrix product."""

from __future__ import annotations

from typing import Any

import torch
from worker import Ready, serve

from skipway.benchmark.peak import Peak


def set_up(settings: dict[str, Any]) -> Ready:
    torch.set_num_threads(settings["threads"])
    first = Peak("fp32", torch.device("cpu"))
    first.measure()

    def run(count: int) -> list[float]:  # noqa: ARG001 (the product's own repeats)
        # The best so far: a peak is what the machine could do, not what it did now.
        first.measure()
        assert first.best
        return [1 / first.best]

    return Ready(run, {"versions": {"torch": torch.__version__}})


if __name__ == "__main__":
    serve(set_up)
