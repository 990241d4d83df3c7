"""The machine's measured peak: the fastest large matrix product that torch, or NumPy, can make of it.

No library is the fastest everywhere. On AMD's processors `torch.mm` in fp32 goes to MKL, which takes twice as long as
oneDNN, where the convolutions go: a share of such a peak would exceed 1. So the same product is spelt in several ways.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skipway.benchmark.timing import finish

Run = Callable[[], object]
Product = Callable[[int, torch.dtype, torch.device], Run]

SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
REPEATS = 5
LONGEST = 1.0  # seconds that one product may take; larger ones are left out
HOPELESS = 0.7  # a product this far behind the best at one size is not tried at the next


class Peak:
    """The best of all products measured so far, in GFLOP/s (int8: thousand millions of operations), None if none ran.

    Measure before and after what is compared with it: clock speeds drift. The first time all products are tried, then
    the best alone. Threads are torch's.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.precision, self.device = precision, device
        self.best: float | None = None
        self._winner: tuple[Product, int] | None = None

    def measure(self) -> None:
        """Measure, and keep the best."""
        with torch.inference_mode():
            if self._winner is not None:
                self._try(*self._winner)
                return
            products = list(_products(self.precision, self.device))
            for size in SIZES[self.device.type]:
                rates = {product: self._try(product, size) for product in products}
                products = [one for one, rate in rates.items() if rate > HOPELESS * (self.best or 0)]
                # Eight times the work at the next size.
                products = [one for one in products if 16 * size**3 / (rates[one] * 1e9) < LONGEST]

    def _try(self, product: Product, size: int) -> float:
        """GFLOP/s of a product, 0 where this build of torch or this device lacks it."""
        try:
            run = product(size, DTYPES[self.precision], self.device)
            seconds = min(self._seconds(run) for _ in range(1 + REPEATS))
        except (RuntimeError, AttributeError, TypeError, MemoryError):
            return 0.0
        rate = 2 * size**3 / seconds / 1e9
        if self.best is None or rate > self.best:
            self.best, self._winner = rate, (product, size)
        return rate

    def _seconds(self, run: Run) -> float:
        if self.device.type == "cuda":
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begun.record()
            run()
            ended.record()
            finish(self.device)
            return begun.elapsed_time(ended) / 1000
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def _products(precision: str, device: torch.device) -> Iterator[Product]:
    if precision == "int8":
        yield int_mm
        return
    yield mm
    yield convolution  # on CUDA this one may use TF32, as the networks' convolutions do
    if device.type == "cpu":
        yield onednn_linear
        if precision == "fp32" and _numpy_threads() == torch.get_num_threads():
            yield numpy_matmul


def mm(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """`torch.mm` of two squares."""
    a, b = _square(size, dtype, device), _square(size, dtype, device)
    return lambda: torch.mm(a, b)


def convolution(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """The same product as a 1x1 convolution: 16 pictures of `size` channels, `size` pixels in all."""
    side = _square(size, dtype, device)  # rows are pixels
    # 16 pictures, since torch leaves a single one to MKL.
    x = side.view(16, size // 128, 8, size).permute(0, 3, 1, 2)
    weight = _square(size, dtype, device).view(size, size, 1, 1).contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, weight)


def onednn_linear(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """The same product as a linear layer of oneDNN, its weight in oneDNN's own layout."""
    ops: Any = torch.ops.mkldnn
    x, weight = _square(size, dtype, device), ops._reorder_linear_weight(_square(size, dtype, device))
    return lambda: ops._linear_pointwise(x, weight, None, "none", [], "")


def numpy_matmul(size: int, dtype: torch.dtype, device: torch.device) -> Run:  # noqa: ARG001 (fp32 on the CPU alone)
    """The same product by the BLAS that NumPy came with."""
    a, b = (_square(size, torch.float32, torch.device("cpu")).numpy() for _ in range(2))
    return lambda: np.matmul(a, b)


def int_mm(size: int, dtype: torch.dtype, device: torch.device) -> Run:
    """The product of int8 squares, summed in int32."""
    a, b = (torch.randint(-127, 128, (size, size), dtype=dtype, device=device) for _ in range(2))
    return lambda: torch._int_mm(a, b)


def _square(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.rand(size, size, device=device).to(dtype)


def _numpy_threads() -> int:
    """Threads of NumPy's BLAS: it reads the environment, and neither torch's setting nor a cgroup's quota."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
