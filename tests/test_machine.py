"""What the machine grants, by the files of a machine that never was."""

from __future__ import annotations

import math
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skipway.machine import configure_threads, cpu_name, memory_limit, pick_device, usable_cores


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def written(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def group(root: Path, folder: str, **files: str) -> None:
    """Files `cpu_max` -> `cpu.max` of one cgroup."""
    for name, text in files.items():
        written(root / "sys/fs/cgroup" / folder / name.replace("_", ".", 1), text)


def in_groups(root: Path, *lines: str) -> None:
    """The groups that the process belongs to."""
    written(root / "proc/self/cgroup", "\n".join(lines))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 16),
        ("200000 100000", 2),
        ("250000 100000", 3),  # two and a half cores: a third thread has work half of the time
        ("10000 100000", 1),
        ("50000 10000", 5),
        ("6400000 100000", 16),  # never above what the affinity allows
        ("nonsense", 16),
        ("200000", 16),
        ("200000 0", 16),
        ("", 16),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, limit: str, cores: int) -> None:
    in_groups(tmp_path, "0::/work/job")
    group(tmp_path, "work/job", cpu_max=limit)
    assert usable_cores(tmp_path) == cores


def test_the_tightest_of_the_groups_around_decides(tmp_path: Path) -> None:
    in_groups(tmp_path, "0::/work/job/step")
    group(tmp_path, "work/job/step", cpu_max="800000 100000")
    group(tmp_path, "work/job", cpu_max="max 100000")
    group(tmp_path, "work", cpu_max="300000 100000")
    group(tmp_path, "elsewhere", cpu_max="100000 100000")
    assert usable_cores(tmp_path) == 3


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "cores"), [("-1", 16), ("150000", 2), ("400000", 4), ("0", 16)])
def test_a_quota_of_version_1(tmp_path: Path, mount: str, quota: str, cores: int) -> None:
    in_groups(tmp_path, "5:memory:/other", "4:cpu,cpuacct:/job", "0::/")
    group(tmp_path, f"{mount}/job", cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000")
    assert usable_cores(tmp_path) == cores


def test_version_1_pairs_each_quota_with_its_own_period(tmp_path: Path) -> None:
    in_groups(tmp_path, "4:cpu:/outer/inner")
    group(tmp_path, "cpu/outer/inner", cpu_cfs_quota_us="-1", cpu_cfs_period_us="10000")
    group(tmp_path, "cpu/outer", cpu_cfs_quota_us="500000", cpu_cfs_period_us="100000")
    assert usable_cores(tmp_path) == 5


def test_the_host_s_path_inside_a_container(tmp_path: Path) -> None:
    """/proc names the group as the host does, and only the group itself is mounted."""
    in_groups(tmp_path, "4:cpu,cpuacct:/docker/0123abcd")
    group(tmp_path, "cpu,cpuacct", cpu_cfs_quota_us="200000", cpu_cfs_period_us="100000")
    assert usable_cores(tmp_path) == 2


def test_without_cgroups_the_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 16
    in_groups(tmp_path, "0::/../../above", "garbage", "")
    assert usable_cores(tmp_path) == 16


def test_the_memory_is_the_least_of_the_limits(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    written(tmp_path / "proc/meminfo", "MemTotal:       16 kB\nMemFree:       8 kB")
    assert memory_limit(tmp_path) == 16 * 1024
    in_groups(tmp_path, "0::/job")
    group(tmp_path, "job", memory_max="max")
    assert memory_limit(tmp_path) == 16 * 1024
    group(tmp_path, "job", memory_max="4096")
    assert memory_limit(tmp_path) == 4096
    in_groups(tmp_path, "3:memory:/job")
    assert memory_limit(tmp_path) == 16 * 1024
    group(tmp_path, "memory/job", memory_limit_in_bytes="2048")
    assert memory_limit(tmp_path) == 2048


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    written(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: another")
    assert cpu_name(tmp_path) == "Some CPU: 3 GHz"
    assert cpu_name(tmp_path / "nowhere")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of torch's threads, first 8, in place of torch's own."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    number = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: number[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: number.__setitem__(0, count))
    return number


def test_torch_has_no_more_threads_than_the_quota_feeds(tmp_path: Path, threads: list[int]) -> None:
    configure_threads(tmp_path)
    assert threads == [8], "sixteen cores are enough for eight"
    in_groups(tmp_path, "0::/")
    group(tmp_path, "", cpu_max="300000 100000")
    configure_threads(tmp_path)
    assert threads == [3]
    threads[0] = 1
    configure_threads(tmp_path)
    assert threads == [1], "somebody wanted one"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_of_threads_in_the_environment_stays(
    tmp_path: Path, threads: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    in_groups(tmp_path, "0::/")
    group(tmp_path, "", cpu_max="100000 100000")
    monkeypatch.setenv(name, "8")
    configure_threads(tmp_path)
    assert threads == [8]


def test_whoever_picks_a_device_has_the_threads_settled(threads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipway.machine._quotas", lambda _: [math.pi])
    pick_device("cpu")
    assert threads == [4]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
@pytest.mark.parametrize(("tuned", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_freed_memory_is_allocated_again(tuned: dict[str, str], kept: bool) -> None:
    code = """
import resource, torch
from skipway.machine import configure_malloc
configure_malloc()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    tensors = [torch.ones(10_000_000) for _ in range(4)]
for _ in range(10):  # aligned blocks take some rounds to find places that fit them
    before = faults()
    work()
print(faults() - before)
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", code], env=clean | tuned, capture_output=True, text=True, check=True)
    pages = 4 * 40_000_000 // resource.getpagesize()
    assert (int(done.stdout) < pages / 10) is kept
