"""Facts about the machine that a run uses and its report tells."""

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

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy: those that it may run on, or fewer where a cgroup grants less time.

    A container's quota leaves the host's cores in sight; a thread for each of them would spend its time waiting.
    `root` is where `proc` and `sys` lie.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([seen, *(max(math.ceil(one), 1) for one in _quotas(root))])


def limit_threads(root: Path = ROOT) -> None:
    """Make torch use no more threads than `usable_cores`, unless OMP_NUM_THREADS or MKL_NUM_THREADS settles that.

    A smaller number, which somebody chose, stays.
    """
    if "OMP_NUM_THREADS" in os.environ or "MKL_NUM_THREADS" in os.environ:
        return
    if torch.get_num_threads() > (cores := usable_cores(root)):
        torch.set_num_threads(cores)


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed for the next allocation, instead of giving it back to the system.

    The tensors of a step are freed and allocated again in the next one. Large ones would come as fresh pages each time,
    which the kernel fills with zeros one by one: a sixth of a ResNet's training step. The process keeps its largest
    size in return. Does nothing where there is no glibc, or where the environment tunes malloc.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes of memory that this process may have at most: the machine's, or fewer by a cgroup; None where unknown."""
    names = ("memory.max", "memory.limit_in_bytes")
    found = [_limit(_first_line(folder / name)) for folder in _groups(root, "memory") for name in names]
    found += [1024 * int(line.split()[1]) for line in _lines(root / "proc/meminfo") if line.startswith("MemTotal:")]
    return min((one for one in found if one is not None), default=None)


def pick_device(name: str) -> torch.device:
    """The device a user means. Raises SkipwayError."""
    if name not in {"auto", "cpu", "cuda"}:
        raise SkipwayError(f"unknown device '{name}'; give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise SkipwayError("this machine has no CUDA device that torch can use; give --device cpu")
    # Here, since whatever computes begins by asking for a device.
    limit_threads()
    keep_freed_memory()
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def cpu_name(root: Path = ROOT) -> str:
    """The processor as it calls itself."""
    for line in _lines(root / "proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_features(root: Path = ROOT) -> str:
    """The instruction sets that the processor has, as the system lists them; "" where it does not."""
    for line in _lines(root / "proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            return " ".join(sorted(line.partition(":")[2].split()))
    return ""


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


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that each cgroup around this process grants, where it sets a limit."""
    for folder in _groups(root, "cpu"):
        quota, _, period = _first_line(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _first_line(folder / "cpu.cfs_quota_us"), _first_line(folder / "cpu.cfs_period_us")
        if (granted := _limit(quota)) and (length := _limit(period)):
            yield granted / length


def _limit(text: str) -> int | None:
    """A number above 0; -1 and `max` set no limit."""
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroups around this process, of version 2 and version 1, inner ones first.

    Not all of them need to be there: a container may see the host's path and, as the mount, its own group.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Version 1 mounts each group of controllers; version 2 is mounted alone, or beside them.
        homes = {controllers, controller} if controllers else {"", "unified"}
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        for home in sorted(homes):
            yield from (mounts.joinpath(home, *parts[:depth]) for depth in range(len(parts), -1, -1))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _first_line(file: Path) -> str:
    return next(iter(_lines(file)), "").strip()
