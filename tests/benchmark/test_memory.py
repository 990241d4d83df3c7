"""Memory: the high-water mark, what running out looks like, what would have fitted."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from skipway.benchmark import memory
from skipway.benchmark.memory import HighWater, largest_half, least_need
from skipway.drawing.counting import activation_bytes
from skipway.errors import is_out_of_memory
from skipway.models.alexnet import AlexNetSpec, Conv

CPU = torch.device("cpu")
MIB = 2**20
# A picture of 8 x 8, a convolution to 4 channels, a classifier on the flattened map.
HAND = AlexNetSpec(name="hand", in_channels=1, input_size=8, num_classes=2, convs=(Conv(4, 3, padding=1),), hidden=())


def hold(size: int) -> None:
    """Take memory and give it back to the system, which malloc may be told not to do."""
    with mmap.mmap(-1, size) as pages:
        for _ in range(64):
            pages.write(bytes(size // 64))


def test_the_mark_rises_with_what_was_held_for_a_while() -> None:
    water = HighWater(CPU)
    hold(256 * MIB)
    water.watch()
    hold(64 * MIB)
    risen = water.rise()
    if risen is None:
        pytest.skip("this system does not tell its memory")
    assert 60 * MIB < risen < 128 * MIB


def test_without_a_reset_only_a_new_height_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marks = {"VmRSS": 100, "VmHWM": 300}
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "absent")
    monkeypatch.setattr(memory, "_status", marks.__getitem__)
    water = HighWater(CPU)
    water.watch()
    assert water.rise() is None, "the height may be of long ago"
    marks["VmHWM"] = 500
    assert water.rise() == 400


def test_torch_s_own_error_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 8"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes do not fit"), False),
        (KeyError("memory"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, wanted: bool) -> None:
    assert is_out_of_memory(error) == wanted


@pytest.mark.parametrize(("fits", "found"), [(40, 25), (25, 25), (24, 12), (1, 1), (0, 0)])
def test_halving_finds_what_fits(fits: int, found: int) -> None:
    tried: list[int] = []

    def runs(size: int) -> bool:
        tried.append(size)
        return size <= fits

    assert largest_half(runs, 100) == found
    assert tried == [50, 25, 12, 6, 3, 1][: len(tried)]
    assert tried[-1] == found or not found


def test_the_least_memory_by_hand() -> None:
    weights = 4 * 9 + 4 + 2 * 256 + 2
    # The pictures, and the maps of 4 x 8 x 8.
    for precision, size in (("fp32", 4), ("bf16", 2), ("int8", 1)):
        need = least_need(HAND, mode="forward", precision=precision)
        assert need.of(7) == 7 * 256 + size * (weights + 7 * 256)
    kept = activation_bytes(HAND, 7)
    assert least_need(HAND, mode="train", precision="fp32").of(7) == 7 * 256 + 12 * weights + kept
    assert least_need(HAND, mode="train", precision="bf16").of(7) == 7 * 256 + 12 * weights + kept // 2
