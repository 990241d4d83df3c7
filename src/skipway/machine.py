"""Facts about the machine that a run uses and its report tells."""

from __future__ import annotations

import os
import platform

import torch

from skipway.version import __version__


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(device: torch.device) -> dict[str, str]:
    """Version and device facts for reports and model files."""
    import torchvision

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "skipway": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "device": where,
    }
