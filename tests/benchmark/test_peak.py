"""The measured peak: every spelling is the product that it claims to be, and the best one counts."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from skipway.benchmark import peak
from skipway.benchmark.peak import Peak, Run

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("product", [peak.mm, peak.convolution])
def test_a_product_takes_the_operations_that_it_is_credited_with(product: peak.Product, dtype: torch.dtype) -> None:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        product(256, dtype, CPU)()
    assert counter.get_total_flops() == 2 * 256**3


@pytest.mark.parametrize("product", [peak.mm, peak.convolution, peak.onednn_linear, peak.numpy_matmul])
def test_every_spelling_is_one_product(product: peak.Product, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of squares of ones every result is their side."""
    monkeypatch.setattr(peak, "_square", lambda size, dtype, device: torch.ones(size, size, dtype=dtype))
    result = torch.as_tensor(product(128, torch.float32, CPU)())
    assert result.numel() == 128**2
    assert (result == 128).all()


def test_int8_is_summed_in_int32() -> None:
    result = peak.int_mm(128, torch.int8, CPU)()
    assert isinstance(result, Tensor)
    assert result.dtype == torch.int32
    assert result.shape == (128, 128)


def sleeper(seconds: float, calls: list[float]) -> peak.Product:
    def product(size: int, dtype: torch.dtype, device: torch.device) -> Run:
        calls.append(seconds)
        return lambda: time.sleep(seconds)

    return product


def lacking(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    raise RuntimeError("this build has no such product")


def test_the_best_counts_and_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    products = [lacking, sleeper(0.1, calls), sleeper(0.002, calls)]
    monkeypatch.setattr(peak, "_products", lambda precision, device: iter(products))
    found = Peak("fp32", CPU)
    assert found.best is None
    found.measure()
    first = found.best
    assert first is not None
    assert first <= 2 * 256**3 / 0.002 / 1e9
    assert first > 2 * 256**3 / 0.1 / 1e9
    assert calls == [0.1, 0.002, 0.002], "ten times slower is not tried at the next size"
    found.measure()
    assert calls[3:] == [0.002]
    assert found.best is not None
    assert found.best >= first


def test_products_that_would_take_too_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    monkeypatch.setattr(peak, "_products", lambda precision, device: iter([sleeper(0.02, calls)]))
    monkeypatch.setattr(peak, "LONGEST", 0.1)
    Peak("fp32", CPU).measure()
    assert calls == [0.02]


def test_without_any_product_there_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "_products", lambda precision, device: iter([lacking]))
    found = Peak("int8", CPU)
    found.measure()
    assert found.best is None
    found.measure()
    assert found.best is None


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_this_machine_has_a_peak(precision: str) -> None:
    found = Peak(precision, CPU)
    found.measure()
    assert found.best is not None
    assert found.best > 0.01


@pytest.mark.parametrize(
    ("openblas", "openmp", "threads"), [("", "3", 3), ("2", "3", 2), ("", "", None), ("", "many", None)]
)
def test_numpy_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, openblas: str, openmp: str, threads: int | None
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(7)), raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", openblas)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    assert peak._numpy_threads() == (threads or 7)


def test_numpy_competes_only_with_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, competes in ((torch.get_num_threads(), True), (torch.get_num_threads() + 1, False)):
        monkeypatch.setattr(peak, "_numpy_threads", lambda threads=threads: threads)
        assert (peak.numpy_matmul in peak._products("fp32", CPU)) == competes
    assert peak.numpy_matmul not in peak._products("bf16", CPU)
