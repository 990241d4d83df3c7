"""What the machine has to offer to a run, and the facts about it that reports state."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from skipway.errors import SkipwayError
from skipway.version import __version__

ROOT = Path("/")

# Names of mallopt's parameters and the largest value of one, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST_THRESHOLD = 2**31 - 1


def usable_cores(root: Path = ROOT) -> int:
    """How many cores this process can keep busy.

    These are the cores that it may run on, or fewer where a control group (cgroup) grants less time. A container with
    such a quota still sees all cores of its host; a thread for each of them would mostly wait.

    Arguments:
        root: the folder that holds `proc` and `sys`.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for quota in _quotas(root):
        granted = max(math.ceil(quota), 1)
        cores = min(cores, granted)
    return cores


def configure_threads(root: Path = ROOT) -> None:
    """Limit the threads of torch, for the whole process, to `usable_cores`.

    Does nothing where the environment sets OMP_NUM_THREADS or MKL_NUM_THREADS, or where torch uses fewer threads.
    """
    if "OMP_NUM_THREADS" in os.environ or "MKL_NUM_THREADS" in os.environ:
        return
    cores = usable_cores(root)
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def configure_malloc() -> None:
    """Make glibc's malloc, for the whole process, keep freed memory for the next allocation.

    A training step frees its tensors, and the next step allocates them again. By default the system gets large ones
    back and returns fresh pages, which the kernel fills with zeros: a sixth of the time of a ResNet's training step.
    With this setting the process keeps the largest size that it has had. Does nothing where there is no glibc, or
    where the environment configures malloc.
    """
    library, _ = platform.libc_ver()
    if library != "glibc":
        return
    for name in os.environ:
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_THRESHOLD)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes of memory that this process may use: all of the machine's, or fewer where a cgroup sets a limit.

    None where the system does not say. `root` is the folder that holds `proc` and `sys`.
    """
    limits = []
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _positive_number(_first_line(folder / name))
            if limit is not None:
                limits.append(limit)
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            kibibytes = int(line.split()[1])
            limits.append(1024 * kibibytes)
    return min(limits, default=None)


def pick_device(name: str) -> torch.device:
    """The device that a user asks for by name, and the settings that all computation needs.

    Side effects: calls `configure_threads` and `configure_malloc`, because every computation starts with its device.

    Arguments:
        name: "cpu", "cuda", or "auto" for CUDA where torch can use it.

    Raises SkipwayError for another name, and for "cuda" where torch cannot use it.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise SkipwayError(f"unknown device '{name}'; give auto, cpu or cuda")
    has_cuda = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise SkipwayError("this machine has no CUDA device that torch can use; give --device cpu")
    configure_threads()
    configure_malloc()
    if has_cuda:
        return torch.device("cuda")
    return torch.device("cpu")


def cpu_name(root: Path = ROOT) -> str:
    """The name of the processor, as the system states it."""
    for line in _lines(root / "proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.startswith("model name"):
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_features(root: Path = ROOT) -> str:
    """The instruction sets of the processor, sorted and joined by spaces; "" where the system does not list them."""
    for line in _lines(root / "proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.startswith(("flags", "Features")):
            features = sorted(value.split())
            return " ".join(features)
    return ""


def versions(device: torch.device) -> dict[str, str]:
    """Versions of the libraries and the name of the device, for reports and model files."""
    import torchvision

    if device.type == "cuda":
        device_text = torch.cuda.get_device_name(device)
    else:
        device_text = f"CPU, {torch.get_num_threads()} threads"
    return {
        "skipway": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "device": device_text,
    }


def _quotas(root: Path) -> Iterator[float]:
    """How many cores' time each cgroup around this process grants, for those that set a limit."""
    for folder in _groups(root, "cpu"):
        # Version 2 has both numbers in one file, version 1 in two.
        quota, _, period = _first_line(folder / "cpu.max").partition(" ")
        if not quota:
            quota = _first_line(folder / "cpu.cfs_quota_us")
            period = _first_line(folder / "cpu.cfs_period_us")
        granted = _positive_number(quota)
        length = _positive_number(period)
        if granted is not None and length is not None:
            yield granted / length


def _positive_number(text: str) -> int | None:
    """A number above 0; None for other texts. In the files of cgroups, -1 and `max` mean that there is no limit."""
    if not text.isdecimal():
        return None
    number = int(text)
    if number == 0:
        return None
    return number


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroups around this process, of version 2 and of version 1, the inner groups first.

    Some of the folders may not exist: a container can see the path of its host, while only its own group is mounted.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        is_version_1 = controllers != ""
        if is_version_1 and controller not in controllers.split(","):
            continue
        if is_version_1:
            # Each group of controllers has a mount, and often a link for each controller.
            names = {controllers, controller}
        else:
            # Version 2 is mounted alone, or beside the mounts of version 1.
            names = {"", "unified"}
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        for name in sorted(names):
            for depth in range(len(parts), -1, -1):
                yield mounts.joinpath(name, *parts[:depth])


def _lines(file: Path) -> list[str]:
    """The lines of a text file; none where it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()


def _first_line(file: Path) -> str:
    """The first line of a text file without spaces around it; "" where there is none."""
    lines = _lines(file)
    if not lines:
        return ""
    return lines[0].strip()
