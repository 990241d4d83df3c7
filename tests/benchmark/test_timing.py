"""The clock: what counts, what the figures are, what Ctrl-C leaves."""

from __future__ import annotations

import gc
import math
import time

import pytest
import torch

from skipway.benchmark.timing import Timing, time_steps

CPU = torch.device("cpu")


def test_the_figures_by_hand() -> None:
    timing = Timing((1.0, 2.0, 3.0, 6.0), wanted=4)
    assert timing.mean == 3.0
    assert timing.sd == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 4))
    assert timing.median == 2.5
    assert timing.p95 == pytest.approx(3 + 0.85 * 3)  # 95 % of the way from the first to the last of four
    assert timing.to_dict() == {"mean": 3.0, "sd": timing.sd, "median": 2.5, "p95": timing.p95}
    assert not timing.stopped
    assert Timing((1.0,), wanted=1).sd == 0


def test_steps_before_the_counted_ones_do_not_count() -> None:
    calls: list[int] = []

    def step() -> None:
        calls.append(len(calls))
        if len(calls) <= 2:
            time.sleep(0.05)

    told: list[tuple[int, int]] = []
    timing = time_steps(step, warmup=2, steps=3, device=CPU, progress=lambda *numbers: told.append(numbers))
    assert len(calls) == 5
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert len(timing.seconds) == 3
    assert min(timing.seconds) < 0.05


def test_the_time_is_that_of_the_step() -> None:
    timing = time_steps(lambda: time.sleep(0.02), warmup=0, steps=3, device=CPU, progress=lambda *_: time.sleep(0.05))
    assert min(timing.seconds) >= 0.02
    assert timing.median < 0.07, "what is told in between does not count"


def test_ctrl_c_leaves_what_was_counted() -> None:
    calls = iter(range(10))

    def step() -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt

    timing = time_steps(step, warmup=1, steps=9, device=CPU, progress=lambda *_: None)
    assert len(timing.seconds) == 3
    assert timing.stopped


@pytest.mark.parametrize("at", [0, 2])
def test_ctrl_c_before_the_first_counted_step_passes(at: int) -> None:
    calls = iter(range(10))

    def step() -> None:
        if next(calls) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_steps(step, warmup=2, steps=2, device=CPU, progress=lambda *_: None)
    assert gc.isenabled()


def test_no_garbage_is_collected_meanwhile() -> None:
    seen: list[bool] = []
    time_steps(lambda: seen.append(gc.isenabled()), warmup=1, steps=2, device=CPU, progress=lambda *_: None)
    assert seen == [True, False, False]
    assert gc.isenabled()
